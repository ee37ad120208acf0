//! s3s-fs 0.14 with its mistakes taken back, operation by operation.
//!
//! - The name of a directory, which is no key, is an error; so is a suffix range longer than the object.
//! - A read is done whatever its conditions say.
//! - DeleteBucket deletes what is in the bucket.
//! - Listings and multipart uploads: see `listings` and `uploads`.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use serde::Deserialize;

/// The answer of an operation, in its own time.
type Answer<'a, T> = Pin<Box<dyn Future<Output = S3Result<S3Response<T>>> + Send + 'a>>;

/// Objects as files below a directory, one for each bucket.
pub(super) struct Store {
    pub(super) files: FileSystem,
    pub(super) root: PathBuf,
}

impl Store {
    pub(super) fn new(root: &Path) -> anyhow::Result<Self> {
        let files = FileSystem::new(root).map_err(|why| anyhow::anyhow!("{}: {why:?}", root.display()))?;
        Ok(Self { files, root: root.to_owned() })
    }

    async fn get_object(
        &self,
        mut request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = &request.input;
        let conditions = Conditions {
            same: input.if_match.as_ref(),
            other: input.if_none_match.as_ref(),
            unmodified: input.if_unmodified_since.as_ref(),
            modified: input.if_modified_since.as_ref(),
        };
        let file = self.object(&input.bucket, &input.key)?;
        self.check(&input.bucket, &input.key, &file, conditions)?;
        // A suffix longer than the object is the whole object. Source: RFC 9110, section 14.1.2.
        if let Some(Range::Suffix { length }) = request.input.range
            && fs::metadata(file).is_ok_and(|file| file.len() < length)
        {
            request.input.range = Some(Range::Int { first: 0, last: None });
        }
        self.files.get_object(request).await
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = &request.input;
        let conditions = Conditions {
            same: input.if_match.as_ref(),
            other: input.if_none_match.as_ref(),
            unmodified: input.if_unmodified_since.as_ref(),
            modified: input.if_modified_since.as_ref(),
        };
        let file = self.object(&input.bucket, &input.key)?;
        self.check(&input.bucket, &input.key, &file, conditions)?;
        self.files.head_object(request).await
    }

    /// Fails with PreconditionFailed or NotModified for an object that is there.
    ///
    /// Source: Amazon S3 API Reference, GetObject, "Conditional reads": an ETag outranks a time.
    fn check(&self, bucket: &str, key: &str, file: &Path, conditions: Conditions<'_>) -> S3Result<()> {
        let Some(etag) = self.etag(bucket, key) else { return Ok(()) };
        let written = fs::metadata(file).and_then(|file| file.modified()).unwrap_or(UNIX_EPOCH);
        // As the client was told: in whole seconds.
        let written = written.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let written = Timestamp::from(UNIX_EPOCH + Duration::from_secs(written));
        let is = |condition: &ETagCondition| condition.as_etag().is_none_or(|named| *named == etag);
        let Conditions { same, other, unmodified, modified } = conditions;
        if !same.map_or(unmodified.is_none_or(|time| written <= *time), is) {
            return Err(s3_error!(PreconditionFailed));
        }
        match other.map_or(modified.is_some_and(|time| written <= *time), is) {
            true => Err(s3_error!(NotModified)),
            false => Ok(()),
        }
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        if has_files(&self.root.join(&request.input.bucket)) {
            return Err(s3_error!(BucketNotEmpty));
        }
        self.files.delete_bucket(request).await
    }

    /// The file of an object.
    fn object(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        let file = self.root.join(bucket).join(key.trim_start_matches('/'));
        match !key.ends_with('/') && file.is_dir() {
            true => Err(s3_error!(NoSuchKey)),
            false => Ok(file),
        }
    }

    /// The ETag that s3s-fs keeps beside an object.
    pub(super) fn etag(&self, bucket: &str, key: &str) -> Option<ETag> {
        let name = format!(".bucket-{}.object-{}.internal.json", encoded(bucket), encoded(key));
        let known: Known = serde_json::from_slice(&fs::read(self.root.join(name)).ok()?).ok()?;
        Some(ETag::Strong(known.e_tag))
    }
}

/// What a read is conditional on.
struct Conditions<'a> {
    same: Option<&'a ETagCondition>,
    other: Option<&'a ETagCondition>,
    unmodified: Option<&'a Timestamp>,
    modified: Option<&'a Timestamp>,
}

/// What s3s-fs knows of an object.
#[derive(Deserialize)]
struct Known {
    e_tag: String,
}

/// How s3s-fs writes a bucket or a key in the name of a file.
pub(super) fn encoded(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

fn has_files(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => has_files(&entry.path()),
        _ => true,
    })
}

/// The signatures that `async_trait` makes of the trait's `async fn`s: some as s3s-fs has them, some of our own.
macro_rules! operations {
    (
        of s3s_fs { $( $theirs:ident($their_input:ident) -> $their_output:ident; )* }
        of ours { $( $ours:ident($our_input:ident) -> $our_output:ident; )* }
    ) => {
        impl S3 for Store {
            $( fn $theirs<'a, 'async_trait>(&'a self, request: S3Request<$their_input>) -> Answer<'async_trait, $their_output>
            where
                'a: 'async_trait,
                Self: 'async_trait,
            {
                self.files.$theirs(request)
            } )*

            $( fn $ours<'a, 'async_trait>(&'a self, request: S3Request<$our_input>) -> Answer<'async_trait, $our_output>
            where
                'a: 'async_trait,
                Self: 'async_trait,
            {
                // The inherent method, which comes before the trait's.
                Box::pin(Store::$ours(self, request))
            } )*
        }
    };
}

operations! {
    of s3s_fs {
        create_bucket(CreateBucketInput) -> CreateBucketOutput;
        get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput;
        head_bucket(HeadBucketInput) -> HeadBucketOutput;
        list_buckets(ListBucketsInput) -> ListBucketsOutput;
        put_object(PutObjectInput) -> PutObjectOutput;
        copy_object(CopyObjectInput) -> CopyObjectOutput;
        delete_object(DeleteObjectInput) -> DeleteObjectOutput;
        delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    }
    of ours {
        delete_bucket(DeleteBucketInput) -> DeleteBucketOutput;
        get_object(GetObjectInput) -> GetObjectOutput;
        head_object(HeadObjectInput) -> HeadObjectOutput;
        list_objects(ListObjectsInput) -> ListObjectsOutput;
        list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
        create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
        upload_part(UploadPartInput) -> UploadPartOutput;
        list_parts(ListPartsInput) -> ListPartsOutput;
        list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput;
        complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
        abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
    }
}
