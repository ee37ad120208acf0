//! Does what was asked for: one file per family of operations.

mod attributes;
mod bucket;
mod composite;
mod copy;
mod delete;
mod detached;
mod encryption;
mod error;
pub mod estate;
mod forward;
mod get;
mod head;
mod list;
mod multipart;
mod open;
mod own;
mod post;
mod put;
mod sealing;
mod target;
mod wish;

use std::sync::Arc;
use std::time::Duration;

use http::Response;

use crate::backend::Backend;
use crate::body::ByteBody;
use crate::kms::keys::Keys;
use crate::metrics::Metrics;
use crate::operation::{Call, Operation};
use crate::policy::{Permit, Read};
use crate::s3::{Code, Result};

/// An answer to the client.
pub type Answer = Response<ByteBody>;

/// The rooms that handlers work in.
pub struct Rooms {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The store.
    pub backend: Backend,
    /// The keys, through their cache.
    pub keys: Keys,
    /// Sizes of listed objects that had to be looked at.
    pub sizes: list::Sizes,
    /// Manifests of composite objects.
    pub manifests: Manifests,
    /// Multipart uploads under way.
    pub uploads: Uploads,
    /// Buckets' default encryption.
    pub defaults: KnownDefaults,
    /// How many forms may hold a part in memory at once.
    pub long_forms: LongForms,
    /// What goes on without its client.
    pub detached: Detached,
    /// How long a client may send nothing of a body.
    pub client_idle: Duration,
}

pub use composite::Manifests;
pub use detached::Detached;
pub use encryption::KnownDefaults;
pub use list::Sizes;
pub use multipart::{Collector, Kept, StateConfig, Upload, Uploads};
pub use open::{Given, opened};
pub use post::LongForms;

/// How often a read begins that meets two objects, because one takes the other's place in between: its client wants either,
/// whole. From a store alone it would get one.
const READS: usize = 4;

/// Runs a call that has leave.
pub async fn run(rooms: &Arc<Rooms>, call: Call, permit: Permit, body: ByteBody) -> Result<Answer> {
    // The future of a request is as long as its longest arm, and all of it is moved: so what is asked for seldom is boxed.
    match permit {
        Permit::Write(write) if call.operation() == Operation::PostObject => {
            Box::pin(post::post_object(rooms, call, post::Leave::Sealed(write), body)).await
        }
        Permit::Forward(leave) if call.operation() == Operation::PostObject => {
            Box::pin(post::post_object(rooms, call, post::Leave::Plain(leave), body)).await
        }
        Permit::Write(write) => put::put_object(rooms, call, write, body).await,
        Permit::Copy(copied) => match call.operation() {
            Operation::UploadPartCopy => Box::pin(multipart::upload_part_copy(rooms, call, copied)).await,
            _ => Box::pin(copy::copy_object(rooms, call, copied)).await,
        },
        Permit::Begin(write) => Box::pin(multipart::create(rooms, &call, write)).await,
        Permit::Upload => Box::pin(multipart::run(rooms, call, body)).await,
        Permit::Encryption(settable) => Box::pin(encryption::run(rooms, call, settable, body)).await,
        Permit::Read(read) => {
            let call = if read.expects_sealed() { call.without_encryption()? } else { call };
            let mut tries = 1;
            loop {
                match read_object(rooms, &call, read).await {
                    Err(error) if error.code() == Code::ObjectReplaced && tries < READS => tries += 1,
                    answer => return answer,
                }
            }
        }
        Permit::List(view) => Box::pin(list::list(rooms, &call, view)).await,
        Permit::Delete(view) => Box::pin(delete::delete_objects(rooms, call, view, body)).await,
        Permit::Forward(leave) if call.operation() == Operation::DeleteBucket => {
            Box::pin(bucket::delete_bucket(rooms, call, leave, body)).await
        }
        Permit::Forward(leave) => Box::pin(forward::forward(rooms, call, leave, body)).await,
    }
}

async fn read_object(rooms: &Rooms, call: &Call, read: Read) -> Result<Answer> {
    match call.operation() {
        Operation::HeadObject => head::head_object(rooms, call, read).await,
        Operation::GetObjectAttributes => {
            Box::pin(attributes::get_object_attributes(rooms, call, read)).await
        }
        _ => get::get_object(rooms, call, read).await,
    }
}
