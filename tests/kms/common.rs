//! What the tests of every vendor use.
#![allow(dead_code)]

/// What is had, or the end of the test, which says what was not.
macro_rules! or_skip {
    ($had:expr) => {
        match $had {
            Ok(had) => had,
            Err(why) => return $crate::servers::skip(&why),
        }
    };
}

use s3veil::kms::{Config, Context, EkName, Kms};
use s3veil::s3::Bucket;

/// The KMS of one `[kms.NAME]` section: `settings` is what stands below its head.
pub fn build(settings: &str) -> Result<Box<dyn Kms>, String> {
    let config: Config = toml::from_str(&format!("[test]\n{settings}")).map_err(|why| why.to_string())?;
    Ok(config.build()?.remove("test").expect("the section is there"))
}

pub fn ek(name: &str) -> EkName {
    EkName::parse(name).unwrap()
}

pub fn context(bucket: &str) -> Context {
    Context::of_bucket(&Bucket::parse(bucket).unwrap())
}
