//! The configuration read again in a running process: when its files have changed, and on SIGHUP.
//!
//! All is checked as at the start before anything is swapped, and then it is swapped whole. What can't be used leaves the one
//! before in force, and says so once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::app::{App, Live};
use crate::config::{Config, Sections};
use crate::watch::Contents;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// When a configuration is tried again that could be read and not be used: what was missing may be there by then, an EK or the
/// answer of a KMS.
const AGAIN: Duration = Duration::from_secs(30);

/// Where the configuration comes from: the file and the flags, and the environment in any case.
#[derive(Clone, Debug)]
pub struct Source {
    file: PathBuf,
    flags: Vec<(&'static str, String)>,
}

/// What a configuration was made of.
#[derive(Clone, Debug)]
pub struct Origin {
    sections: Sections,
    /// The file itself, and all that it says secrets are in which are read once.
    files: Contents,
    /// Those of them that the rooms depend on.
    store_files: Contents,
    listen: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Source {
    /// `flags`: `key.path` and value.
    pub fn new(file: PathBuf, flags: Vec<(&'static str, String)>) -> Self {
        Self { file, flags }
    }

    /// Reads it. Secrets in files are read when the App is built from it, and no earlier.
    ///
    /// Errors: one line per mistake with file, key, value and remedy.
    pub fn read(&self) -> Result<(Config, Origin), String> {
        // Before it is read, and the others before the App is built: what changes in between is seen as a change.
        let file = Contents::of([self.file.clone()]);
        let (config, sections) = Config::load_sections(&self.file, &self.flags)?;
        let store_files = Contents::of(config.store_files());
        let files = file.and(&Contents::of(config.front_files())).and(&store_files);
        let (listen, admin) = (config.listen, config.admin.as_ref().map(|admin| admin.listen));
        Ok((config, Origin { sections, files, store_files, listen, admin }))
    }

    /// A message about it.
    pub fn say(&self, why: impl std::fmt::Display) -> String {
        format!("{}: {why}", self.file.display())
    }
}

/// Looks after the configuration of a running process.
pub struct Reloader {
    source: Source,
    live: Arc<Live>,
    /// What the process has begun with. Some of it stays.
    begun: Origin,
    /// What the configuration in force was made of.
    current: Origin,
    /// The files as they were when they were last read.
    files: Contents,
    /// The files once they have changed, until they are seen the same twice.
    changed: Option<Contents>,
    /// Why the files can't be used as they are.
    failure: Option<Failure>,
}

struct Failure {
    why: String,
    /// When to try again, if that can help without a change.
    again: Option<Instant>,
}

/// How an attempt ended.
struct Attempt {
    /// As they were before they were read.
    files: Contents,
    result: Result<(App, Origin), Failure>,
}

impl Reloader {
    /// `origin`: of the App in force.
    pub fn new(source: Source, origin: Origin, live: Arc<Live>) -> Self {
        let (begun, files) = (origin.clone(), origin.files.clone());
        Self { source, live, begun, current: origin, files, changed: None, failure: None }
    }

    /// Goes on as long as the process does.
    pub async fn run(mut self, mut hangups: Signal) {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => self.look().await,
                _ = hangups.recv() => self.reload().await,
            }
        }
    }

    /// Looks whether the files have changed, and reads them if they have and are at rest: what changes again between two looks
    /// is still being written.
    pub async fn look(&mut self) {
        let files = self.files.clone();
        let now = spawn_blocking(move || files.again()).await.expect("looking at files does not panic");
        if now == self.files {
            self.files = now;
            self.changed = None;
            let due = self.failure.as_ref().and_then(|failure| failure.again);
            if due.is_some_and(|due| due <= Instant::now()) {
                self.attempt(false).await;
            }
        } else if self.changed.as_ref() == Some(&now) {
            self.attempt(true).await;
        } else {
            self.changed = Some(now);
        }
    }

    /// Reads the files in any case.
    pub async fn reload(&mut self) {
        self.attempt(true).await;
    }

    /// `news`: it is told if it fails as the last one did.
    async fn attempt(&mut self, news: bool) {
        let Attempt { files, result } = self.read().await;
        self.files = files;
        self.changed = None;
        let metrics = self.live.get().metrics.clone();
        metrics.reload(result.is_ok());
        match result {
            Ok((app, origin)) => {
                let warm = Arc::ptr_eq(&app.rooms, &self.live.get().rooms);
                self.live.set(app);
                self.current = origin;
                self.failure = None;
                let file = self.source.file.display();
                let rooms = if warm { "kept" } else { "made anew" };
                tracing::info!(%file, rooms, "the configuration has been read again and is in force");
                self.tell_what_stays();
            }
            Err(failure) => {
                let why = &failure.why;
                if news || self.failure.as_ref().is_none_or(|before| before.why != *why) {
                    tracing::error!(%why, "the configuration can't be used; the one before stays in force");
                }
                self.failure = Some(failure);
            }
        }
        // Rooms that were tried have shown their KMSs as theirs.
        self.live.get().rooms.keys.show(&metrics);
    }

    /// Reads, builds and tries it. Nothing is in force yet.
    async fn read(&self) -> Attempt {
        let before = self.live.get();
        let (source, files) = (self.source.clone(), self.files.clone());
        let (current, listens) = (self.current.clone(), self.begun.listen);
        let app = before.clone();
        // Files may lie on a slow disk, and other requests' threads are not to wait for it.
        let built = spawn_blocking(move || build(&source, files, &app, &current, listens)).await;
        let attempt = built.unwrap_or_else(|why| {
            // Whatever a file can do to whoever reads it, it must not end the looking.
            let why = self.source.say(format!("s3veil failed over it, which is a mistake of its own: {why}"));
            Attempt { files: self.files.again(), result: Err(Failure { why, again: None }) }
        });
        let Attempt { files, result: Ok((app, origin)) } = attempt else { return attempt };
        let result = match app.probe_beyond(&before).await {
            Ok(()) => Ok((app, origin)),
            Err(why) => Err(Failure::for_now(self.source.say(why))),
        };
        Attempt { files, result }
    }

    fn tell_what_stays(&self) {
        let (begun, now) = (&self.begun, &self.current);
        let restart = "takes a restart of s3veil; what it began with stays";
        if begun.listen != now.listen {
            tracing::warn!(stays = %begun.listen, new = %now.listen, "listen: a change {restart}");
        }
        if begun.admin != now.admin {
            tracing::warn!(stays = ?begun.admin, new = ?now.admin, "admin.listen: a change {restart}");
        }
        if !begun.sections.same("log", &now.sections) {
            tracing::warn!("log: a change {restart}");
        }
    }
}

/// `files`: those that were looked at so far. `listens`: where the process does, whatever the configuration says by now.
fn build(source: &Source, files: Contents, app: &App, current: &Origin, listens: SocketAddr) -> Attempt {
    let files = files.again();
    let (config, origin) = match source.read() {
        Ok(read) => read,
        // It can't be known where its secrets are: those of the last one that could be read may be at fault.
        Err(why) => return Attempt { files, result: Err(Failure { why, again: None }) },
    };
    let keep = current.sections.same_rooms(&origin.sections) && current.store_files == origin.store_files;
    let allowed = config.may_listen(listens);
    let result = allowed.and_then(|()| app.rebuild(config, keep)).map_err(|why| source.say(why));
    let files = origin.files.clone();
    Attempt { files, result: result.map(|app| (app, origin)).map_err(Failure::for_now) }
}

impl Failure {
    fn for_now(why: String) -> Self {
        Self { why, again: Some(Instant::now() + AGAIN) }
    }
}
