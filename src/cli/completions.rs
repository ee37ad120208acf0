//! `s3veil completions`: what a shell must know to complete s3veil's commands.

use std::io::Write as _;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Arguments;

#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell. Its own manual says where completions are kept.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<()> {
        // Gathered first: the generator takes a writer that fails for a mistake of its own, and panics.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "s3veil", &mut script);
        std::io::stdout().write_all(&script).context("the completions can't be written")
    }
}
