//! The judge: whether a call is allowed, and with which key. Only this room makes permits.

mod anonymous;
mod bucket;
mod choice;
mod table;
mod view;

pub use anonymous::Anonymous;
pub use bucket::{BucketDefault, Defaults, Settable};
pub use choice::Write;
pub use table::{EkRef, Mode, Plaintext, RuleConfig, Table};
pub use view::RuleView;

use choice::Choice;
use table::{Effect, Seal};

use crate::auth::Who;
use crate::operation::{Call, Operation};
use crate::s3::copy::Source;
use crate::s3::{Bucket, Code, Error, Key, Result};

/// What a call may do. Its kinds carry what the handler needs, and can be had from `decide` alone.
#[derive(Debug)]
pub enum Permit {
    /// Write an object, sealed with this key.
    Write(Write),
    /// Begin a multipart upload, sealed with this key.
    Begin(Write),
    /// Go on with a multipart upload, whose key is its own.
    Upload,
    /// Copy an object, or a part of one.
    Copy(Copied),
    /// Read an object, opened if it is sealed.
    Read(Read),
    /// List a bucket, sizes and hidden keys seen to.
    List(View),
    /// Delete several objects, each of which is judged.
    Delete(View),
    /// Show or set the bucket's default encryption.
    Encryption(Settable),
    /// Pass the call on as it came.
    Forward(Forward),
}

/// Leave to read one object and to write another.
#[derive(Debug)]
pub struct Copied {
    source: Source,
    read: Read,
    target: Target,
}

/// How a copy is written.
#[derive(Debug)]
pub enum Target {
    /// Sealed with this key.
    Sealed(Write),
    /// A part of an upload that is sealed with a key of its own.
    Part,
    /// As it is.
    Plain(Forward),
}

impl Permit {
    /// The EK that seals, if the call writes under one.
    pub fn ek(&self) -> Option<&EkRef> {
        let write = match self {
            Self::Write(write) | Self::Begin(write) => write,
            Self::Copy(Copied { target: Target::Sealed(write), .. }) => write,
            _ => return None,
        };
        write.customer().is_none().then(|| write.ek())
    }
}

impl Copied {
    /// What is read.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Leave to read it.
    pub fn read(&self) -> Read {
        self.read
    }

    /// How the copy is written.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// Leave to read an object.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    sealed: bool,
    plaintext: Plaintext,
    forward: Forward,
}

impl Read {
    /// Whether the object is likely sealed: what a range is guessed for.
    pub fn expects_sealed(self) -> bool {
        self.sealed
    }

    /// Leave to serve the object though it has no envelope; AccessDenied where the rule forbids that.
    pub fn plain(self) -> Result<Forward> {
        match self.plaintext {
            Plaintext::Read => Ok(self.forward),
            Plaintext::Deny => Err(Error::new(
                Code::AccessDenied,
                "The object is not sealed, and the policy serves sealed objects only. It was written past s3veil or \
                 its metadata was lost. To serve such objects, set plaintext = \"read\" for this bucket.",
            )),
        }
    }
}

/// Leave to pass on bytes as they are.
#[derive(Clone, Copy, Debug)]
pub struct Forward(());

/// Leave to see a bucket's keys, with the rules for each.
#[derive(Clone, Debug)]
pub struct View {
    table: std::sync::Arc<Table>,
    bucket: Bucket,
    forward: Forward,
}

/// How the size of a listed object is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Sealed for sure: by arithmetic.
    Sealed,
    /// Sealed or plain: by a look.
    Mixed,
    /// As the store says.
    Plain,
    /// Not shown.
    Hidden,
}

impl View {
    /// How an object of the listing is shown.
    pub fn object(&self, key: &str) -> Listed {
        match Key::parse(key) {
            Some(key) if key.is_reserved() => Listed::Hidden,
            Some(key) => match self.table.object(&self.bucket, &key) {
                Effect::Seal(seal) if seal.plaintext == Plaintext::Deny => Listed::Sealed,
                Effect::Seal(_) => Listed::Mixed,
                Effect::Passthrough => Listed::Plain,
                Effect::Deny => Listed::Hidden,
            },
            None => Listed::Plain,
        }
    }

    /// Leave to pass the listing on.
    pub fn forward(&self) -> Forward {
        self.forward
    }
}

/// The rules in force.
#[derive(Clone, Debug)]
pub struct Policy {
    table: std::sync::Arc<Table>,
}

impl Policy {
    /// A policy by its table.
    pub fn new(table: Table) -> Self {
        Self { table: std::sync::Arc::new(table) }
    }

    /// Every EK that a rule seals with.
    pub fn eks(&self) -> Vec<EkRef> {
        self.table.eks()
    }

    /// Judges a call. `defaults` is asked for the bucket's default encryption, where that has a say.
    ///
    /// Errors: AccessDenied (anonymous where no rule admits that, a key of s3veil's own, a rule that denies or does not let
    /// a client choose), NotImplemented for what s3veil can't do on sealed objects, in words; InvalidArgument for a method
    /// of encryption that is none.
    pub async fn decide(&self, call: &Call, defaults: &impl Defaults) -> Result<Permit> {
        if call.operation() == Operation::Preflight {
            return Ok(Permit::Forward(Forward(())));
        }
        if matches!(call.who(), Who::Anonymous) {
            self.admit_anonymous(call)?;
        }
        match (call.bucket(), call.key()) {
            (Some(bucket), Some(key)) => self.object(call, bucket, key, defaults).await,
            (Some(bucket), None) => self.bucket(call, bucket),
            (None, _) => Ok(Permit::Forward(Forward(()))),
        }
    }

