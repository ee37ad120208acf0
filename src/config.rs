//! All settings: defaults ← MinIO's variables for KES ← proxy.toml ← `S3VEIL_*` ← flags. Composes the rooms' own
//! configurations, no more.

mod minio_env;
mod sections;

pub use sections::Sections;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::{Actual, Kind};
use figment::providers::{Env, Format, Serialized, Toml};
use serde::Deserialize;

use crate::secret::SecretSource;
use crate::telemetry::TracesConfig;
use crate::{auth, backend, kms, listener, policy};

/// What `proxy.toml` holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port of the S3 listener.
    pub listen: SocketAddr,
    /// TLS there; plain HTTP if left out.
    pub tls: Option<listener::TlsConfig>,
    /// The store behind.
    pub store: backend::Config,
    /// The KMSs, by name.
    pub kms: kms::Config,
    /// Old names of KMSs and their new ones, so that envelopes which name an old one stay readable.
    #[serde(default)]
    pub kms_aliases: HashMap<String, String>,
    /// The policy table.
    #[serde(default)]
    pub policy: Vec<policy::RuleConfig>,
    /// The clients.
    pub auth: auth::Config,
    /// How long data keys are kept.
    #[serde(default)]
    pub cache: kms::keys::CacheConfig,
    /// Where uploads under way are kept.
    #[serde(default)]
    pub state: crate::handler::StateConfig,
    /// Limits of the listener.
    #[serde(default)]
    pub limits: listener::LimitsConfig,
    /// What is logged.
    #[serde(default)]
    pub log: crate::telemetry::LogConfig,
    /// Where traces go; nowhere if left out.
    pub traces: Option<TracesConfig>,
    /// The admin listener; none if left out.
    pub admin: Option<crate::admin::Config>,
}

impl Config {
    /// Reads the file, the environment and the flags. `flags` are `key.path` and value.
    ///
    /// Errors: one line per mistake with file, key, value and remedy.
    pub fn load(file: &Path, flags: &[(&str, String)]) -> Result<Self, String> {
        Self::load_sections(file, flags).map(|(config, _)| config)
    }

    /// The same, and its sections to compare with others.
    ///
    /// Errors: as those of [`Config::load`].
    pub fn load_sections(file: &Path, flags: &[(&str, String)]) -> Result<(Self, Sections), String> {
        let mut figment = read(file)?;
        for (key, value) in flags {
            figment = figment.merge(Serialized::global(key, value));
        }
        let config: Self = figment.extract().map_err(|errors| explain_all(errors, &figment, file))?;
        config.log.filter().map_err(|why| format!("{}: {why}", file.display()))?;
        config
            .traces
            .as_ref()
            .map_or(Ok(()), TracesConfig::check)
            .map_err(|why| format!("{}: {why}", file.display()))?;
        config.may_listen(config.listen).map_err(|why| format!("{}: {why}", file.display()))?;
        let sections = Sections::of(&figment).map_err(|errors| explain_all(*errors, &figment, file))?;
        Ok((config, sections))
    }

    /// Whether clients may be let in in this way at this address.
    ///
    /// Errors: a message that names the key, its value and the remedy.
    pub fn may_listen(&self, listen: SocketAddr) -> Result<(), String> {
        if self.auth.mode != auth::Mode::Trusted || listen.ip().is_loopback() {
            return Ok(());
        }
        Err(format!(
            "auth.mode: 'trusted' lets in whoever connects, and listen = '{listen}' is not loopback. Listen on \
             127.0.0.1, or set mode = \"sigv4\""
        ))
    }

    /// The files that secrets of the clients and of the admin listener are read from.
    pub fn front_files(&self) -> Vec<PathBuf> {
        let token = self.admin.iter().flat_map(|admin| &admin.token).flat_map(SecretSource::files);
        self.auth.files().into_iter().chain(token).collect()
    }

    /// The files that store and KMSs are made from and that are read once: the store's credentials and roots, master keys.
    pub fn room_files(&self) -> Vec<PathBuf> {
        self.store.files().into_iter().chain(self.kms.files()).collect()
    }
}

/// What says how an EK is reached.
#[derive(Debug, Deserialize)]
pub struct KmsPart {
    /// The KMSs, by name.
    pub kms: kms::Config,
    /// Old names of KMSs, and their new ones.
    #[serde(default)]
    pub kms_aliases: HashMap<String, String>,
}

/// The KMSs alone, for commands that need no more of the configuration: their machine may hold no more.
///
/// Errors: as those of [`Config::load`].
pub fn kms(file: &Path) -> Result<KmsPart, String> {
    let figment = read(file)?;
    figment.extract().map_err(|errors| explain_all(errors, &figment, file))
}

/// One section alone, likewise.
///
/// Errors: as those of [`Config::load`].
pub fn section<T: serde::de::DeserializeOwned>(file: &Path, key: &str) -> Result<T, String> {
    let figment = read(file)?;
    figment.focus(key).extract().map_err(|errors| {
        let within = errors.into_iter().map(|mut error| {
            error.path.insert(0, key.to_owned());
            error
        });
        explain_all(within, &figment, file)
    })
}

