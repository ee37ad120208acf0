//! MinIO's environment for KES, `MINIO_KMS_KES_*`: a layer under `proxy.toml` with a KMS named `kes`.
//!
//! What moves from MinIO behind s3veil keeps its variables as they are. They count when `MINIO_KMS_KES_ENDPOINT` is set;
//! a key of `[kms.kes]` in `proxy.toml` comes before its variable. Where `proxy.toml` has no policy at all, every bucket is
//! sealed with `MINIO_KMS_KES_KEY_NAME`, as MinIO does. Secrets stay in their variables: the layer only says which.
//! Source: minio/minio, `internal/kms/config.go`.

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::json;

use crate::kms::EkName;

/// What a message calls this layer.
pub(super) const NAME: &str = "environment variables MINIO_KMS_KES_*";

const ENDPOINT: &str = "MINIO_KMS_KES_ENDPOINT";
const KEY_NAME: &str = "MINIO_KMS_KES_KEY_NAME";
const API_KEY: &str = "MINIO_KMS_KES_API_KEY";
const CERT_FILE: &str = "MINIO_KMS_KES_CERT_FILE";
const KEY_FILE: &str = "MINIO_KMS_KES_KEY_FILE";
const KEY_PASSWORD: &str = "MINIO_KMS_KES_KEY_PASSWORD";
const CA_PATH: &str = "MINIO_KMS_KES_CAPATH";
const ENCLAVE: &str = "MINIO_KMS_KES_ENCLAVE";

/// The most endpoints that one pattern stands for.
const RANGE_MAX: u64 = 1000;

/// The layer; empty without MinIO's variables.
pub(super) struct Layer(Dict);

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(NAME)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.0.clone())]))
    }
}

impl Layer {
    /// `above`: what comes before it. `variable`: the environment; one that is set to nothing counts as not set.
    ///
    /// Errors: a message that names the variable, its value and the remedy.
    pub(super) fn new(above: &Figment, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(endpoints) = variable(ENDPOINT) else { return Ok(Self(Dict::new())) };
        let other_kind = above.extract_inner::<String>("kms.kes.kind").is_ok_and(|kind| kind != "kes");
        if other_kind {
            return Ok(Self(Dict::new()));
        }
        let mut kes = json!({ "kind": "kes", "endpoint": expand_all(&endpoints)? });
        for (key, name) in [("ca_file", CA_PATH), ("enclave", ENCLAVE)] {
            if let Some(value) = variable(name) {
                kes[key] = value.into();
            }
        }
        // One credential: that of `proxy.toml` is not mixed with the environment's.
        let typed = |key: &str| above.contains(&format!("kms.kes.{key}"));
        if !["api_key", "certificate_file", "key_file"].into_iter().any(typed) {
            for (key, name) in [("certificate_file", CERT_FILE), ("key_file", KEY_FILE)] {
                if let Some(value) = variable(name) {
                    kes[key] = value.into();
                }
            }
            for (key, name) in [("api_key", API_KEY), ("key_password", KEY_PASSWORD)] {
                if variable(name).is_some() {
                    kes[key] = json!({ "env": name });
                }
            }
        }
        let mut layer = json!({ "kms": { "kes": kes } });
        if !above.contains("policy")
            && let Some(name) = variable(KEY_NAME)
        {
            let ek =
                EkName::parse(&name).map_err(|why| format!("{KEY_NAME}: '{name}' is {why}. Correct it"))?;
            layer["policy"] = json!([{ "bucket": "*", "kms": "kes", "ek": ek }]);
        }
        match Value::serialize(layer) {
            Ok(Value::Dict(_, dict)) => Ok(Self(dict)),
            _ => unreachable!("a JSON object of strings is a dictionary"),
        }
    }
}

fn expand_all(list: &str) -> Result<Vec<String>, String> {
    let mut endpoints = Vec::new();
    for endpoint in list.split(',').map(str::trim).filter(|endpoint| !endpoint.is_empty()) {
        let all = expand(endpoint).ok_or_else(|| {
            format!(
                "{ENDPOINT}: '{endpoint}' has a pattern that is none. Write {{N...M}}, for instance {{1...4}}"
            )
        })?;
        endpoints.extend(all);
    }
    Ok(endpoints)
}

/// Every address that one with patterns `{N...M}` stands for; numbers are decimal, or hexadecimal with a letter.
fn expand(endpoint: &str) -> Option<Vec<String>> {
    let Some((head, rest)) = endpoint.split_once('{') else {
        return (!endpoint.contains(['{', '}'])).then(|| vec![endpoint.to_owned()]);
    };
    let (range, tail) = rest.split_once('}')?;
    let (first, last) = range.split_once("...")?;
    let number = |text: &str| match text.parse::<u64>() {
        Ok(number) => Some((number, false)),
        Err(_) => u64::from_str_radix(text, 16).ok().map(|number| (number, true)),
    };
    let ((from, hex_from), (to, hex_to)) = (number(first)?, number(last)?);
    if head.contains('}') || from > to || to - from >= RANGE_MAX {
        return None;
    }
    let padded = (first.starts_with('0') && first.len() > 1) || last.starts_with('0');
    let width = if padded { last.len() } else { 0 };
    let tails = expand(tail)?;
    let each = (from..=to).flat_map(|number| {
        let number =
            if hex_from || hex_to { format!("{number:0width$x}") } else { format!("{number:0width$}") };
        tails.iter().map(move |tail| format!("{head}{number}{tail}"))
    });
    Some(each.collect())
}

