//! `s3veil key`: the EKs of a KMS.

use std::io::Write;

use time::format_description::well_known::Rfc3339;

use crate::kms::{EkInfo, EkName, Error, Kms};

/// What to do with an EK.
#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Create an EK.
    Create {
        /// Its name.
        name: EkName,
    },
    /// List the EKs.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one EK.
    Info {
        /// Its name.
        name: EkName,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lock an EK: its objects can't be read or written until it is enabled.
    Disable {
        /// Its name.
        name: EkName,
    },
    /// Unlock an EK.
    Enable {
        /// Its name.
        name: EkName,
    },
    /// Destroy an EK, and with it every object sealed under it.
    Delete {
        /// Its name.
        name: EkName,
        /// Yes, erase them for good.
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
pub async fn run(command: KeyCommand, kms: &dyn Kms, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create { name } => {
            kms.create(&name).await?;
            writeln!(out, "created '{name}'")?;
        }
        KeyCommand::List { json } => {
            let (mut infos, mut unreadable) = (Vec::new(), Vec::new());
            for name in kms.list().await? {
                match kms.describe(&name).await {
                    Ok(info) => infos.push(info),
                    // Deleted meanwhile.
                    Err(Error::NoSuchKey(_)) => {}
                    Err(why) => unreadable.push(why.to_string()),
                }
            }
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&infos)?)?;
            } else {
                infos.iter().try_for_each(|info| line(info, out))?;
            }
            // One that can't be read does not hide the others.
            anyhow::ensure!(unreadable.is_empty(), "keys that can't be read: {}", unreadable.join("; "));
        }
        KeyCommand::Info { name, json } => {
            let info = kms.describe(&name).await?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&info)?)?;
            } else {
                line(&info, out)?;
            }
        }
        KeyCommand::Disable { name } => {
            kms.disable(&name).await?;
            writeln!(out, "disabled '{name}': a running s3veil locks its objects within its cache time")?;
        }
        KeyCommand::Enable { name } => {
            kms.enable(&name).await?;
            writeln!(out, "enabled '{name}'")?;
        }
        KeyCommand::Delete { name, yes } => {
            anyhow::ensure!(
                yes,
                "deleting '{name}' erases every object sealed under it, for good, and no backup of the store helps. \
                 Say --yes if that is meant; `s3veil key disable {name}` locks them instead"
            );
            kms.delete(&name).await?;
            writeln!(out, "deleted '{name}'")?;
        }
    }
    Ok(())
}

fn line(info: &EkInfo, out: &mut impl Write) -> anyhow::Result<()> {
    let created = info.created.map(|at| at.format(&Rfc3339)).transpose()?.unwrap_or_else(|| "-".into());
    writeln!(out, "{:<40} {:<10} {created}", info.name, info.state)?;
    Ok(())
}
