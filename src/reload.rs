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
    /// The file itself, and all that it names which are read once.
    files: Contents,
    /// Those of them that the rooms depend on.
    room_files: Contents,
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
        let room_files = Contents::of(config.room_files());
        let files = file.and(&Contents::of(config.front_files())).and(&room_files);
        let (listen, admin) = (config.listen, config.admin.as_ref().map(|admin| admin.listen));
        Ok((config, Origin { sections, files, room_files, listen, admin }))
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
        let now = match self.seen().await {
            Ok(now) => now,
            Err(why) => {
                // What waits for another attempt goes on waiting for it.
                let again = self.failure.as_ref().and_then(|failure| failure.again);
                return self.failed(Failure { why, again }, false);
            }
        };
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

    /// The files as they are now. They may lie on a slow disk, and other requests' threads are not to wait for it.
    ///
    /// Errors: whatever a file can do to whoever looks at it: it must not end the looking.
    async fn seen(&self) -> Result<Contents, String> {
        let files = self.files.clone();
        spawn_blocking(move || files.again()).await.map_err(|_| self.own_mistake())
    }

    /// A panic has told its own story when it happened. Without it this is the same text each time, and so told once.
    fn own_mistake(&self) -> String {
        self.source
            .say("s3veil failed over it, which is a mistake of its own: see the panic that it has shown")
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
        match result {
            Ok((app, origin)) => {
                let warm = Arc::ptr_eq(&app.rooms, &self.live.get().rooms);
                self.live.set(app);
                // Whoever sees these counted finds the new one in force.
                metrics.reload(true);
                self.current = origin;
                self.failure = None;
                self.tell_what_stays();
                let file = self.source.file.display();
                let rooms = if warm { "kept" } else { "made anew" };
                tracing::info!(%file, rooms, "the configuration has been read again and is in force");
            }
            Err(failure) => {
                metrics.reload(false);
                self.failed(failure, news);
            }
        }
        // Rooms that were tried have shown their KMSs and their store as theirs.
        let rooms = self.live.get().rooms.clone();
        rooms.keys.show(&metrics);
        rooms.backend.show();
    }

    /// `news`: it is told if it is the same as the last one.
    fn failed(&mut self, failure: Failure, news: bool) {
        let why = &failure.why;
        if news || self.failure.as_ref().is_none_or(|before| before.why != *why) {
            tracing::error!(%why, "the configuration can't be used; the one before stays in force");
        }
        self.failure = Some(failure);
    }

    /// Reads, builds and tries it. Nothing is in force yet.
    async fn read(&self) -> Attempt {
        let before = self.live.get();
        let (source, files) = (self.source.clone(), self.files.clone());
        let (current, listens) = (self.current.clone(), self.begun.listen);
        let app = before.clone();
        let attempt = match spawn_blocking(move || build(&source, files, &app, &current, listens)).await {
            Ok(attempt) => attempt,
            Err(_) => {
                let failure = Failure { why: self.own_mistake(), again: None };
                // If even looking at them fails, they count as another by the next look that does not.
                let files = self.seen().await.unwrap_or_else(|_| self.files.clone());
                Attempt { files, result: Err(failure) }
            }
        };
        let Attempt { files, result: Ok((app, origin)) } = attempt else { return attempt };
        // A task of its own, so that a mistake in what asks a KMS does not end the looking either.
        let probed = tokio::spawn(async move {
            let probed = app.probe_beyond(&before).await;
            (app, probed)
        });
        let result = match probed.await {
            Ok((app, Ok(()))) => Ok((app, origin)),
            Ok((_, Err(why))) => Err(Failure::for_now(self.source.say(why))),
            Err(_) => Err(Failure::for_now(self.own_mistake())),
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
        for section in ["log", "traces"] {
            if !begun.sections.same(section, &now.sections) {
                tracing::warn!("{section}: a change {restart}");
            }
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
    let keep = current.sections.same_rooms(&origin.sections) && current.room_files == origin.room_files;
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
