//! Accepts connections within the limits, and lets those that are at work finish before it ends.

mod answer;
mod begun;
mod connection;
mod counted;
mod drain;
mod handshake;
mod held;
mod limits;
mod lingering;
mod log;
mod paced;
mod pulse;
mod shed;
mod span;
mod streams;
mod tls;

pub use limits::{Limits, LimitsConfig};
pub use tls::{ClientCertificates, Tls, TlsConfig};

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::app::Live;
use connection::Door;
use drain::{Drain, Phase};

/// How often the certificate is looked at for the metric, and so that a broken one is told of before anybody connects.
const LOOK: Duration = Duration::from_secs(10);

/// Serves until `stop` says so, then lets requests at work finish. A second time ends it at once.
pub async fn serve(live: Arc<Live>, listener: TcpListener, mut stop: impl AsyncFnMut()) {
    let metrics = live.get().metrics.clone();
    let drain = Drain::new();
    let door = Arc::new(Door::new(live.clone()));
    tokio::select! {
        () = accept(&door, &listener, &drain) => {}
        () = stop() => {}
    }
    let limits = live.get().limits;
    metrics.listener.draining.set(1);
    drain.enter(Phase::Leaving);
    let (delay, rest) = (limits.drain_delay.as_secs(), limits.drain.as_secs());
    tracing::info!(delay, rest, "asked to end: not ready any more");
    tokio::select! {
        () = accept(&door, &listener, &drain) => {}
        () = sleep(limits.drain_delay) => {}
        () = stop() => return cut(&door, &drain, "asked to end a second time").await,
    }
    drop(listener);
    drain.enter(Phase::Closing);
    let detached = live.get().rooms.detached.clone();
    let over = async {
        drain.over().await;
        // Begun by requests whose clients have not waited for it.
        detached.over().await;
    };
    tokio::select! {
        () = over => tracing::info!("every request has ended"),
        () = sleep(limits.drain) => cut(&door, &drain, "limits.drain_secs is over").await,
        () = stop() => cut(&door, &drain, "asked to end a second time").await,
    }
}

/// Accepts for as long as it is let.
async fn accept(door: &Arc<Door>, listener: &TcpListener, drain: &Drain) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = looks.tick() => {
                door.look();
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => door.enter(stream, peer, drain.phases()),
            Err(why) => {
                // Out of file descriptors, most likely: others are still served, and some will end.
                tracing::warn!(%why, "no connection can be accepted");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Ends what has not ended by itself, and says what.
async fn cut(door: &Door, drain: &Drain, why: &str) {
    let requests = door.requests();
    match requests {
        0 => tracing::info!(why, "connections without a request are cut"),
        _ => tracing::warn!(why, requests, "some requests did not finish in time and are cut"),
    }
    drain.cut().await;
}
