//! What has been done so far: a bar on a terminal, lines elsewhere, JSON for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde_json::json;

use super::walk::Problem;

/// How often a line is written where there is no terminal.
const LINES: Duration = Duration::from_secs(10);

/// How often a terminal's bar moves.
const MOVES: Duration = Duration::from_millis(200);

/// What was counted of one kind: objects, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub objects: u64,
    pub bytes: u64,
}

#[derive(Default)]
struct State {
    counts: BTreeMap<String, Count>,
    all: Count,
    problems: u64,
    /// All there is to do, once it has been counted.
    total: Option<Count>,
}

/// What has been done so far.
pub(super) struct Progress {
    verb: &'static str,
    begun: Instant,
    state: Mutex<State>,
    face: Face,
}

enum Face {
    Bar(ProgressBar),
    Lines,
    Json,
}

impl Progress {
    pub fn new(verb: &'static str, json: bool) -> Arc<Self> {
        let face = match json {
            true => Face::Json,
            false if std::io::stderr().is_terminal() => Face::Bar(bar()),
            false => Face::Lines,
        };
        Arc::new(Self { verb, begun: Instant::now(), state: Mutex::default(), face })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object is done: what it was, and its bytes.
    pub fn done(&self, what: String, bytes: u64) {
        let mut state = self.state();
        let count = state.counts.entry(what).or_default();
        (count.objects, count.bytes) = (count.objects + 1, count.bytes + bytes);
        (state.all.objects, state.all.bytes) = (state.all.objects + 1, state.all.bytes + bytes);
    }

    /// Something is wrong with an object, which is named.
    pub fn problem(&self, object: &str, problem: &Problem) {
        self.state().problems += 1;
        let Problem { code, message } = problem;
        match &self.face {
            Face::Bar(bar) => bar.println(format!("{object}: {code}: {message}")),
            Face::Lines => say(&format!("{object}: {code}: {message}")),
            Face::Json => {
                print(&json!({ "event": "problem", "object": object, "code": code, "message": message }))
            }
        }
    }

    /// What an operator should know before it begins.
    pub fn note(&self, note: &str) {
        match &self.face {
            Face::Bar(bar) => bar.println(note),
            Face::Lines => say(note),
            Face::Json => print(&json!({ "event": "note", "message": note })),
        }
    }

    pub fn expects(&self, total: Count) {
        self.state().total = Some(total);
    }

    pub fn problems(&self) -> u64 {
        self.state().problems
    }

    /// Shows it all the time. Ends only when it is dropped.
    pub async fn show(&self) {
        let every = if matches!(self.face, Face::Bar(_)) { MOVES } else { LINES };
        loop {
            tokio::time::sleep(every).await;
            self.show_once();
        }
    }

    fn show_once(&self) {
        let state = self.state();
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let rates = (state.all.objects as f64 / seconds, state.all.bytes as f64 / seconds / 1e6);
        let left = state.total.and_then(|total| left(total, state.all, seconds));
        match &self.face {
            Face::Bar(bar) => {
                if let Some(total) = state.total {
                    bar.set_length(total.objects);
                }
                bar.set_position(state.all.objects);
                bar.set_message(line(self.verb, &state, rates, left));
            }
            Face::Lines => say(&line(self.verb, &state, rates, left)),
            Face::Json => print(&json!({
                "event": "progress",
                "objects": state.all.objects,
                "bytes": state.all.bytes,
                "problems": state.problems,
                "objects_per_second": rates.0,
                "megabytes_per_second": rates.1,
                "total_objects": state.total.map(|total| total.objects),
                "total_bytes": state.total.map(|total| total.bytes),
                "seconds_left": left.map(|left| left.as_secs()),
            })),
        }
    }

    /// The end: what became of everything.
    pub fn finish(&self) {
        let state = self.state();
        let seconds = self.begun.elapsed().as_secs_f64();
        if let Face::Bar(bar) = &self.face {
            bar.finish_and_clear();
        }
        if let Face::Json = self.face {
            let counts = state.counts.iter().map(|(what, count)| {
                (what.clone(), json!({ "objects": count.objects, "bytes": count.bytes }))
            });
            print(&json!({
                "event": "done",
                "objects": state.all.objects,
                "bytes": state.all.bytes,
                "problems": state.problems,
                "counts": counts.collect::<serde_json::Map<_, _>>(),
                "seconds": seconds,
            }));
            return;
        }
        let mut text = String::new();
        for (what, count) in &state.counts {
            writeln!(text, "{:>12} objects {:>16} bytes  {what}", count.objects, count.bytes).ok();
        }
        let Count { objects, bytes } = state.all;
        let rate = (objects as f64 / seconds.max(0.001), bytes as f64 / seconds.max(0.001) / 1e6);
        write!(
            text,
            "{objects} objects, {bytes} bytes in {seconds:.1} s: {:.0} objects/s, {:.1} MB/s. {} problems",
            rate.0, rate.1, state.problems
        )
        .ok();
        writeln!(std::io::stdout().lock(), "{text}").ok();
    }
}

/// Nobody need listen to the end.
fn say(line: &str) {
    writeln!(std::io::stderr().lock(), "{line}").ok();
}

fn print(line: &serde_json::Value) {
    writeln!(std::io::stdout().lock(), "{line}").ok();
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {msg}").expect("the template is one");
    ProgressBar::new(0).with_style(style)
}

fn line(verb: &str, state: &State, rates: (f64, f64), left: Option<Duration>) -> String {
    let mut line = format!("{} objects", state.all.objects);
    if let Some(total) = state.total {
        write!(line, " of {}", total.objects).ok();
    }
    write!(line, " {verb}, {:.0} objects/s, {:.1} MB/s", rates.0, rates.1).ok();
    if let Some(left) = left {
        write!(line, ", {} left", HumanDuration(left)).ok();
    }
    write!(line, ", {} problems", state.problems).ok();
    line
}

/// How long the rest takes, by what costs more of it: objects or bytes. None before anything is done.
fn left(total: Count, done: Count, seconds: f64) -> Option<Duration> {
    // What moves no bodies counts no bytes.
    let share = |done: u64, total: u64| (done > 0 && total > 0).then(|| done as f64 / total as f64);
    let shares = [share(done.objects, total.objects), share(done.bytes, total.bytes)];
    let share = shares.into_iter().flatten().reduce(f64::min)?.min(1.0);
    Duration::try_from_secs_f64(seconds * (1.0 - share) / share).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_goes_by_what_is_done() {
        let total = Count { objects: 10, bytes: 1000 };
        let of = |objects, bytes| left(total, Count { objects, bytes }, 8.0).map(|left| left.as_secs());
        assert_eq!(of(0, 0), None);
        assert_eq!(of(5, 200), Some(32));
        assert_eq!(of(2, 900), Some(32));
        assert_eq!(of(2, 0), Some(32), "no bodies are moved");
        assert_eq!(of(11, 1200), Some(0), "more have come meanwhile");
    }
}
