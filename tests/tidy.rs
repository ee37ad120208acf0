//! Keeps the house in order: which room may use which, how long a file may be, how it begins.
//!
//! `docs/architecture.md` explains the rooms. A single crate does not enforce their order, so this test does.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in the order of travel. A room uses only rooms before it.
const ORDER: [&str; 21] = [
    "watch",
    "metrics",
    "net",
    "s3",
    "seal",
    "secret",
    "aws",
    "kms",
    "body",
    "auth",
    "operation",
    "policy",
    "backend",
    "response",
    "handler",
    "listener",
    "admin",
    "telemetry",
    "config",
    "app",
    "reload",
];

/// Uses against the order, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 6] = [
    ("metrics", "s3", "an error's blame is a label"),
    ("net", "body", "one body type for every client of HTTP"),
    ("kms", "body", "the same: a KMS is asked over HTTP"),
    ("listener", "app", "the listener is handed the rooms that app has built"),
    ("body", "auth", "a payload says how the body must be read"),
    ("auth", "body", "the framing of a body is part of what is verified"),
];

/// Files over 500 lines, each with its reason.
const LONG: [(&str, &str); 0] = [];

const MAX_LINES: usize = 500;

fn sources(directory: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, out),
            false if path.extension().is_some_and(|kind| kind == "rs") => out.push(path),
            false => {}
        }
    }
}

fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The part of a file that is shipped.
fn shipped(text: &str) -> &str {
    text.split("#[cfg(test)]\n").next().unwrap()
}

fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

#[test]
fn a_room_uses_only_rooms_before_it() {
    let place = |room: &str| ORDER.iter().position(|other| *other == room);
    let mut wrong = Vec::new();
    for (file, text) in files() {
        let from = room(&file);
        if matches!(from, "main" | "lib" | "cli") {
            continue;
        }
        let Some(at) = place(from) else { panic!("{file}: the room '{from}' is not in the order") };
        for (index, _) in shipped(&text).match_indices("crate::") {
            let rest = &text[index + "crate::".len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => list
                    .split('}')
                    .next()
                    .unwrap()
                    .split(',')
                    .map(|name| name.trim().split("::").next().unwrap())
                    .collect(),
                None => vec![rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()],
            };
            for to in names.into_iter().filter(|to| *to != from) {
                let excused = EXCEPTIONS.iter().any(|(a, b, _)| *a == from && *b == to);
                if place(to).is_some_and(|to| to > at) && !excused {
                    wrong.push(format!("{file} uses {to}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for (file, text) in files() {
        assert!(text.starts_with("//! "), "{file}: its first line says what it is");
        let excused = LONG.iter().any(|(long, _)| *long == file);
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES || excused, "{file} has {lines} lines");
    }
}

#[test]
fn nothing_unfinished_and_no_stray_output() {
    for (file, text) in files() {
        let shipped = shipped(&text);
        for word in ["TODO", "FIXME", "todo!(", "unimplemented!(", "dbg!("] {
            assert!(!shipped.contains(word), "{file}: {word}");
        }
        if room(&file) != "cli" && room(&file) != "main" {
            assert!(!shipped.contains("println!("), "{file} prints");
        }
    }
}
