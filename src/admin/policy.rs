//! `/policy`: the rules in force, their EKs and whether each can be used now, the clients. Nothing secret.

use serde::Serialize;

use super::{Admin, ShownIdentity};
use crate::kms;
use crate::policy::{EkRef, RuleView};

/// What is in force.
#[derive(Serialize)]
pub(super) struct View<'a> {
    rules: Vec<RuleView<'a>>,
    eks: Vec<EkState>,
    identities: &'a [ShownIdentity],
}

#[derive(Serialize)]
struct EkState {
    #[serde(flatten)]
    ek: EkRef,
    state: State,
    why: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Disabled,
    Missing,
    Denied,
    Away,
    Broken,
}

impl Admin {
    /// Each EK seals and opens a probe.
    pub(super) async fn policy(&self) -> View<'_> {
        let probes = self.shown.policy.eks().into_iter().map(|ek| async move {
            let probed = self.rooms.keys.probe(&ek.kms, &ek.ek).await;
            let (state, why) = match probed {
                Ok(()) => (State::Ok, None),
                Err(why) => (state(&why), Some(why.to_string())),
            };
            EkState { ek, state, why }
        });
        View {
            rules: self.shown.policy.rules().collect(),
            eks: futures_util::future::join_all(probes).await,
            identities: &self.shown.identities,
        }
    }
}

fn state(why: &kms::Error) -> State {
    match why {
        kms::Error::NoSuchKey(_) | kms::Error::NoSuchKms(_) => State::Missing,
        kms::Error::Disabled(_) => State::Disabled,
        kms::Error::Denied(_) => State::Denied,
        kms::Error::Unavailable(_) => State::Away,
        kms::Error::Malformed(_) | kms::Error::Exists(_) | kms::Error::Unsupported { .. } => State::Broken,
    }
}
