//! Small XML helpers: escaping, and reading request bodies.

use std::borrow::Cow;

/// Escapes text for an XML element.
pub fn escape(text: &str) -> Cow<'_, str> {
    quick_xml::escape::escape(text)
}