fn read(file: &Path) -> Result<Figment, String> {
    if !file.is_file() {
        return Err(format!("{}: there is no such file. Name one with --config", file.display()));
    }
    let environment = Env::prefixed("S3VEIL_").split("__").filter(|key| is_setting(key.as_str()));
    let typed = Figment::from(Toml::file_exact(file)).merge(environment);
    let minio = minio_env::Layer::new(&typed, |name| std::env::var(name).ok())?;
    Ok(Figment::from(Serialized::default("listen", "127.0.0.1:8333")).merge(minio).merge(typed))
}

fn explain_all(errors: impl IntoIterator<Item = figment::Error>, figment: &Figment, file: &Path) -> String {
    errors.into_iter().map(|why| explain(&why, figment, file)).collect::<Vec<_>>().join("\n")
}

/// Whether a variable, without its prefix, is a setting. Some that begin alike are not: s3veil's own, and those that
/// Kubernetes gives every pod beside a service whose name begins with s3veil (`S3VEIL_PORT`, `S3VEIL_ADMIN_SERVICE_HOST`, ...):
/// no setting outside of a section goes on so. The steps of a key are joined by dots here.
fn is_setting(variable: &str) -> bool {
    let name = format!("_{}_", variable.to_ascii_lowercase());
    let own = ["_tools_", "_config_", "_master_key_"].contains(&name.as_str());
    let kubernetes = ["_port_", "_service_host_", "_service_port_"].iter().any(|part| name.contains(part));
    !own && (name.contains('.') || !kubernetes)
}

/// One mistake: file, key, value, remedy. The value of a secret is not shown.
fn explain(error: &figment::Error, figment: &Figment, file: &Path) -> String {
    let key = error.path.join(".");
    let value = figment.find_value(&key).ok().and_then(|value| value.into_string());
    let place = match &error.metadata {
        Some(metadata) if metadata.name == minio_env::NAME => minio_env::NAME.to_owned(),
        Some(metadata) if metadata.name.contains("environment") => {
            format!("environment variable S3VEIL_{}", key.to_uppercase().replace('.', "__"))
        }
        _ => file.display().to_string(),
    };
    let secret =
        ["secret", "token", "master_key", "api_key", "password"].iter().any(|word| key.contains(word));
    // The path of a mistake may end above the key itself, so these sections show no value that may be a secret.
    let guarded = secret
        || ["kms", "auth", "admin", "store.credentials", "traces.headers"]
            .iter()
            .any(|part| key.starts_with(part));
    let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
    match &error.kind {
        Kind::MissingField(name) => {
            format!("{place}: {key}{name}: missing. Add it; see the commented proxy.toml")
        }
        Kind::UnknownField(name, known) => {
            // The path of the section may or may not have the key itself at its end.
            let section = error
                .path
                .iter()
                .filter(|step| *step != name)
                .map(|step| format!("{step}."))
                .collect::<String>();
            format!(
                "{place}: {section}{name}: there is no such key. Remove it, or write one of: {}",
                known.join(", ")
            )
        }
        Kind::UnknownVariant(value, known) => {
            let value =
                if guarded && !is_word(value) { "the value (not shown)" } else { &format!("'{value}'") };
            format!("{place}: {key}{value} is not known. Write one of: {}", known.join(", "))
        }
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if secret => {
            format!("{place}: {key}the value (not shown) is not {expected}. Correct it")
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let found = if guarded { kind_of(found) } else { found.to_string() };
            format!("{place}: {key}{found} is not {}. Correct it", in_words(&expected.to_string()))
        }
        Kind::Message(_) if secret => {
            format!(
                "{place}: {key}the value (not shown) can't be read. Write a string, {{ file = \"...\" }} or {{ env = \"...\" }}"
            )
        }
        kind => {
            let value = value.filter(|value| !guarded || is_word(value));
            let value = value.map(|value| format!("'{value}': ")).unwrap_or_default();
            let kind = kind.to_string();
            let example =
                if kind.contains("socket address") { ": write an IP address and a port" } else { "" };
            format!("{place}: {key}{value}{}{example}. Correct it", kind.trim_end())
        }
    }
}

/// Whether a text is like the words of the configuration, and unlike a key or a token.
fn is_word(text: &str) -> bool {
    text.len() <= 24 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// What was found, without its value.
fn kind_of(found: &Actual) -> String {
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) | Actual::Bytes(_) => "a string",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "what is there",
    }
    .to_owned()
}

