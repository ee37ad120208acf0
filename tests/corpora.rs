//! Replays the fuzz targets: what they begin with, what fuzzing has found to be worth keeping, and every input that
//! once was a finding. `fuzz/README.md` says how those come about.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, Target};

/// The most files of a kept corpus, and the most bytes of one.
const MAX_FILES: usize = 60;
const MAX_BYTES: u64 = 2048;

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target)
}

/// The files of a folder, in their order; none if it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Says which input it was.
struct Running(String);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input: {}", self.0);
        }
    }
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    for (index, seed) in (target.seeds)().iter().enumerate() {
        let _running = Running(format!("seed {index} of {}: {}", target.name, seed.escape_ascii()));
        (target.run)(seed);
    }
    for kind in ["corpus", "findings"] {
        for file in files(&folder(kind, target.name)) {
            let _running = Running(file.display().to_string());
            (target.run)(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn aws_chunked() {
    replay("aws_chunked");
}

#[test]
fn bucket_encryption() {
    replay("bucket_encryption");
}

#[test]
fn complete_upload() {
    replay("complete_upload");
}

#[test]
fn copy_source() {
    replay("copy_source");
}

#[test]
fn delete_objects() {
    replay("delete_objects");
}

#[test]
fn envelope() {
    replay("envelope");
}

#[test]
fn form() {
    replay("form");
}

#[test]
fn listing() {
    replay("listing");
}

#[test]
fn manifest() {
    replay("manifest");
}

#[test]
fn post_policy() {
    replay("post_policy");
}

#[test]
fn range() {
    replay("range");
}

#[test]
fn sealed_stream() {
    replay("sealed_stream");
}

#[test]
fn sigv4() {
    replay("sigv4");
}

#[test]
fn every_target_has_its_replay_its_program_and_a_small_corpus() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).unwrap();
    for Target { name, seeds, .. } in TARGETS {
        let replayed = format!("#[test]\nfn {name}() {{\n    replay(\"{name}\");\n}}");
        assert!(include_str!("corpora.rs").contains(&replayed), "{name} is not replayed");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
        let program = fs::read_to_string(folder("fuzz_targets", &format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("s3veil_fuzz::{name}::run(data)")), "{name}");
        assert!(!seeds().is_empty(), "{name}");
        let kept = files(&folder("corpus", name));
        assert!((1..=MAX_FILES).contains(&kept.len()), "{name}: {} files", kept.len());
        for file in kept {
            assert!(fs::metadata(&file).unwrap().len() <= MAX_BYTES, "{}", file.display());
        }
    }
}

/// Writes the seeds, where a run of the fuzzer begins.
#[test]
#[ignore = "writes fuzz/work; see fuzz/README.md"]
fn write_seeds() {
    for Target { name, seeds, .. } in TARGETS {
        let work = folder("work", name);
        fs::create_dir_all(&work).unwrap();
        for (index, seed) in seeds().iter().enumerate() {
            fs::write(work.join(format!("seed-{index:03}")), seed).unwrap();
        }
    }
}
