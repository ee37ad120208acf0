//! Multipart uploads of the embedded store.
//!
//! s3s-fs 0.14 completes only uploads whose parts are numbered without gaps, and knows neither their ETags nor pages of
//! them, nor whose upload one is. So an upload's parts are completed under another id, numbered anew; what an upload is of
//! is kept in a file of its own, and a part's ETag is what tells its file from any other.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::store::{Store, encoded};

/// What an upload is of.
#[derive(Deserialize, Serialize)]
struct About {
    bucket: String,
    key: String,
}

/// An upload, by what its files' names begin with.
struct Upload<'a> {
    store: &'a Store,
    id: &'a str,
}

impl Upload<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.store.root.join(format!(".upload_id-{}.{name}", self.id))
    }

    /// The file of a part, as s3s-fs names it.
    fn part(&self, number: i32) -> PathBuf {
        self.file(&format!("part-{number}"))
    }

    /// Where s3s-fs keeps the metadata until the upload is complete.
    fn metadata(&self, bucket: &str, key: &str) -> PathBuf {
        let (bucket, key) = (encoded(bucket), encoded(key));
        self.store.root.join(format!(".bucket-{bucket}.object-{key}.upload-{}.metadata.json", self.id))
    }

    /// Fails with NoSuchUpload for one that is not there, or is of another key.
    fn check(&self, bucket: &str, key: &str) -> S3Result<()> {
        let plain = self.id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let about = fs::read(self.file("about")).ok().filter(|_| plain);
        let about = about.and_then(|text| serde_json::from_slice::<About>(&text).ok());
        match about.is_some_and(|about| about.bucket == bucket && about.key == key) {
            true => Ok(()),
            false => Err(s3_error!(NoSuchUpload)),
        }
    }

    /// Its parts, by number.
    fn parts(&self) -> io::Result<Vec<Part>> {
        let prefix = format!(".upload_id-{}.part-", self.id);
        let mut parts = Vec::new();
        for entry in fs::read_dir(&self.store.root)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.parse().ok());
            let Some(number) = number else { continue };
            let file = entry.metadata()?;
            parts.push(Part {
                part_number: Some(number),
                e_tag: Some(etag(&file)),
                size: i64::try_from(file.len()).ok(),
                last_modified: file.modified().ok().map(Timestamp::from),
                ..Default::default()
            });
        }
        parts.sort_by_key(|part| part.part_number);
        Ok(parts)
    }

    /// Removes all files of it.
    fn remove(&self, bucket: &str, key: &str) -> io::Result<()> {
        let prefix = format!(".upload_id-{}.", self.id);
        for entry in fs::read_dir(&self.store.root)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                fs::remove_file(entry.path())?;
            }
        }
        for file in [self.metadata(bucket, key), self.store.root.join(format!(".upload-{}.json", self.id))] {
            fs::remove_file(file).or_else(|why| match why.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(why),
            })?;
        }
        Ok(())
    }
}

/// A part is a new file each time it is sent.
fn etag(file: &Metadata) -> ETag {
    let written = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let written = written.unwrap_or_default().as_nanos() as u64;
    ETag::Strong(format!("{written:016x}{:016x}", file.ino().rotate_left(32) ^ file.len()))
}

fn internal(why: io::Error) -> s3s::S3Error {
    s3_error!(why, InternalError)
}

impl Store {
    fn upload<'a>(&'a self, id: &'a str) -> Upload<'a> {
        Upload { store: self, id }
    }