/// What was expected, without the names of Rust's types.
fn in_words(expected: &str) -> String {
    match expected {
        "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "socket address" => "an IP address and a port in quotes, \"127.0.0.1:8333\"".to_owned(),
        name if name.starts_with("enum ") => "one of its words; see the commented proxy.toml".to_owned(),
        // Serde's words for a table that says by one of its keys what it is.
        name if name.starts_with("internally tagged enum ") => {
            "a table { ... }; see the commented proxy.toml".to_owned()
        }
        name if name.starts_with("struct ") => "a table { ... }; see the commented proxy.toml".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [store]
        endpoint = "http://127.0.0.1:9000"
        credentials.default = { access_key = "a", secret_key = "very-secret" }
        [kms.local]
        kind = "local"
        path = "keys"
        master_key = { env = "NOT_SET" }
        [[policy]]
        bucket = "*"
        ek = "main"
        [auth]
        [[auth.identities]]
        name = "app"
        access_key = "AKIA"
        secret_key = "very-secret"
    "#;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("proxy.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&file, &[])
    }

    #[test]
    fn a_minimal_file_is_enough() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8333");
        assert_eq!(config.policy.len(), 1);
    }

    #[test]
    fn each_mistake_names_file_key_value_and_remedy() {
        for (from, to, expected) in [
            ("[auth]", "[auth]\nmood = 'x'", &["auth.mood: ", "no such key", "Remove it"][..]),
            ("endpoint = \"http://127.0.0.1:9000\"", "", &["store: endpoint: missing", "Add it"]),
            ("[store]", "listen = 'here'\n[store]", &["listen: ", "here", "Correct it"]),
            ("[store]", "[store]\naddressing = 'sideways'", &["store.addressing: 'sideways'", "path"]),
            ("secret_key = \"very-secret\" }", "secret_key = 12345 }", &["secret_key", "not shown"]),
            ("[auth]", "listen2 = 1\n[auth]", &["listen2"]),
            (
                "[auth]",
                "[kms.kes]\nkind = 'kes'\nendpoint = 'https://a'\napi_key = 12345\n[auth]",
                &["kms.kes", "a secret is a string"],
            ),
            ("[store]", "listen = 'localhost:1'\n[store]", &["localhost:1", "IP address"]),
            ("[store]", "listen = 8333\n[store]", &["8333", "in quotes"]),
            ("ek = \"main\"", "ek = 'main'\nplaintext = true", &["plaintext: bool true", "one of its words"]),
            ("[auth]", "[cache]\nttl_secs = -1\n[auth]", &["cache.ttl_secs: ", "-1", "a whole number"]),
            ("[auth]", "[log]\nlevel = 'loud'\n[auth]", &["log.level: 'loud'", "Write error"]),
        ] {
            let error = load(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains("proxy.toml: "), "{error}");
            assert!(!error.contains("very-secret") && !error.contains("12345"), "{error}");
            for part in expected {
                assert!(error.contains(part), "{error} lacks {part}");
            }
        }
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_not_shown() {
        const SECRET: &str = "hvs.very-Secret-0123456789";
        let kms = "path = \"keys\"";
        for (from, to) in [
            (
                kms,
                format!(
                    "path = 'keys'\n[kms.v]\nkind = 'vault-transit'\nendpoint = 'https://v'\nauth = '{SECRET}'"
                ),
            ),
            (
                kms,
                format!(
                    "path = 'keys'\n[kms.v]\nkind = 'vault-transit'\nendpoint = 'https://v'\nauth = {{ method = '{SECRET}' }}"
                ),
            ),
            (kms, format!("path = 'keys'\n[kms.v]\nkind = 'aws-kms'\ncredentials = '{SECRET}'")),
            (kms, format!("path = 'keys'\n[kms.v]\nkind = '{SECRET}'")),
            (kms, format!("path = 'keys'\n[kms.v]\nkind = 'kes'\napi_key = ['{SECRET}']")),
            ("secret_key = \"very-secret\" }", format!("secret_key = 'x' }}\ncredentials.more = '{SECRET}'")),
            ("[auth]", format!("[auth]\nmode = '{SECRET}'")),
            ("[auth]", format!("[admin]\nlisten = '{SECRET}'\n[auth]")),
        ] {
            let text = GOOD.replacen(from, &to, 1);
            assert_ne!(text, GOOD);
            let error = load(&text).unwrap_err();
            assert!(!error.contains(SECRET) && error.contains("proxy.toml: "), "{error}");
        }
        // But a word that is none of the known ones is.
        let error = load(&GOOD.replacen("kind = \"local\"", "kind = 'vualt'", 1)).unwrap_err();
        assert!(error.contains("'vualt' is not known") && error.contains("vault-transit"), "{error}");
    }

    #[test]
    fn trusted_is_for_loopback_only() {
        let open = GOOD.replacen("[auth]", "[auth]\nmode = 'trusted'", 1);
        assert!(load(&open).is_ok());
        let error = load(&format!("listen = '0.0.0.0:1'\n{open}")).unwrap_err();
        assert!(error.contains("auth.mode: 'trusted'") && error.contains("0.0.0.0:1"), "{error}");
    }

    #[test]
    fn a_missing_file_is_said() {
        assert!(Config::load(Path::new("/no/such/file"), &[]).unwrap_err().contains("--config"));
    }
}