#[cfg(test)]
mod tests {
    use figment::providers::{Format, Toml};

    use super::*;

    fn layer(toml: &str, variables: &[(&str, &str)]) -> Result<Figment, String> {
        let above = Figment::from(Toml::string(toml));
        let variable = |name: &str| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        Ok(Figment::from(Layer::new(&above, variable)?).merge(above))
    }

    fn get(figment: &Figment, key: &str) -> Option<String> {
        figment.find_value(key).ok().map(|value| serde_json::to_string(&value).unwrap())
    }

    const USUAL: [(&str, &str); 4] = [
        (ENDPOINT, "https://a:7373, https://b:7373"),
        (KEY_NAME, "my-key"),
        (API_KEY, "kes:v1:secret"),
        (CA_PATH, "/certs"),
    ];

    #[test]
    fn a_kms_and_a_policy() {
        let figment = layer("", &USUAL).unwrap();
        for (key, expected) in [
            ("kms.kes.kind", r#""kes""#),
            ("kms.kes.endpoint", r#"["https://a:7373","https://b:7373"]"#),
            ("kms.kes.api_key", r#"{"env":"MINIO_KMS_KES_API_KEY"}"#),
            ("kms.kes.ca_file", r#""/certs""#),
            ("policy", r#"[{"bucket":"*","ek":"my-key","kms":"kes"}]"#),
        ] {
            assert_eq!(get(&figment, key).as_deref(), Some(expected), "{key}");
        }
        assert!(!format!("{figment:?}").contains("kes:v1:secret"));
    }

    #[test]
    fn what_is_typed_comes_first() {
        let figment = layer("[kms.kes]\nca_file = '/mine'", &USUAL).unwrap();
        assert_eq!(get(&figment, "kms.kes.ca_file").as_deref(), Some(r#""/mine""#));
        assert!(get(&figment, "kms.kes.api_key").is_some());

        let figment = layer("[kms.kes]\ncertificate_file = 'c'\nkey_file = 'k'", &USUAL).unwrap();
        assert_eq!(get(&figment, "kms.kes.api_key"), None, "one credential");

        let figment = layer("[[policy]]\nbucket = 'a'\nek = 'b'", &USUAL).unwrap();
        assert_eq!(get(&figment, "policy").as_deref(), Some(r#"[{"bucket":"a","ek":"b"}]"#));

        let figment = layer("[kms.kes]\nkind = 'local'", &USUAL).unwrap();
        assert_eq!(get(&figment, "kms.kes.endpoint"), None);
        assert_eq!(get(&figment, "policy"), None);
    }

    #[test]
    fn nothing_without_an_endpoint() {
        for variables in [&[][..], &USUAL[1..], &[(ENDPOINT, ""), (KEY_NAME, "my-key")]] {
            let figment = layer("", variables).unwrap();
            assert_eq!((get(&figment, "kms"), get(&figment, "policy")), (None, None));
        }
    }

    #[test]
    fn mistakes_name_the_variable() {
        let why = layer("", &[(ENDPOINT, "https://a"), (KEY_NAME, "my key")]).err().unwrap();
        assert!(why.contains("MINIO_KMS_KES_KEY_NAME: 'my key'") && why.contains("Correct it"), "{why}");
        let why = layer("", &[(ENDPOINT, "https://a{4...1}")]).err().unwrap();
        assert!(why.contains("MINIO_KMS_KES_ENDPOINT: 'https://a{4...1}'"), "{why}");
    }

    /// Expected from minio/pkg, `ellipses/ellipses.go`.
    #[test]
    fn patterns() {
        for (pattern, expected) in [
            ("https://kes:7373", &["https://kes:7373"][..]),
            ("https://kes{1...3}:7373", &["https://kes1:7373", "https://kes2:7373", "https://kes3:7373"]),
            ("k{09...10}", &["k09", "k10"]),
            ("k{8...b}", &["k8", "k9", "ka", "kb"]),
            ("r{1...2}k{0...1}", &["r1k0", "r1k1", "r2k0", "r2k1"]),
        ] {
            assert_eq!(expand(pattern).unwrap(), expected, "{pattern}");
        }
        for bad in
            ["k{1..3}", "k{1...3", "k1...3}", "k{...}", "k{2...1}", "k{1...x}", "k{1...99999}", "a}b{1...2}"]
        {
            assert_eq!(expand(bad), None, "{bad}");
        }
    }
}
