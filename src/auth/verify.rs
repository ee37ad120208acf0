//! The one way in: from a request's head to a [`Verified`], or an S3 error.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use http::Method;
use http::request::Parts;
use subtle::ConstantTimeEq;

use crate::body::chunk_signature::ChunkSigner;
use crate::s3::{Code, Error, Query, Result};
use crate::secret::Secret;

use super::address;
use super::claim::{Claim, Form};
use super::config::Mode;
use super::headers;
use super::identity::{Identities, Identity, Who};
use super::payload::{Payload, Proof};
use super::request::Request;
use super::scope::{Credential, Scope};
use super::signature;
use super::timestamp::Timestamp;
use super::verified::{Verified, VerifiedParts};

/// How far a client's clock may be off.
const SKEW: Duration = Duration::from_secs(15 * 60);

/// Knows who may ask, and verifies that they do.
#[derive(Debug)]
pub struct Authenticator {
    mode: Mode,
    region: Option<String>,
    domains: Vec<String>,
    identities: Identities,
    old_forms: bool,
}

impl Authenticator {
    pub(super) fn new(
        mode: Mode,
        region: Option<String>,
        domains: Vec<String>,
        identities: Identities,
    ) -> Self {
        Self { mode, region, domains, identities, old_forms: false }
    }

    /// Whether forms may be signed with Signature Version 2.
    pub(super) fn with_old_forms(self, old_forms: bool) -> Self {
        Self { old_forms, ..self }
    }

    /// The same.
    pub(super) fn takes_old_forms(&self) -> bool {
        self.old_forms
    }

    /// An identity by its access key, and a secret to compute with in any case.
    pub(super) fn find(&self, access_key: &str) -> (Option<&Arc<Identity>>, &Secret) {
        self.identities.find(access_key)
    }

    /// Every configured client.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.identities.iter()
    }

    /// How requests are judged.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Verifies a request. The only way to a [`Verified`].
    pub fn verify(&self, parts: Parts, now: SystemTime) -> Result<Verified> {
        let authority = address::authority(&parts)?;
        let path = address::path(&parts)?;
        let (bucket, key) = address::locate(&path, &authority, &self.domains)?;
        let mut query = Query::parse(parts.uri.query().unwrap_or(""))?;

        let request = Request {
            method: &parts.method,
            path: &path,
            query: &query,
            authority: &authority,
            headers: &parts.headers,
        };
        let Judged { who, proof, unsigned } = self.judge(&request, now)?;

        let mut headers = parts.headers;
        headers::hoist(&mut query, &mut headers)?;
        headers::hide_keys(&mut headers);
        headers::refuse_reserved(&headers)?;
        let payload = Payload::parse(&parts.method, &query, &headers, proof)?;
        headers::strip(&mut headers);
        unsigned.iter().for_each(|name| drop(headers.remove(name)));

        let method = parts.method;
        Ok(Verified::new(VerifiedParts { who, method, bucket, key, query, headers, payload }))
    }

    fn judge(&self, request: &Request<'_>, now: SystemTime) -> Result<Judged> {
        if self.mode == Mode::Trusted {
            return Ok(Judged { who: Who::Trusted, proof: Proof::Trusted, unsigned: Vec::new() });
        }
        // A preflight is never signed: what its address may carry is the signature of the request to come.
        let claim = if request.method == Method::OPTIONS { None } else { Claim::of(request)? };
        let Some(claim) = claim else {
            return Ok(Judged { who: Who::Anonymous, proof: Proof::Anonymous, unsigned: Vec::new() });
        };
        self.check_scope(&claim.credential, &claim.time, |what| claim.form.malformed(what))?;
        check_time(&claim, now)?;
        let unsigned = check_coverage(&claim, request)?;
        let string_to_sign =
            signature::string_to_sign(&claim, &signature::canonical_request(request, &claim)?);
        let (identity, key) = self.check_signature(&claim.credential, &string_to_sign, &claim.signature)?;
        check_token(claim.token.as_deref(), identity)?;

        let proof = match claim.form {
            Form::Query(_) => Proof::Query,
            Form::Header => {
                let scope = claim.credential.scope.to_string();
                let seed = hex::encode(claim.signature);
                Proof::Header(ChunkSigner::new(key, claim.time.as_str(), &scope, seed))
            }
        };
        Ok(Judged { who: Who::Identity(Arc::clone(identity)), proof, unsigned })
    }

    /// Checks day and region of a credential.
    pub(super) fn check_scope(
        &self,
        credential: &Credential,
        time: &Timestamp,
        malformed: impl Fn(String) -> Error,
    ) -> Result<()> {
        let Scope { day, region } = &credential.scope;
        if day != time.day() {
            return Err(malformed(format!(
                "Invalid credential date \"{day}\". This date is not the same as X-Amz-Date: \"{}\".",
                time.day(),
            )));
        }
        match &self.region {
            Some(expected) if expected != region => {
                let error = malformed(format!("the region '{region}' is wrong; expecting '{expected}'"));
                Err(error.detail("Region", expected))
            }
            _ => Ok(()),
        }
    }

    /// Compares the signature of a text. It is computed for an unknown access key too, so that both take as long.
    pub(super) fn check_signature(
        &self,
        credential: &Credential,
        string_to_sign: &str,
        given: &[u8; 32],
    ) -> Result<(&Arc<Identity>, hmac::Key)> {
        let (identity, secret) = self.identities.find(&credential.access_key);
        let key = signature::signing_key(secret, &credential.scope);
        let expected = hmac::sign(&key, string_to_sign.as_bytes());
        let fits: bool = expected.as_ref().ct_eq(given).into();
        let identity = identity.ok_or_else(unknown_key)?;
        if fits { Ok((identity, key)) } else { Err(signature::mismatch()) }
    }
}