    pub(super) async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let about = About { bucket: request.input.bucket.clone(), key: request.input.key.clone() };
        if !self.root.join(&about.bucket).is_dir() {
            return Err(s3_error!(NoSuchBucket));
        }
        let response = self.files.create_multipart_upload(request).await?;
        let id = response.output.upload_id.as_deref().unwrap_or_default();
        let text = serde_json::to_vec(&about).expect("texts are JSON");
        fs::write(self.upload(id).file("about"), text).map_err(internal)?;
        Ok(response)
    }

    pub(super) async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let UploadPartInput { bucket, key, upload_id, part_number, .. } = &request.input;
        let (id, number) = (upload_id.clone(), *part_number);
        self.upload(&id).check(bucket, key)?;
        let mut response = self.files.upload_part(request).await?;
        let file = fs::metadata(self.upload(&id).part(number)).map_err(internal)?;
        response.output.e_tag = Some(etag(&file));
        Ok(response)
    }

    pub(super) async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let ListPartsInput { bucket, key, upload_id, part_number_marker, max_parts, .. } = request.input;
        let upload = self.upload(&upload_id);
        upload.check(&bucket, &key)?;
        let mut parts = upload.parts().map_err(internal)?;
        parts.retain(|part| part.part_number > part_number_marker);
        let most = max_parts.unwrap_or(1000).clamp(0, 1000);
        let truncated = parts.len() > most as usize;
        parts.truncate(most as usize);
        Ok(S3Response::new(ListPartsOutput {
            part_number_marker: Some(part_number_marker.unwrap_or(0)),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            max_parts: Some(most),
            is_truncated: Some(truncated),
            parts: Some(parts),
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(upload_id),
            ..Default::default()
        }))
    }

    pub(super) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        if !self.root.join(&input.bucket).is_dir() {
            return Err(s3_error!(NoSuchBucket));
        }
        let prefix = input.prefix.clone().unwrap_or_default();
        let delimiter = input.delimiter.clone().filter(|delimiter| !delimiter.is_empty());
        let marker = input.key_marker.clone().unwrap_or_default();
        let after = (marker.as_str(), input.upload_id_marker.as_deref().unwrap_or("\u{10ffff}"));
        let (mut uploads, mut prefixes) = (Vec::new(), BTreeSet::new());
        for upload in self.uploads(&input.bucket).map_err(internal)? {
            let (key, id) = (upload.key.as_deref().unwrap_or_default(), upload.upload_id.as_deref());
            let Some(rest) = key.strip_prefix(&prefix).filter(|_| (key, id.unwrap_or_default()) > after)
            else {
                continue;
            };
            let end = delimiter.as_ref().and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len()));
            match end.map(|end| &key[..prefix.len() + end]) {
                Some(common) if !marker.starts_with(common) => drop(prefixes.insert(common.to_owned())),
                Some(_) => {}
                None => uploads.push(upload),
            }
        }
        uploads.sort_by(|one, other| (&one.key, &one.upload_id).cmp(&(&other.key, &other.upload_id)));
        let most = input.max_uploads.unwrap_or(1000).clamp(0, 1000);
        let truncated = uploads.len() > most as usize;
        uploads.truncate(most as usize);
        let last = uploads.last().filter(|_| truncated);
        Ok(S3Response::new(ListMultipartUploadsOutput {
            next_key_marker: last.and_then(|upload| upload.key.clone()),
            next_upload_id_marker: last.and_then(|upload| upload.upload_id.clone()),
            is_truncated: Some(truncated),
            max_uploads: Some(most),
            uploads: Some(uploads),
            common_prefixes: Some(
                prefixes.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect(),
            ),
            bucket: Some(input.bucket),
            delimiter: input.delimiter,
            prefix: input.prefix,
            key_marker: input.key_marker,
            upload_id_marker: input.upload_id_marker,
            ..Default::default()
        }))
    }

    /// The uploads to a bucket.
    fn uploads(&self, bucket: &str) -> io::Result<Vec<MultipartUpload>> {
        let mut uploads = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix(".upload_id-")?.strip_suffix(".about"));
            let Some(id) = id else { continue };
            let Ok(about) = serde_json::from_slice::<About>(&fs::read(entry.path())?) else { continue };
            if about.bucket == bucket {
                uploads.push(MultipartUpload {
                    key: Some(about.key),
                    upload_id: Some(id.to_owned()),
                    initiated: entry.metadata()?.modified().ok().map(Timestamp::from),
                    ..Default::default()
                });
            }
        }
        Ok(uploads)
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        mut request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let CompleteMultipartUploadInput { bucket, key, upload_id, .. } = &request.input;
        let (bucket, key, id) = (bucket.clone(), key.clone(), upload_id.clone());
        let upload = self.upload(&id);
        upload.check(&bucket, &key)?;
        let wanted = request.input.multipart_upload.take().and_then(|list| list.parts).unwrap_or_default();
        if !wanted.is_sorted_by(|one, other| one.part_number < other.part_number) {
            return Err(s3_error!(InvalidPartOrder));
        }
        // Under another id, so that an upload which can't be completed stays as it is.
        let create = CreateMultipartUploadInput::builder().bucket(bucket.clone()).key(key.clone()).build();
        let create = create.map_err(|why| s3_error!(why, InternalError))?;
        let create = clone_head(&request).map_input(|()| create);
        let fresh = self.files.create_multipart_upload(create).await?.output.upload_id.unwrap_or_default();
        let anew = self.upload(&fresh);
        let result = async {
            fs::copy(upload.metadata(&bucket, &key), anew.metadata(&bucket, &key)).map_err(internal)?;
            let mut parts = Vec::new();
            for (number, part) in (1..).zip(wanted) {
                let file = upload.part(part.part_number.unwrap_or_default());
                let same = fs::metadata(&file).is_ok_and(|file| part.e_tag == Some(etag(&file)));
                if !same {
                    return Err(s3_error!(InvalidPart));
                }
                fs::hard_link(file, anew.part(number)).map_err(internal)?;
                parts.push(CompletedPart { part_number: Some(number), ..part });
            }
            request.input.upload_id = fresh.clone();
            request.input.multipart_upload = Some(CompletedMultipartUpload { parts: Some(parts) });
            self.files.complete_multipart_upload(request).await
        }
        .await;
        anew.remove(&bucket, &key).map_err(internal)?;
        if result.is_ok() {
            upload.remove(&bucket, &key).map_err(internal)?;
        }
        result
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = &request.input;
        let upload = self.upload(upload_id);
        upload.check(bucket, key)?;
        upload.remove(bucket, key).map_err(internal)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

/// A request like this one, without its input.
fn clone_head<T>(request: &S3Request<T>) -> S3Request<()> {
    S3Request {
        input: (),
        method: request.method.clone(),
        uri: request.uri.clone(),
        headers: request.headers.clone(),
        extensions: Default::default(),
        credentials: request.credentials.clone(),
        region: request.region.clone(),
        service: request.service.clone(),
        trailing_headers: None,
    }
}
