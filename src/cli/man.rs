//! `s3veil man`: the manual, made of what `--help` says.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};

use super::Arguments;

#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Write a page for s3veil and one for each of its commands into this directory, instead of the first to the terminal.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut manual = Arguments::command().disable_help_subcommand(true);
        // Gives each command its full name, s3veil-key-create.
        manual.build();
        let Some(directory) = self.directory else {
            let mut text = Vec::new();
            page(&manual).render(&mut text)?;
            return std::io::stdout().write_all(&text).context("the page can't be written");
        };
        std::fs::create_dir_all(&directory)
            .and_then(|()| write(&manual, &directory))
            .with_context(|| format!("--directory: the pages can't be written to '{}'", directory.display()))
    }
}

/// The pages of a command and of those below it.
fn write(command: &Command, directory: &Path) -> std::io::Result<()> {
    page(command).generate_to(directory)?;
    command.get_subcommands().try_for_each(|command| write(command, directory))
}

fn page(command: &Command) -> clap_mangen::Man {
    clap_mangen::Man::new(command.clone())
        .source(concat!("s3veil ", env!("CARGO_PKG_VERSION")))
        .manual("s3veil")
}
