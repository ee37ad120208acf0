//! Names of the headers that s3veil itself reads or writes.

use http::HeaderName;

/// The envelope of a sealed object, on the stored object only. Clients never see it and may not send it.
pub const ENVELOPE: HeaderName = HeaderName::from_static("x-amz-meta-s3veil");
