//! The command line: a file per command.

mod completions;
mod config;
mod dev;
mod embedded;
mod estate;
mod gc;
mod inspect;
pub mod key;
mod man;
mod object;
mod serve;
mod unseal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::Live;

/// A transparent encrypting reverse proxy for S3.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve S3 in front of the store of the configuration.
    Serve(serve::Serve),
    /// Try it: embedded store and keystore, loopback only, nothing to install.
    Dev(dev::Dev),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Manage the EKs of a KMS.
    Key(KeyArguments),
    /// Show what an object's envelope says. Nothing secret, and nothing verified.
    Inspect(inspect::Inspect),
    /// Remove what a crash left of multipart uploads; only shows it, unless told.
    Gc(gc::Gc),
    /// Seal the plain objects of a bucket where they are, or open sealed ones again; only counts them, unless told.
    Migrate(estate::Migrate),
    /// Put sealed objects under another EK without moving their bodies; only counts them, unless told.
    Rotate(estate::Rotate),
    /// Read everything in a bucket, and say what does not authenticate.
    Verify(estate::Verify),
    /// Count what is sealed under which EK, and what is plain.
    Stat(estate::Stat),
    /// Open a raw stored body without any store: with its envelope, its name and the KMS.
    Unseal(unseal::Unseal),
    /// Print the completions of a shell.
    Completions(completions::Completions),
    /// Print the manual as a man page, or write a page for every command.
    Man(man::Man),
}

#[derive(Debug, clap::Args)]
struct KeyArguments {
    #[command(flatten)]
    file: ConfigFile,
    /// The KMS, by its name in the configuration; may be left out where there is only one.
    #[arg(long)]
    kms: Option<String>,
    #[command(flatten)]
    request: key::KeyRequest,
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "proxy.toml", env = "S3VEIL_CONFIG")]
    config: PathBuf,
}

/// Runs a command.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Serve(command) => command.run().await,
        Command::Dev(command) => command.run().await,
        Command::Config(command) => command.run().await,
        Command::Key(arguments) => arguments.run().await,
        Command::Inspect(command) => command.run().await,
        Command::Gc(command) => command.run().await,
        Command::Migrate(command) => command.run().await,
        Command::Rotate(command) => command.run().await,
        Command::Verify(command) => command.run().await,
        Command::Stat(command) => command.run().await,
        Command::Unseal(command) => command.run().await,
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    }
}

impl KeyArguments {
    async fn run(self) -> anyhow::Result<()> {
        let file = &self.file.config;
        let kmss = crate::config::kms(file).map_err(anyhow::Error::msg)?.kms;
        let mut kmss = kmss.build().map_err(|why| anyhow::anyhow!("{}: {why}", file.display()))?;
        let names: Vec<String> = kmss.keys().cloned().collect();
        let name = the_kms(self.kms.as_deref(), &names)?;
        let kms = kmss.remove(&name).expect("it is one of them");
        key::run(self.request, kms.as_ref(), key::at_terminal, &mut std::io::stdout()).await
    }
}

/// The KMS that `--kms` names, or the only one.
///
/// Errors: a message that names those that there are.
fn the_kms(asked: Option<&str>, names: &[String]) -> anyhow::Result<String> {
    let all = names.join(", ");
    match asked {
        Some(name) if names.iter().any(|known| known == name) => Ok(name.to_owned()),
        Some(name) => anyhow::bail!("--kms: there is no '{name}', but {all}"),
        None if names.len() == 1 => Ok(all),
        None => anyhow::bail!("there are several KMSs ({all}). Name one with --kms"),
    }
}

/// Keeps keys out of core dumps and away from other processes' debuggers, before anything is read.
pub fn harden() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    // Either may be forbidden in a container; the other then still holds, and neither is worth not starting.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
}

/// As many open files as the process may have: each connection is one, and mostly a second one to the store. Shells and
/// service managers set a low number that whoever wants more has to raise, and older programs rely on that.
fn open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).ok();
}

/// Starts the admin listener, if there is to be one, and gives its address. It goes on as long as the process does.
///
/// Errors: a message that names the key, its value and what is wrong.
async fn serve_admin(live: &Arc<Live>) -> Result<Option<SocketAddr>, String> {
    let Some(listen) = live.get().admin.as_ref().map(|admin| admin.listen) else { return Ok(None) };
    let bound = async {
        let listener = TcpListener::bind(listen).await?;
        Ok::<_, std::io::Error>((listener.local_addr()?, listener))
    };
    let (address, listener) = bound
        .await
        .map_err(|why| format!("admin.listen: '{listen}' can't be bound: {why}. Name another port"))?;
    let live = live.clone();
    let current = move || live.get().admin.clone().expect("once it is there it stays");
    tokio::spawn(crate::admin::serve(current, listener));
    Ok(Some(address))
}

/// The signals that ask the process to end, heard from before anybody can know that s3veil is there: the first process of a
/// container never gets a signal that it does not listen for. One that comes twice counts twice.
struct Stops {
    interrupts: Signal,
    terminations: Signal,
}

impl Stops {
    fn listen() -> anyhow::Result<Self> {
        let signal = |kind| signal(kind).context("SIGINT and SIGTERM can't be listened for");
        Ok(Self {
            interrupts: signal(SignalKind::interrupt())?,
            terminations: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        tokio::select! { _ = self.interrupts.recv() => {}, _ = self.terminations.recv() => {} }
    }
}
