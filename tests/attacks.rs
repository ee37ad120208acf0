//! `docs/attacks.md` is of today: each test that it names is there, each line has one or says why not, and each test that has a
//! line's number in its name stands in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The numbers that lines have, by kind: from 1 to this.
const NUMBERS: [(char, usize); 3] = [('F', 23), ('A', 20), ('K', 16)];

/// A line of a table: what stands first in it, and all of it.
struct Line {
    name: String,
    text: String,
}

impl Line {
    /// `file.rs::name`, as the line has them in backticks.
    fn tests(&self) -> impl Iterator<Item = (&str, &str)> {
        let quoted = self.text.split('`').skip(1).step_by(2);
        quoted.filter_map(|text| text.split_once("::")).filter(|(file, _)| file.ends_with(".rs"))
    }
}

fn lines() -> Vec<Line> {
    let text = fs::read_to_string(root().join("docs/attacks.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let line = |row: &str| Line { name: row.split('|').next().unwrap().trim().into(), text: row.into() };
    let lines: Vec<_> = rows.map(line).filter(|line| !line.name.starts_with("---")).collect();
    // Three of them are heads.
    lines.into_iter().filter(|line| !matches!(line.name.as_str(), "" | "where")).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where a test stands that the document names.
fn place(file: &str) -> PathBuf {
    if file.starts_with("src/") { root().join(file) } else { root().join("tests").join(file) }
}

/// The functions of a file that an attribute makes tests.
fn tests_of(text: &str) -> BTreeSet<String> {
    let (mut tests, mut marked) = (BTreeSet::new(), false);
    for line in text.lines().map(str::trim) {
        marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let signature = line.split_once("fn ").filter(|(before, _)| matches!(*before, "" | "async "));
        if let Some((_, rest)) = signature
            && std::mem::take(&mut marked)
        {
            tests.insert(rest.split('(').next().unwrap().to_owned());
        }
    }
    tests
}

fn rust_files(directory: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => rust_files(&path, out),
            false if path.extension().is_some_and(|kind| kind == "rs") => out.push(path),
            false => {}
        }
    }
}

#[test]
fn each_test_that_is_named_is_there() {
    let mut known: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    let mut gone = Vec::new();
    for line in lines() {
        for (file, name) in line.tests() {
            let path = place(file);
            let tests = known
                .entry(path.clone())
                .or_insert_with(|| fs::read_to_string(&path).map(|text| tests_of(&text)).unwrap_or_default());
            if !tests.contains(name) {
                gone.push(format!("{}: {file}::{name}", line.name));
            }
        }
    }
    assert!(gone.is_empty(), "docs/attacks.md names tests that are not there: {gone:#?}");
    assert!(known.len() > 30, "{} files: the document is not read as it is written", known.len());
}

#[test]
fn each_line_has_a_test_or_says_why_not() {
    let lines = lines();
    for line in &lines {
        let tried = line.tests().next().is_some();
        assert_ne!(tried, line.text.contains("| Not tried: "), "{}", line.name);
    }
    let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    for (kind, last) in NUMBERS {
        for number in 1..=last {
            let name = format!("{kind}-{number}");
            assert_eq!(names.iter().filter(|other| **other == name).count(), 1, "{name}");
        }
    }
}

/// `a_07_...` is a test of A-7, and `k_01_to_k_04_...` one of several.
#[test]
fn each_test_with_a_number_stands_in_the_table() {
    let mut files = Vec::new();
    for directory in ["tests", "src"] {
        rust_files(&root().join(directory), &mut files);
    }
    let named: BTreeSet<String> = lines()
        .iter()
        .flat_map(|line| line.tests().map(|(_, name)| name.to_owned()).collect::<Vec<_>>())
        .collect();
    let numbered = |name: &str| {
        let bytes = name.as_bytes();
        matches!(bytes, [b'f' | b'a' | b'k', b'_', b'0'..=b'9', b'0'..=b'9', b'_', ..])
    };
    let mut missing = Vec::new();
    for file in files {
        let tests = tests_of(&fs::read_to_string(&file).unwrap());
        missing.extend(tests.into_iter().filter(|name| numbered(name) && !named.contains(name)));
    }
    assert!(missing.is_empty(), "docs/attacks.md does not name {missing:#?}");
}
