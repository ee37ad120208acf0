//! Other proxies that seal, each as its manual sets it up for this store: `tests/setup --bench` installs them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use super::peers::{Peer, Process};
use super::servers::{Plan, Ready, start, tool};
use super::wire::Target;

const ACCESS_KEY: &str = "VERSUSACCESSKEY";
const SECRET_KEY: &str = "versus-secret-key";
const PASSWORD: &str = "correct-horse-battery-staple-versus";
const SALT: &str = "0123456789abcdef0123456789abcdef";

/// `rclone serve s3` over a crypt remote in this bucket of the store's. It keeps buckets as directories there.
pub fn rclone(name: &str, store: &Target, bucket: &str) -> Result<Peer, String> {
    let program = tool("rclone")?;
    let obscured = |secret: &str| {
        let made =
            Command::new(&program).args(["obscure", secret]).output().map_err(|why| why.to_string())?;
        Ok::<_, String>(String::from_utf8_lossy(&made.stdout).trim().to_owned())
    };
    let (password, salt) = (obscured(PASSWORD)?, obscured(SALT)?);
    serve(name, "rclone", |dir, port| {
        let Target { address, access_key, secret_key } = store;
        let text = format!(
            "[store]\n\
             type = s3\n\
             provider = Minio\n\
             endpoint = http://{address}\n\
             access_key_id = {access_key}\n\
             secret_access_key = {secret_key}\n\
             directory_markers = true\n\
             [sealed]\n\
             type = crypt\n\
             remote = store:{bucket}\n\
             password = {password}\n\
             password2 = {salt}\n"
        );
        let file = dir.join("rclone.conf");
        write(&file, &text)?;
        let mut command = Command::new(&program);
        command.args(["serve", "s3", "sealed:", "--log-level", "ERROR", "--config"]).arg(&file);
        command.args(["--addr", &format!("127.0.0.1:{port}")]);
        command.args(["--auth-key", &format!("{ACCESS_KEY},{SECRET_KEY}")]);
        Ok(command)
    })
}

/// S3Proxy with its encrypted blobstore.
pub fn s3proxy(name: &str, store: &Target) -> Result<Peer, String> {
    let program = tool("s3proxy")?;
    serve(name, "s3proxy", |dir, port| {
        let Target { address, access_key, secret_key } = store;
        let text = format!(
            "s3proxy.endpoint=http://127.0.0.1:{port}\n\
             s3proxy.authorization=aws-v2-or-v4\n\
             s3proxy.identity={ACCESS_KEY}\n\
             s3proxy.credential={SECRET_KEY}\n\
             s3proxy.encrypted-blobstore=true\n\
             s3proxy.encrypted-blobstore-password={PASSWORD}\n\
             s3proxy.encrypted-blobstore-salt={SALT}\n\
             jclouds.provider=s3\n\
             jclouds.endpoint=http://{address}\n\
             jclouds.region=us-east-1\n\
             jclouds.identity={access_key}\n\
             jclouds.credential={secret_key}\n"
        );
        let file = dir.join("s3proxy.conf");
        write(&file, &text)?;
        let mut command = Command::new(&program);
        command.arg("--properties").arg(&file);
        Ok(command)
    })
}

/// Starts a proxy of one process, which serves once it answers anything.
fn serve(
    name: &str,
    program: &'static str,
    command: impl Fn(&Path, u16) -> Result<Command, String>,
) -> Result<Peer, String> {
    let (server, [port]) = start(program, |dir, [port]| {
        let ready = vec![Ready::answer(port, "/", "HTTP/1.1 ")];
        Ok(Plan { command: command(dir, port)?, ready, litter: vec![] })
    })?;
    let target = Target {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
    };
    Ok(Peer { name: name.into(), target, writes_only: false, process: Some(Process::of(server)) })
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|why| format!("{}: {why}", path.display()))
}
