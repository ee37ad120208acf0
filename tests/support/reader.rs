//! The second reader: `tests/reader/s3veil_reader.py`, written from `docs/format.md` alone.
#![allow(dead_code)] // Each test file uses its own part of this.

use std::path::{Path, PathBuf};
use std::process::Command;

use s3veil::seal::Place;

/// The reader, with a Python that can run it.
pub struct SecondReader(PathBuf);

impl SecondReader {
    /// With the Python of the test tools; without one the test is skipped, but never in CI.
    pub fn find() -> Option<Self> {
        let folder = std::env::var_os("S3VEIL_TOOLS").map(PathBuf::from).or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(Path::new(&home).join(".cache/s3veil-tools"))
        });
        let python = folder?.join("venv/bin/python");
        let ready = Command::new(&python).args(["-c", "import cryptography"]).output();
        if ready.is_ok_and(|out| out.status.success()) {
            return Some(Self(python));
        }
        let why = format!("no Python with `cryptography` at {}", python.display());
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
        println!("skipped: {why}");
        None
    }

    /// Has it check files of vectors, each by its name in `tests/vectors`.
    pub fn check_vectors(&self, names: &[&str]) {
        let files = names.iter().map(|name| in_tests("vectors").join(name));
        let out = self.command("vectors").args(files).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// The plaintext of a sealed body; what it says if it does not open.
    pub fn read(
        &self,
        envelope: &str,
        body: &[u8],
        dek: [u8; 32],
        place: Place<'_>,
    ) -> Result<Vec<u8>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, body).unwrap();
        // An array of three begins with "g" in base64, so that no envelope looks like an option.
        let mut command = self.command("read");
        command.arg(envelope).arg(file.path()).args([&hex::encode(dek), place.bucket, place.key]);
        let out = command.output().unwrap();
        match out.status.success() {
            true => Ok(out.stdout),
            false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        }
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(&self.0);
        command.arg("-B").arg(in_tests("reader/s3veil_reader.py")).arg(what);
        command
    }
}

fn in_tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}
