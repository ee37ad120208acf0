//! stub
#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand { /// l
 List }
pub async fn run(_c: KeyCommand, _k: &dyn crate::kms::Kms, _o: &mut impl std::io::Write) -> anyhow::Result<()> { todo!() }
