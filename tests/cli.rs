//! What the program says about itself: completions, as a real shell takes them, and man pages, as a real formatter does.

#[path = "support/servers.rs"]
mod servers;

use std::fs;
use std::process::{Command, Output, Stdio};

use servers::{skip, tool};

/// Runs s3veil with these arguments.
fn s3veil(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_s3veil")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs bash, which reads nobody's settings.
fn bash(script: &str) -> String {
    let output = Command::new("bash").args(["--norc", "--noprofile", "-c", script]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    text(&output)
}

#[test]
fn bash_completes_commands_options_and_values() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("s3veil.bash");
    fs::write(&script, text(&s3veil(&["completions", "bash"]))).unwrap();
    let script = script.display();
    bash(&format!("bash -n {script}"));
    // What a press of Tab does behind these words: the function that the script has registered is run.
    let complete = |words: &str| {
        let found = bash(&format!(
            r#"
            source {script}
            [[ $(complete -p s3veil) =~ \ -F\ ([^ ]+) ]]
            COMP_WORDS=({words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) COMPREPLY=()
            "${{BASH_REMATCH[1]}}" s3veil "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD - 1]}}"
            echo "${{COMPREPLY[@]}}"
            "#
        ));
        found.trim().to_owned()
    };
    assert_eq!(complete("s3veil uns"), "unseal");
    assert_eq!(complete("s3veil key cr"), "create");
    assert_eq!(complete("s3veil serve --li"), "--listen");
    assert_eq!(complete("s3veil completions zs"), "zsh");
    assert_eq!(complete("s3veil nothing-like-this"), "");
}

#[test]
fn each_shell_has_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = text(&s3veil(&["completions", shell]));
        for command in ["serve", "dev", "key", "rotate", "unseal", "completions"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let unknown = s3veil(&["completions", "csh"]);
    assert!(
        !unknown.status.success() && String::from_utf8_lossy(&unknown.stderr).contains("possible values")
    );
}

#[test]
fn every_command_has_a_man_page() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    assert_eq!(text(&s3veil(&["man", "--directory", pages.to_str().unwrap()])), "");
    let read = |name: &str| fs::read_to_string(pages.join(name)).unwrap();
    assert_eq!(read("s3veil.1"), text(&s3veil(&["man"])));
    assert!(read("s3veil-serve.1").contains("S3VEIL_CONFIG"));

    // Each is named in a list of commands above it, and nothing is named that has no page.
    let names: Vec<_> = fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.len() > 15, "{names:?}");
    let all: String = names.iter().map(|name| read(name)).collect();
    for name in names.iter().filter(|name| *name != "s3veil.1") {
        let reference = format!("{}(1)", name.trim_end_matches(".1").replace('-', "\\-"));
        assert!(all.contains(&reference), "{reference}");
    }
    for line in all.lines().filter(|line| line.starts_with("s3veil\\-") && line.ends_with("(1)")) {
        let name = line.replace('\\', "").replace("(1)", ".1");
        assert!(names.contains(&name), "{name}");
    }

    let groff = match tool("groff") {
        Ok(groff) => groff,
        Err(why) => return skip(&format!("man pages through groff: {why}")),
    };
    for name in &names {
        let output = Command::new(&groff)
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(pages.join(name))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{name}: {output:?}");
    }
}

#[test]
fn a_place_that_cannot_be_written_to_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = s3veil(&["man", "--directory", file.path().join("man").to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("--directory") && said.contains("/man'"), "{said}");
}
