//! Several ways to one KMS: the one that served last is asked next, and when it does not serve, the one after it.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;

use super::Error;

/// One address, or several ways to the same KMS, as typed.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "an address, or a list of addresses")]
pub enum Endpoints {
    /// `"https://..."`.
    One(String),
    /// `["https://...", ...]`: the next one is asked when one does not answer.
    Several(Vec<String>),
}

impl Default for Endpoints {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl From<Endpoints> for Vec<String> {
    fn from(endpoints: Endpoints) -> Self {
        match endpoints {
            Endpoints::One(endpoint) => vec![endpoint],
            Endpoints::Several(endpoints) => endpoints,
        }
    }
}

/// The ways to one KMS, at least one.
pub(super) struct Ways<T> {
    endpoints: Vec<T>,
    /// How often they have been moved on: it is the turn of the endpoint of this number, counted around.
    moved: AtomicUsize,
}

/// A call at an endpoint. One that does not serve it moves all who ask it on, once: also one that the caller has
/// given up waiting for.
pub(super) struct Turn<'a, T> {
    ways: &'a Ways<T>,
    number: usize,
    served: bool,
}

impl<T> Ways<T> {
    /// `form`: how an address is written. `read`: makes an endpoint of one.
    ///
    /// Errors: those of `read`; or, when there is no address, a message that names the key and the remedy.
    pub(super) fn new(
        typed: &[String],
        form: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Self, String> {
        let endpoints = typed.iter().map(|text| read(text)).collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(format!("endpoint: missing. Write {form}"));
        }
        Ok(Self { endpoints, moved: AtomicUsize::new(0) })
    }

    /// For one call.
    pub(super) fn turn(&self) -> Turn<'_, T> {
        Turn { ways: self, number: self.moved.load(Ordering::Relaxed), served: false }
    }
}

impl<'a, T> Turn<'a, T> {
    /// Whose turn it is.
    pub(super) fn endpoint(&self) -> &'a T {
        &self.ways.endpoints[self.number % self.ways.endpoints.len()]
    }

    /// Another one after each move, also where there is only one endpoint: what was opened in an earlier turn is at one
    /// that has failed since.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The call's end. [`Error::Unavailable`] is the only answer that another endpoint may better.
    pub(super) fn end<A>(mut self, answer: Result<A, Error>) -> Result<A, Error> {
        self.served = !matches!(answer, Err(Error::Unavailable(_)));
        answer
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        if !self.served {
            let on = self.number.wrapping_add(1);
            self.ways.moved.compare_exchange(self.number, on, Ordering::Relaxed, Ordering::Relaxed).ok();
        }
    }
}

/// Refuses an address with credentials in it, which would stand in errors and logs.
///
/// Errors: a message that shows no more of it than the scheme. `form`: how an address is written.
pub(super) fn refuse_credentials(text: &str, form: &str) -> Result<(), String> {
    if !text.contains('@') {
        return Ok(());
    }
    let scheme = text.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| !scheme.contains('@'));
    let shown = scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
    Err(format!("endpoint: '{shown}...' holds '@', as an address with credentials does. Write {form}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ways(typed: &[&str]) -> Result<Ways<String>, String> {
        let typed: Vec<String> = typed.iter().map(|text| (*text).to_owned()).collect();
        Ways::new(&typed, "HOST", |text| match text {
            "bad" => Err("endpoint: 'bad'".into()),
            good => Ok(good.to_owned()),
        })
    }

    #[test]
    fn the_one_that_served_last_is_asked_next() {
        let ways = ways(&["a", "b"]).unwrap();
        let away = || Err::<(), _>(Error::Unavailable("away".into()));
        let asked = || ways.turn().endpoint().as_str();
        // Two at once: they move on together, not back again.
        let (one, two) = (ways.turn(), ways.turn());
        assert_eq!(one.end(away()), away());
        assert_eq!(two.end(away()), away());
        for answer in [Ok(()), Err(Error::Denied("no".into())), Err(Error::Malformed("lie".into()))] {
            let turn = ways.turn();
            assert_eq!((turn.endpoint().as_str(), turn.number()), ("b", 1));
            assert_eq!(turn.end(answer.clone()), answer);
        }
        // Asking is a turn given up, which moves on.
        assert_eq!((asked(), asked(), asked()), ("b", "a", "b"));
    }

    #[test]
    fn addresses_as_typed() {
        assert!(ways(&[]).err().unwrap().contains("endpoint: missing. Write HOST"));
        assert_eq!(ways(&["a", "bad"]).err().unwrap(), "endpoint: 'bad'");
    }

    #[test]
    fn credentials_are_not_shown() {
        for (text, shown) in [
            ("https://user:PW@host", "'https://...'"),
            ("https://user:P/W@host", "'https://...'"),
            ("user:PW@host:5696", "'...'"),
            ("PW@https://host", "'...'"),
        ] {
            let why = refuse_credentials(text, "HOST").unwrap_err();
            assert!(why.contains(shown) && why.contains("Write HOST") && !why.contains("PW"), "{why}");
        }
        assert_eq!(refuse_credentials("https://host/path", "HOST"), Ok(()));
    }
}
