//! One vault: its address, the names of EKs in it, what its ids say.

use std::collections::BTreeMap;

use azure_core::http::Url;

use crate::kms::{EkName, Error};

/// The domains of Azure's clouds, in which a vault's or HSM's own name comes first. Tokens are asked for by them.
const DOMAINS: [&str; 6] = [
    "vault.azure.net",
    "managedhsm.azure.net",
    "vault.azure.cn",
    "managedhsm.azure.cn",
    "vault.usgovcloudapi.net",
    "managedhsm.usgovcloudapi.net",
];

/// What a vault's address says.
#[derive(Debug)]
pub(super) struct Vault {
    /// `https://HOST[:PORT]`
    pub origin: String,
    /// What its tokens are for, such as `https://vault.azure.net`.
    pub audience: String,
    /// EKs whose name at Azure is another.
    names: BTreeMap<EkName, String>,
}

impl Vault {
    /// Errors: a message that names the key, its value and the remedy.
    pub(super) fn new(
        vault: &str,
        audience: Option<String>,
        names: BTreeMap<EkName, String>,
    ) -> Result<Self, String> {
        let origin = origin("vault", vault, "https://NAME.vault.azure.net")?;
        let host = origin.trim_start_matches("https://");
        let domain = host.split_once('.').map(|(_, domain)| domain).filter(|domain| DOMAINS.contains(domain));
        let audience = audience.or_else(|| domain.map(|domain| format!("https://{domain}"))).ok_or_else(|| {
            format!("audience: missing, and '{vault}' is in no domain of Azure's. Write audience = \"https://vault.azure.net\"")
        })?;
        if let Some((ek, name)) = names.iter().find(|(_, name)| !is_name(name)) {
            return Err(format!(
                "keys: '{name}' for '{ek}' is no name at Azure. Use letters, digits and '-'"
            ));
        }
        Ok(Self { origin, audience, names })
    }

    /// True for a Managed HSM, whose keys may be symmetric.
    pub(super) fn is_hsm(&self) -> bool {
        self.audience.starts_with("https://managedhsm.")
    }

    /// The EK's name at Azure.
    ///
    /// Errors: [`Error::Denied`] for a name that Azure cannot have.
    pub(super) fn name<'a>(&'a self, ek: &'a EkName) -> Result<&'a str, Error> {
        let name = self.names.get(ek).map_or(ek.as_str(), String::as_str);
        if is_name(name) {
            return Ok(name);
        }
        Err(Error::Denied(format!(
            "names at Azure have no '_': give '{ek}' another with keys = {{ {ek} = \"...\" }}"
        )))
    }

    /// The EKs that an id of a list stands for: none for what is no EK's name.
    pub(super) fn eks(&self, collection: &str, id: Option<&str>) -> Result<Vec<EkName>, Error> {
        let (name, _) = self.parse(collection, id)?;
        let mut eks: Vec<_> = self
            .names
            .iter()
            .filter(|(_, at)| at.eq_ignore_ascii_case(&name))
            .map(|(ek, _)| ek.clone())
            .collect();
        if eks.is_empty() {
            eks.extend(EkName::parse(&name).ok().filter(|ek| !self.names.contains_key(ek)));
        }
        Ok(eks)
    }

    /// The version in an id that has to be of this vault and name.
    ///
    /// Errors: [`Error::Malformed`] for an id of anything else.
    pub(super) fn version(&self, collection: &str, name: &str, id: Option<&str>) -> Result<String, Error> {
        match self.parse(collection, id)? {
            (of, Some(version)) if of.eq_ignore_ascii_case(name) && is_version(&version) => Ok(version),
            _ => Err(self.lie(id)),
        }
    }

    fn parse(&self, collection: &str, id: Option<&str>) -> Result<(String, Option<String>), Error> {
        let url = id.and_then(|id| Url::parse(id).ok()).ok_or_else(|| self.lie(id))?;
        let mut path = url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty());
        match (path.next(), path.next(), path.next(), path.next()) {
            (Some(of), Some(name), version, None)
                if of == collection && url.origin().ascii_serialization() == self.origin =>
            {
                Ok((name.to_owned(), version.map(str::to_owned)))
            }
            _ => Err(self.lie(id)),
        }
    }

    fn lie(&self, id: Option<&str>) -> Error {
        let id = id.unwrap_or("nothing");
        Error::Malformed(format!("{} answers about '{id}', which was not asked for", self.origin))
    }
}

