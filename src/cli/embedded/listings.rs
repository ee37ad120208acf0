//! Listings of the embedded store.
//!
//! s3s-fs 0.14 says that keys are URL-encoded and writes them as they are, so that a client decodes a `+` or `%41` of the
//! key itself; it finds an empty delimiter before every character, and gives no ETags.

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::store::Store;
use crate::s3::query::encode_path;

impl Store {
    pub(super) async fn list_objects(
        &self,
        mut request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        request.input.delimiter.take_if(|delimiter| delimiter.is_empty());
        let mut response = self.files.list_objects(request).await?;
        let out = &mut response.output;
        self.add_etags(out.name.as_deref(), &mut out.contents);
        if out.encoding_type.is_some() {
            encode(&mut out.contents, &mut out.common_prefixes);
            [&mut out.prefix, &mut out.delimiter, &mut out.next_marker].into_iter().for_each(encode_text);
        }
        Ok(response)
    }

    pub(super) async fn list_objects_v2(
        &self,
        mut request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        request.input.delimiter.take_if(|delimiter| delimiter.is_empty());
        let mut response = self.files.list_objects_v2(request).await?;
        let out = &mut response.output;
        self.add_etags(out.name.as_deref(), &mut out.contents);
        if out.encoding_type.is_some() {
            encode(&mut out.contents, &mut out.common_prefixes);
            [&mut out.prefix, &mut out.delimiter, &mut out.start_after].into_iter().for_each(encode_text);
        }
        Ok(response)
    }

    fn add_etags(&self, bucket: Option<&str>, objects: &mut Option<Vec<Object>>) {
        for object in objects.iter_mut().flatten() {
            object.e_tag = self.etag(bucket.unwrap_or_default(), object.key.as_deref().unwrap_or_default());
        }
    }
}

fn encode(objects: &mut Option<Vec<Object>>, prefixes: &mut Option<Vec<CommonPrefix>>) {
    objects.iter_mut().flatten().for_each(|object| encode_text(&mut object.key));
    prefixes.iter_mut().flatten().for_each(|common| encode_text(&mut common.prefix));
}

fn encode_text(text: &mut Option<String>) {
    if let Some(text) = text {
        *text = encode_path(text).to_string();
    }
}