    async fn object(
        &self,
        call: &Call,
        bucket: &Bucket,
        key: &Key,
        defaults: &impl Defaults,
    ) -> Result<Permit> {
        use Operation::*;
        if key.is_reserved() {
            return Err(reserved());
        }
        let effect = self.table.object(bucket, key);
        let forward = Forward(());
        match (call.operation(), effect) {
            (_, Effect::Deny) => Err(denied()),
            (PutObject | PostObject, Effect::Seal(seal)) => {
                Ok(Permit::Write(write(seal, call, bucket, defaults).await?))
            }
            (CreateMultipartUpload, Effect::Seal(seal)) => {
                Ok(Permit::Begin(write(seal, call, bucket, defaults).await?))
            }
            (UploadPart | CompleteMultipartUpload | AbortMultipartUpload | ListParts, Effect::Seal(_)) => {
                Ok(Permit::Upload)
            }
            (GetObject | HeadObject | GetObjectAttributes, effect) => Ok(Permit::Read(read(effect)?)),
            (CopyObject | UploadPartCopy, effect) => {
                let source = Source::of(call.headers())?;
                let read = self.source(&source)?;
                let target = match effect {
                    Effect::Seal(_) if call.operation() == UploadPartCopy => Target::Part,
                    Effect::Seal(seal) => Target::Sealed(write(seal, call, bucket, defaults).await?),
                    _ => Target::Plain(forward),
                };
                Ok(Permit::Copy(Copied { source, read, target }))
            }
            (DeleteObject | ObjectResource(_), _) => Ok(Permit::Forward(forward)),
            // The source of a rename is judged by nobody: how stores read its header is not written down.
            (CreateSession | RenameObject, _) => Err(unsupported(call.operation())),
            (_, Effect::Passthrough) => Ok(Permit::Forward(forward)),
            (operation, Effect::Seal(..)) => Err(unsupported(operation)),
        }
    }

    /// Leave to read what a copy reads.
    fn source(&self, source: &Source) -> Result<Read> {
        if source.key.is_reserved() {
            return Err(reserved());
        }
        read(self.table.object(&source.bucket, &source.key))
    }

    fn bucket(&self, call: &Call, bucket: &Bucket) -> Result<Permit> {
        use Operation::*;
        let operation = call.operation();
        let effects: Vec<&Effect> = self.table.bucket(bucket).collect();
        if effects.iter().all(|effect| **effect == Effect::Deny) {
            return Err(denied());
        }
        let view = || View { table: self.table.clone(), bucket: bucket.clone(), forward: Forward(()) };
        match operation {
            ListObjects | ListObjectsV2 | ListObjectVersions | ListMultipartUploads => {
                Ok(Permit::List(view()))
            }
            DeleteObjects => Ok(Permit::Delete(view())),
            PutBucketEncryption | GetBucketEncryption | DeleteBucketEncryption => {
                match (Settable::of(effects.into_iter()), call.who()) {
                    (None, _) => Ok(Permit::Forward(Forward(()))),
                    (Some(_), Who::Anonymous) => Err(anonymous::keyless()),
                    (Some(settable), Who::Identity(_) | Who::Trusted) => Ok(Permit::Encryption(settable)),
                }
            }
            CreateSession => Err(unsupported(operation)),
            // A form that has been read names its key. No other is ever passed on.
            PostObject => Err(unsupported(operation)),
            _ => Ok(Permit::Forward(Forward(()))),
        }
    }
}

/// Leave to write an object where a rule seals.
async fn write(seal: &Seal, call: &Call, bucket: &Bucket, defaults: &impl Defaults) -> Result<Write> {
    let choice = Choice::of(seal, call)?;
    let default = if choice.asks_default() { defaults.of(bucket).await? } else { None };
    choice.write(call, default.as_deref())
}

fn read(effect: &Effect) -> Result<Read> {
    let forward = Forward(());
    match effect {
        Effect::Seal(seal) => Ok(Read { sealed: true, plaintext: seal.plaintext, forward }),
        Effect::Passthrough => Ok(Read { sealed: false, plaintext: Plaintext::Read, forward }),
        Effect::Deny => Err(denied()),
    }
}

fn reserved() -> Error {
    Error::new(
        Code::AccessDenied,
        format!(
            "Keys that begin with '{}' are s3veil's own. Use another key.",
            crate::s3::address::RESERVED_PREFIX
        ),
    )
}

fn denied() -> Error {
    Error::new(
        Code::AccessDenied,
        "The policy of s3veil allows nothing here. Add a [[policy]] rule for this bucket and prefix.",
    )
}

fn unsupported(operation: Operation) -> Error {
    let name = operation.name();
    let message = match operation {
        Operation::SelectObjectContent => {
            "SelectObjectContent is not served on sealed objects: the store can't read them. Get the object, or a \
             range of it, and filter it in the client."
                .to_owned()
        }
        Operation::PostObject => "PostObject is not served without a key.".to_owned(),
        Operation::CreateSession => {
            "CreateSession is not served: its credentials would lead past s3veil. Sign each request.".to_owned()
        }
        Operation::RenameObject => {
            "RenameObject is not served: an object opens only where it was written. Get the object and put it."
                .to_owned()
        }
        _ => format!("{name} is not served where objects are sealed: it would not keep them sealed and readable."),
    };
    Error::new(Code::NotImplemented, message)
}