/// An https address without a path, in its one form.
///
/// Errors: a message that names the key, its value and the remedy.
pub(super) fn origin(key: &str, text: &str, example: &str) -> Result<String, String> {
    let wrong = |why: &str| format!("{key}: '{text}' {why}. Write {example}");
    let url = Url::parse(text).map_err(|_| wrong("is not an address"))?;
    if url.scheme() != "https" {
        return Err(wrong("is not https"));
    }
    let origin = url.origin().ascii_serialization();
    if url.as_str().trim_end_matches('/') != origin {
        return Err(wrong("has more than a host and a port"));
    }
    Ok(origin)
}

/// A version as Azure makes them: 32 hex digits, as far as seen. Nothing that could lead elsewhere in a path.
pub(super) fn is_version(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_name(text: &str) -> bool {
    (1..=127).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ek(name: &str) -> EkName {
        EkName::parse(name).unwrap()
    }

    fn vault(text: &str) -> Result<Vault, String> {
        Vault::new(text, None, BTreeMap::new())
    }

    #[test]
    fn addresses() {
        let seen = vault("https://Name.vault.azure.net:443/").unwrap();
        assert_eq!(
            (seen.origin.as_str(), seen.audience.as_str()),
            ("https://name.vault.azure.net", "https://vault.azure.net")
        );
        assert!(vault("https://a.managedhsm.azure.cn").unwrap().is_hsm());
        for (text, part) in [
            ("name.vault.azure.net", "is not an address"),
            ("http://name.vault.azure.net", "is not https"),
            ("https://name.vault.azure.net/keys", "more than a host"),
            ("https://user@name.vault.azure.net", "more than a host"),
            ("https://vault.example.com", "audience: missing"),
            ("https://evilvault.azure.net", "audience: missing"),
            ("https://a.b.vault.azure.net", "audience: missing"),
        ] {
            let why = vault(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn names() {
        let names = BTreeMap::from([(ek("my_key"), "My-Key".to_owned()), (ek("b"), "other".to_owned())]);
        let vault = Vault::new("https://a.vault.azure.net", None, names).unwrap();
        assert_eq!((vault.name(&ek("my_key")), vault.name(&ek("c"))), (Ok("My-Key"), Ok("c")));
        assert!(matches!(vault.name(&ek("c_d")), Err(Error::Denied(why)) if why.contains("keys = { c_d")));
        let listed = |name: &str| vault.eks("keys", Some(&format!("https://a.vault.azure.net/keys/{name}")));
        assert_eq!(listed("my-key"), Ok(vec![ek("my_key")]));
        assert_eq!(listed("c"), Ok(vec![ek("c")]));
        assert_eq!(listed("b"), Ok(vec![]), "the EK of that name is another key");
        let bad = BTreeMap::from([(ek("a"), "a/b".to_owned())]);
        assert!(Vault::new("https://a.vault.azure.net", None, bad).unwrap_err().contains("'a/b' for 'a'"));
    }

    #[test]
    fn an_id_is_of_this_vault_name_and_collection() {
        let vault = vault("https://a.vault.azure.net").unwrap();
        let version = |id: &str| vault.version("keys", "k", Some(id));
        assert_eq!(version("https://a.vault.azure.net/keys/k/0123abcd"), Ok("0123abcd".into()));
        for id in [
            "https://b.vault.azure.net/keys/k/0123abcd",
            "http://a.vault.azure.net/keys/k/0123abcd",
            "https://a.vault.azure.net/keys/other/0123abcd",
            "https://a.vault.azure.net/secrets/k/0123abcd",
            "https://a.vault.azure.net/keys/k",
            "https://a.vault.azure.net/keys/k/0123abcd/more",
            "https://a.vault.azure.net/keys/k/01%2f23",
            "keys/k/0123abcd",
            "",
        ] {
            assert!(matches!(version(id), Err(Error::Malformed(_))), "{id}");
        }
        assert!(!is_version("../../secrets/x") && !is_version("") && !is_version(&"a".repeat(65)));
    }
}
