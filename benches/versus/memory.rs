//! The most memory that a proxy takes with many clients at once, each with a long body.

use bytes::Bytes;
use http::Method;

use super::cases::Case;
use super::compare::{World, brief, turn};
use super::contenders::Contender;
use super::driver::{Load, What, once};
use super::prepare::Prepared;
use super::results::Memory;

const SIZE: &str = "64 MiB";

/// Uploads, and then downloads, of each contender that is a process of its own and seals.
pub async fn memory(
    world: &World,
    contenders: &[Contender],
    prepared: &mut Prepared,
    clients: usize,
) -> Vec<Memory> {
    let mut turns = Vec::new();
    let sealing = |one: &&Contender| one.seals && !one.native && !one.writes_only();
    for contender in contenders.iter().filter(sealing) {
        for (name, what) in [("uploads", What::Put), ("then downloads", What::Get)] {
            let (unable, round) = match one(world, contender, prepared, what, clients).await {
                Ok(round) => (None, Some(round)),
                Err(why) => (Some(brief(&why)), None),
            };
            let (store, peer, load) = (world.name.to_owned(), contender.name.clone(), name.to_owned());
            turns.push(Memory { store, peer, load, clients, unable, round });
        }
        // They are long, and many: the disk need not keep them for all contenders.
        if let (Ok(peer), Some(_)) = (&contender.peer, &world.files) {
            for number in 0..clients {
                let path = format!("{}-{number}", contender.written());
                once(&peer.target, Method::DELETE, &path, Bytes::new()).await.ok();
            }
        }
    }
    turns
}

async fn one(
    world: &World,
    contender: &Contender,
    prepared: &mut Prepared,
    what: What,
    clients: usize,
) -> Result<super::results::Round, String> {
    let case = Case { name: String::new(), what, size: SIZE, connections: clients, requests: [1, 1] };
    prepared.ready(contender, &case).await?;
    let peer = contender.peer.as_ref().map_err(Clone::clone)?;
    let path = if what == What::Get { contender.kept(SIZE) } else { contender.written() };
    let load = Load { what, path, body: prepared.body(SIZE), connections: clients, requests: 1 };
    turn(world, peer, &load).await
}