/// The error for an access key of nobody.
pub(super) fn unknown_key() -> Error {
    Error::new(
        Code::InvalidAccessKeyId,
        "The AWS Access Key Id you provided does not exist in our records. Check the client's access key.",
    )
}

/// What the judgement leaves for the rest of the request.
struct Judged {
    who: Who,
    proof: Proof,
    /// Headers that are not covered by the signature, and so not to be passed on.
    unsigned: Vec<String>,
}

fn check_time(claim: &Claim, now: SystemTime) -> Result<()> {
    let server_time = || Timestamp::new(now).as_str().to_owned();
    match claim.form {
        Form::Header if claim.time.distance(now) > SKEW => Err(Error::new(
            Code::RequestTimeTooSkewed,
            "The difference between the request time and the current time is too large. Set the client's clock.",
        )
        .detail("RequestTime", claim.time.as_str())
        .detail("ServerTime", server_time())
        .detail("MaxAllowedSkewMilliseconds", SKEW.as_millis().to_string())),
        Form::Query(_) if claim.time.time() > now + SKEW => {
            Err(Error::new(Code::AccessDenied, "Request is not valid yet").detail("ServerTime", server_time()))
        }
        Form::Query(expires) if claim.time.time() + expires < now => {
            Err(Error::new(Code::AccessDenied, "Request has expired")
                .detail("X-Amz-Expires", expires.as_secs().to_string())
                .detail("Expires", Timestamp::new(claim.time.time() + expires).as_str())
                .detail("ServerTime", server_time()))
        }
        Form::Header | Form::Query(_) => Ok(()),
    }
}

/// The host and every `x-amz-*` header must be signed: what is not signed is not believed, let alone signed again on the
/// way to the store. Gives the headers that are excused, because they say nothing that is passed on.
fn check_coverage(claim: &Claim, request: &Request<'_>) -> Result<Vec<String>> {
    let excused: &[&str] = match claim.form {
        // Its value is the last line of what is signed.
        Form::Header => &["x-amz-content-sha256"],
        // Of the framing of a body that a presigned URL does not cover.
        Form::Query(_) => &[
            "x-amz-content-sha256",
            "x-amz-decoded-content-length",
            "x-amz-trailer",
            "x-amz-sdk-checksum-algorithm",
        ],
    };
    let signed: Vec<&str> = claim.signed().collect();
    let present = request.headers.keys().map(|name| name.as_str());
    let unsigned = present.filter(|name| name.starts_with("x-amz-") && !signed.contains(name));
    let (unsigned, refused): (Vec<_>, Vec<_>) = unsigned.partition(|name| excused.contains(name));
    let host = (!signed.contains(&"host")).then_some("host");
    let refused: Vec<&str> = host.into_iter().chain(refused).collect();
    if !refused.is_empty() {
        return Err(Error::new(
            Code::AccessDenied,
            "There were headers present in the request which were not signed. Sign them or leave them out.",
        )
        .detail("HeadersNotSigned", refused.join(", ")));
    }
    Ok(unsigned.into_iter().map(str::to_owned).collect())
}

/// The session token is the identity's own, or neither has one.
pub(super) fn check_token(given: Option<&str>, identity: &Identity) -> Result<()> {
    let fits = match (&identity.token, given) {
        (Some(token), Some(given)) => token.matches(given),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    if fits {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidToken,
        "The provided token is malformed or otherwise invalid. Check the client's session token.",
    ))
}
