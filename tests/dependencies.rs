//! `docs/dependencies.md` is of today: it has each direct dependency of `Cargo.toml` once, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What a table of dependencies has in the head, so that other tables are passed over.
const HEAD: &str =
    "| crate | kept by | why it is here | licence | newest release | unsafe code, cryptography |";

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The names below every table of dependencies, also those of one platform.
fn direct(manifest: &toml::Table) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (name, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        match name.as_str() {
            "dependencies" | "dev-dependencies" | "build-dependencies" => {
                found.extend(table.keys().map(|name| (name.clone(), 1)));
            }
            "target" => table.values().filter_map(|of| of.as_table()).for_each(|of| found.extend(direct(of))),
            _ => {}
        }
    }
    found
}

#[test]
fn each_direct_dependency_stands_in_the_list_once() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let (mut listed, mut within) = (BTreeMap::new(), false);
    for line in read("docs/dependencies.md").lines() {
        within = line == HEAD || (within && line.starts_with('|'));
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if !within || line == HEAD || cells[0].starts_with("---") {
            continue;
        }
        assert_eq!(cells.len(), 6, "{line}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{line}");
        let name = cells[0].strip_prefix('`').and_then(|name| name.strip_suffix('`'));
        *listed.entry(name.expect("the crate's name in backticks").to_owned()).or_insert(0) += 1;
    }
    assert_eq!(listed, direct(&manifest), "docs/dependencies.md (left) and Cargo.toml (right)");
}
