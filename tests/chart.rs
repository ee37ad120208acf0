//! The Helm chart against the program: the settings that it writes are the program's, and what it watches is there.
//!
//! `tests/chart/run` has the rest: lints, schemas, units, the expressions of the alerts.

#[path = "support/servers.rs"]
mod servers;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use s3veil::config::Config;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Helm, unless it can't be had.
fn helm() -> Option<PathBuf> {
    servers::tool("helm").inspect_err(|why| servers::skip(why)).ok()
}

/// The objects that a chart makes with these values.
fn template(helm: &Path, chart: &Path, arguments: &[&str]) -> String {
    let done = Command::new(helm)
        .args(["template", "test"])
        .arg(chart)
        .args(["--namespace", "storage"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The text of `proxy.toml` in a ConfigMap: the lines that stand deeper than its key.
fn proxy_toml(objects: &str) -> String {
    let (_, rest) = objects.split_once("  proxy.toml: |\n").expect("there is a ConfigMap with a proxy.toml");
    let within = |line: &&str| line.trim().is_empty() || line.starts_with("    ");
    rest.lines().take_while(within).map(|line| format!("{}\n", line.get(4..).unwrap_or_default())).collect()
}

fn accepted(text: &str, example: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.toml");
    fs::write(&file, text).unwrap();
    Config::load(&file, &[]).unwrap_or_else(|why| panic!("{example}: {why}\n{text}"))
}

/// The argument lists of a pod's containers that stand a line each.
fn arguments(objects: &str) -> Vec<Vec<String>> {
    let item = |line: &str| Some(line.trim_start().strip_prefix("- ")?.trim_matches('"').to_owned());
    let lists = objects.split("args:\n").skip(1);
    lists.map(|list| list.lines().map_while(item).collect()).collect()
}

#[test]
fn the_program_takes_the_arguments_of_the_jobs() {
    use clap::Parser as _;
    let Some(helm) = helm() else { return };
    let chart = root().join("charts/s3veil");
    let example = chart.join("examples/migrate-job.yaml");
    let objects = template(&helm, &chart, &["--values", example.to_str().unwrap()]);
    let commands: Vec<_> = arguments(&objects)
        .into_iter()
        .filter(|list| ["migrate", "verify"].contains(&list[0].as_str()))
        .collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        // What the kubelet puts in.
        let command = command.iter().map(|one| one.replace("$(JOB_COMPLETION_INDEX)", "7"));
        let parsed = s3veil::cli::Arguments::try_parse_from(["s3veil".to_owned()].into_iter().chain(command));
        parsed.unwrap_or_else(|why| panic!("{why}"));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

#[test]
fn the_program_takes_the_configuration_of_every_example() {
    let Some(helm) = helm() else { return };
    let chart = root().join("charts/s3veil");
    let mut seen = 0;
    for entry in fs::read_dir(chart.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let name = path.display().to_string();
        let text = proxy_toml(&template(&helm, &chart, &["--values", &name]));
        let config = accepted(&text, &name);
        assert_eq!(config.listen.to_string(), "0.0.0.0:8333", "{name}");
        assert!(config.admin.is_some() && !config.policy.is_empty(), "{name}");
        seen += 1;
    }
    assert!(seen >= 8, "{seen} examples");
}

#[test]
fn the_sidecar_listens_on_loopback_and_is_taken_by_the_program() {
    let Some(helm) = helm() else { return };
    let directory = tempfile::tempdir().unwrap();
    let chart = root().join("charts/s3veil");
    let app = directory.path().join("app");
    copy(&chart.join("examples/sidecar-app"), &app);
    copy(&chart, &app.join("charts/s3veil"));
    // Whatever the values say of it.
    let wide = ["--set", "s3veil.config.listen=0.0.0.0:8333"];
    let objects = template(&helm, &app, &wide);
    let config = accepted(&proxy_toml(&objects), "sidecar-app");
    assert!(config.listen.ip().is_loopback(), "{}", config.listen);
    // The flag wins over the file and the environment: in the Deployment and in the Job.
    let flags: Vec<&str> = objects.split("--listen").skip(1).collect();
    assert_eq!(flags.len(), 2, "{objects}");
    for rest in flags {
        let address = rest.trim_start_matches([',', ' ', '\n', '-', '"']);
        assert!(address.starts_with("127.0.0.1:8333"), "{address}");
    }
}

/// The keys that the program knows in a section: it lists them where it refuses one that it does not know.
fn known(section: &str) -> BTreeSet<String> {
    let base = [
        ("store", "endpoint = 'http://s'\ncredentials.default = { access_key = 'a', secret_key = 's' }"),
        ("kms.k", "kind = 'local'\npath = '/k'\nmaster_key = 's'"),
        ("policy", "bucket = '*'\nek = 'main'"),
        ("auth.identities", "name = 'a'\naccess_key = 'a'\nsecret_key = 's'"),
        ("admin", "listen = '127.0.0.1:1'"),
    ];
    let mut text = String::new();
    if section.is_empty() {
        text.push_str("zzz = 1\n");
    }
    let mut seen = section.is_empty();
    for (name, inside) in base {
        let header = if ["policy", "auth.identities"].contains(&name) {
            format!("[[{name}]]")
        } else {
            format!("[{name}]")
        };
        text.push_str(&format!("{header}\n{inside}\n"));
        if name == section {
            text.push_str("zzz = 1\n");
            seen = true;
        }
    }
    if !seen {
        text.push_str(&format!("[{section}]\nzzz = 1\n"));
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.toml");
    fs::write(&file, text).unwrap();
    let why = Config::load(&file, &[]).unwrap_err();
    let line = why.lines().find(|line| line.contains("zzz: there is no such key"));
    let line = line.unwrap_or_else(|| panic!("[{section}]: {why}"));
    let (_, list) = line.split_once("write one of: ").unwrap();
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_schema_of_the_values_has_the_programs_keys() {
    let text = fs::read_to_string(root().join("charts/s3veil/values.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    let config = &schema["properties"]["config"]["properties"];
    let names = |properties: &serde_json::Value| -> BTreeSet<String> {
        properties.as_object().unwrap().keys().cloned().collect()
    };
    let mut top = names(config);
    // Written by the value `tls`.
    top.insert("tls".to_owned());
    assert_eq!(top, known(""));
    for section in ["store", "state", "cache", "auth", "admin", "log", "traces"] {
        assert_eq!(names(&config[section]["properties"]), known(section), "[{section}]");
    }
    assert_eq!(names(&schema["definitions"]["limits"]["properties"]), known("limits"), "[limits]");
    assert_eq!(names(&config["policy"]["items"]["properties"]), known("policy"), "[[policy]]");
    let identity = &config["auth"]["properties"]["identities"]["items"]["properties"];
    assert_eq!(names(identity), known("auth.identities"), "[[auth.identities]]");
}

/// The names that begin with `s3veil_` in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    text.match_indices("s3veil_")
        .filter(|(at, _)| {
            !text[..*at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_')
        })
        .map(|(at, _)| {
            text[at..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
                .collect()
        })
        .collect()
}

#[test]
fn every_metric_of_alerts_and_dashboard_is_one_of_the_program() {
    let files = fs::read_dir(root().join("src/metrics")).unwrap().map(|entry| entry.unwrap().path());
    let sources = files.map(|file| fs::read_to_string(file).unwrap());
    let declared = metrics(&sources.collect::<String>());
    let mut missing = BTreeSet::new();
    for file in ["templates/_alerts.tpl", "dashboards/s3veil.json"] {
        let text = fs::read_to_string(root().join("charts/s3veil").join(file)).unwrap();
        let used = metrics(&text);
        assert!(used.len() > 10, "{file} uses {}", used.len());
        for name in used {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            if !declared.contains(of_histogram.unwrap_or(&name)) && !declared.contains(&name) {
                missing.insert(name);
            }
        }
    }
    assert!(missing.is_empty(), "src/metrics has none of {missing:?}");
}

#[test]
fn every_alert_has_its_heading_in_the_runbook() {
    let alerts = fs::read_to_string(root().join("charts/s3veil/templates/_alerts.tpl")).unwrap();
    let alerts: Vec<&str> = alerts.lines().filter_map(|line| line.strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let runbook = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    for alert in alerts {
        assert!(runbook.contains(&format!("\n### {alert}\n")), "docs/operations.md has no '### {alert}'");
    }
}

#[test]
fn the_chart_is_of_this_version() {
    let chart = fs::read_to_string(root().join("charts/s3veil/Chart.yaml")).unwrap();
    assert!(chart.contains(&format!("\nappVersion: {}\n", env!("CARGO_PKG_VERSION"))), "{chart}");
    // A chart that asks for the sidecar can't see Chart.yaml.
    let helpers = fs::read_to_string(root().join("charts/s3veil/templates/_helpers.tpl")).unwrap();
    let version = format!("{{{{- define \"s3veil.version\" -}}}}\n{}\n", env!("CARGO_PKG_VERSION"));
    assert!(helpers.contains(&version), "_helpers.tpl: s3veil.version");
}
