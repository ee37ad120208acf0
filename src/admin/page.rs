//! The status page: one file, and a policy that lets it load and run nothing else.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};

use super::{Page, text};

const HTML: &str = include_str!("page.html");

/// Only what stands in the file runs, and it talks to this listener alone (Content Security Policy Level 3).
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |element| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inside(element))));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    );
    HeaderValue::try_from(policy).expect("base64 and words are a header value")
});

pub(super) fn html() -> Page {
    let mut page = text(StatusCode::OK, HTML);
    let headers = page.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    page
}

/// What the page's one element of this name holds.
fn inside(element: &str) -> &'static str {
    let (_, rest) = HTML.split_once(&format!("<{element}>")).expect("the page has one");
    rest.split_once(&format!("</{element}>")).expect("and it ends").0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_keeps_to_its_policy() {
        for element in ["script", "style"] {
            assert_eq!(HTML.matches(&format!("<{element}")).count(), 1, "{element}");
            assert!(!inside(element).is_empty());
        }
        for foreign in ["http://", "https://", " onclick=", " style=\"", "innerHTML", "eval("] {
            let found = HTML.match_indices(foreign).map(|(at, _)| &HTML[at..(at + 60).min(HTML.len())]);
            // The name space of SVG is a name, and nothing is loaded from there.
            let found: Vec<_> =
                found.filter(|text| !text.starts_with("http://www.w3.org/2000/svg")).collect();
            assert!(found.is_empty(), "{found:?}");
        }
        assert!(POLICY.to_str().unwrap().contains("script-src 'sha256-"));
    }
}
