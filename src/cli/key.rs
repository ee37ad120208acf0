//! `s3veil key`: the EKs of a KMS.

use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use crate::kms::{Answer, Context, EkInfo, EkName, Error, Kms};
use crate::s3::Bucket;

/// How long a KMS may take for one command on one EK. Long: some purge while one waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to do, and how to say that it is done.
#[derive(Debug, clap::Args)]
pub struct KeyRequest {
    /// The result as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What to do with an EK.
#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Create an EK.
    Create {
        /// Its name.
        name: EkName,
        /// It is good if it is there already: for what runs at every start.
        #[arg(long)]
        if_missing: bool,
    },
    /// List the EKs.
    List,
    /// Show one EK.
    Info {
        /// Its name.
        name: EkName,
    },
    /// Lock an EK: its objects can't be read or written until it is enabled. Asks for the name again where that may be for
    /// good.
    Disable {
        /// Its name.
        name: EkName,
        /// The name again, for a script that can't be asked.
        #[arg(long, value_name = "NAME")]
        confirm: Option<EkName>,
    },
    /// Unlock an EK; bring back one whose deletion is pending.
    Enable {
        /// Its name.
        name: EkName,
    },
    /// Give an EK a new version: it wraps from now on, and the old ones still unwrap.
    Rotate {
        /// Its name.
        name: EkName,
    },
    /// Destroy an EK, and with it every object sealed under it. Asks for the name again.
    Delete {
        /// Its name.
        name: EkName,
        /// The name again, for a script that can't be asked.
        #[arg(long, value_name = "NAME")]
        confirm: Option<EkName>,
    },
    /// Have a DEK generated, and print it in clear and wrapped: whether, and how, an EK works.
    Dek {
        /// The EK's name.
        name: EkName,
        /// The bucket of its encryption context.
        #[arg(long, default_value = "s3veil-probe", value_parser = parse_bucket)]
        bucket: Bucket,
    },
}

fn parse_bucket(name: &str) -> Result<Bucket, &'static str> {
    Bucket::parse(name).ok_or("not a bucket's name")
}

/// A DEK as `dek` shows it. The field names are those of `kes key dek`.
#[derive(Serialize)]
struct ShownDek<'a> {
    plaintext: &'a str,
    ciphertext: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

/// Does it. `ask` shows a question and gives the line that is typed, or nothing where nobody can be asked.
pub async fn run(
    request: KeyRequest,
    kms: &dyn Kms,
    ask: impl FnOnce(&str) -> Option<String>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let KeyRequest { json, command } = request;
    match command {
        KeyCommand::Create { name, if_missing } => match in_time(kms.create(&name)).await {
            Err(Error::Exists(_)) if if_missing => done(json, "found", &name, "", out),
            created => {
                created.map_err(anyhow::Error::from).and_then(|()| done(json, "created", &name, "", out))
            }
        },
        KeyCommand::List => list(json, kms, out).await,
        KeyCommand::Info { name } => show(json, &in_time(kms.describe(&name)).await?, out),
        KeyCommand::Disable { name, confirm } => {
            if let Some(warning) = kms.disable_warning() {
                confirmed(&name, confirm, &format!("Disabling '{name}': {warning}"), ask)?;
            }
            in_time(kms.disable(&name)).await?;
            done(json, "disabled", &name, ": a running s3veil locks its objects within its cache time", out)
        }
        KeyCommand::Enable { name } => {
            in_time(kms.enable(&name)).await?;
            done(json, "enabled", &name, "", out)
        }
        KeyCommand::Rotate { name } => {
            in_time(kms.rotate(&name)).await?;
            done(
                json,
                "rotated",
                &name,
                ": a running s3veil takes the new version within its cache time",
                out,
            )
        }
        KeyCommand::Delete { name, confirm } => {
            let warning = format!(
                "Deleting '{name}' erases every object sealed under it, for good, and no backup of the store helps; `s3veil \
                 key disable {name}` locks them instead"
            );
            confirmed(&name, confirm, &warning, ask)?;
            in_time(kms.delete(&name)).await?;
            done(json, "deleted", &name, ": a running s3veil loses it within its cache time", out)
        }
        KeyCommand::Dek { name, bucket } => {
            let made = in_time(kms.generate(&name, &Context::of_bucket(&bucket))).await?;
            let plaintext = made.dek.to_base64();
            let ciphertext = BASE64_STANDARD.encode(made.wrapped.as_bytes());
            let shown = ShownDek { plaintext: &plaintext, ciphertext, version: made.version };
            if json {
                return pretty(&shown, out);
            }
            writeln!(out, "plaintext:  {}\nciphertext: {}", shown.plaintext, shown.ciphertext)?;
            shown.version.iter().try_for_each(|version| writeln!(out, "version:    {version}"))?;
            Ok(())
        }
    }
}

/// The KMS's answer, or that there is none.
async fn in_time<T>(answer: Answer<'_, T>) -> Result<T, Error> {
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    answer.unwrap_or_else(|_| Err(Error::Unavailable(format!("no answer in {} s", PATIENCE.as_secs()))))
}

/// Asks at the terminal, if there is one.
pub fn at_terminal(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    let mut err = std::io::stderr();
    write!(err, "{question}").and_then(|()| err.flush()).ok()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok()?;
    Some(line.trim().to_owned())
}

fn confirmed(
    name: &EkName,
    confirm: Option<EkName>,
    warning: &str,
    ask: impl FnOnce(&str) -> Option<String>,
) -> anyhow::Result<()> {
    let again = match confirm {
        Some(again) => Some(again.as_str().to_owned()),
        None => ask(&format!("{warning}.\nType the name again if that is meant: ")),
    };
    match again.as_deref() {
        Some(again) if again == name.as_str() => Ok(()),
        Some(again) => anyhow::bail!("'{again}' is not '{name}': nothing is done"),
        None => anyhow::bail!("{warning}. Say --confirm {name} if that is meant"),
    }
}

async fn list(json: bool, kms: &dyn Kms, out: &mut impl Write) -> anyhow::Result<()> {
    let (mut infos, mut unreadable) = (Vec::new(), Vec::new());
    for name in in_time(kms.list()).await? {
        match in_time(kms.describe(&name)).await {
            Ok(info) => infos.push(info),
            // Deleted meanwhile.
            Err(Error::NoSuchKey(_)) => {}
            Err(why) => unreadable.push(why.to_string()),
        }
    }
    if json {
        pretty(&infos, out)?;
    } else {
        infos.iter().try_for_each(|info| show(false, info, out))?;
    }
    // One that can't be read does not hide the others.
    anyhow::ensure!(unreadable.is_empty(), "keys that can't be read: {}", unreadable.join("; "));
    Ok(())
}

fn show(json: bool, info: &EkInfo, out: &mut impl Write) -> anyhow::Result<()> {
    if json {
        return pretty(info, out);
    }
    let created = info.created.map(|at| at.format(&Rfc3339)).transpose()?.unwrap_or_else(|| "-".into());
    let version = info.version.as_deref().map(|version| format!(" version {version}")).unwrap_or_default();
    writeln!(out, "{:<40} {:<16} {created}{version}", info.name, info.state)?;
    Ok(())
}

fn done(json: bool, what: &str, name: &EkName, rest: &str, out: &mut impl Write) -> anyhow::Result<()> {
    if json {
        return pretty(&serde_json::json!({ "name": name, "done": what }), out);
    }
    writeln!(out, "{what} '{name}'{rest}")?;
    Ok(())
}

fn pretty(value: &impl Serialize, out: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}
