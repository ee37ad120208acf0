//! What s3veil is meant to reach, and whether it did: from the results of a run alone.

use super::results::{Outcome, Results};

/// Those that seal as s3veil does: before the store.
pub const RIVALS: [&str; 2] = ["rclone crypt", "s3proxy"];
/// The store that seals itself.
pub const NATIVE: &str = "MinIO SSE-KMS";
/// The names of our own.
pub const OURS: &str = "s3veil";
/// With `payload = "unsigned"`.
pub const UNSIGNED: &str = "s3veil, unsigned";
/// With the KMS that the store uses.
pub const OURS_KMS: &str = "s3veil, KES";

/// A line of the table: what, measured where, how much, and whether that is enough.
struct Verdict {
    target: String,
    at: String,
    measured: String,
    met: bool,
}

/// The table of all targets for which there are figures.
pub fn table(results: &Results) -> String {
    let mut text = String::from("| target | at | measured | met |\n| --- | --- | ---: | --- |\n");
    for Verdict { target, at, measured, met } in verdicts(results) {
        let met = if met { "yes" } else { "**no**" };
        text.push_str(&format!("| {target} | {at} | {measured} | {met} |\n"));
    }
    text
}

fn verdicts(results: &Results) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let at = |outcome: &Outcome| format!("{}, {}", outcome.store, outcome.load);
    let long = |outcome: &&Outcome| outcome.load.contains(" 64 MiB ");
    for outcome in results.cases.iter().filter(long) {
        let ratio = outcome.rate(OURS, "nginx");
        verdicts.extend(ratio.map(|ratio| Verdict {
            target: "64 MiB: ≥ 0.95 of nginx's throughput".into(),
            at: at(outcome),
            measured: format!("{ratio:.2}"),
            met: ratio >= 0.95,
        }));
    }
    for outcome in results.cases.iter().filter(long) {
        let peer = if outcome.load.starts_with("PUT") { UNSIGNED } else { OURS };
        let ratio = outcome.beside((peer, "nginx"), |round| round.cpu_per_gb(), |own, base| own / base);
        verdicts.extend(ratio.map(|ratio| Verdict {
            target: "64 MiB: ≤ 1.5 of nginx's CPU, no payload hashed".into(),
            at: at(outcome),
            measured: format!("{ratio:.2}"),
            met: ratio <= 1.5,
        }));
    }
    for outcome in results.cases.iter().filter(|outcome| outcome.load.contains(" 4 KiB ")) {
        let added = outcome.beside((OURS, "nginx"), |round| Some(round.p50_us), |own, base| own - base);
        verdicts.extend(added.map(|added| Verdict {
            target: "4 KiB: median ≤ nginx's + 150 µs".into(),
            at: at(outcome),
            measured: format!("{added:+.0} µs"),
            met: added <= 150.0,
        }));
    }
    for rival in RIVALS {
        let rate = |outcome: &Outcome| outcome.rate(OURS, rival);
        verdicts.extend(worst(results, &format!("every line: ahead of {rival}"), 1.0, rate));
        let cpu = |outcome: &Outcome| {
            let figure = |outcome: &Outcome| {
                outcome.beside((rival, OURS), |round| round.cpu_per_gb(), |rival, own| rival / own)
            };
            figure(outcome).filter(|_| outcome.moves())
        };
        verdicts.extend(worst(results, &format!("every line: a third of {rival}'s CPU per GB"), 3.0, cpu));
    }
    for ours in [OURS, OURS_KMS] {
        let rate = |outcome: &Outcome| outcome.rate(ours, NATIVE);
        verdicts.extend(worst(results, &format!("every line: {ours} ≥ 0.8 of {NATIVE}"), 0.8, rate));
    }
    for memory in results.memory.iter().filter(|memory| memory.peer == OURS) {
        let peak = memory.round.as_ref().and_then(|round| round.peak_bytes);
        let mib = peak.map_or(f64::NAN, |bytes| bytes as f64 / 1_048_576.0);
        verdicts.push(Verdict {
            target: "peak memory, 64 MiB each: < 200 MiB".into(),
            at: format!("{}, {} {}", memory.store, memory.clients, memory.load),
            measured: format!("{mib:.0} MiB"),
            met: mib < 200.0,
        });
    }
    verdicts
}

/// The line on which a ratio is smallest, if any has it.
fn worst(
    results: &Results,
    target: &str,
    least: f64,
    ratio: impl Fn(&Outcome) -> Option<f64>,
) -> Option<Verdict> {
    let ratios = results.cases.iter().filter_map(|outcome| Some((ratio(outcome)?, outcome)));
    let all: Vec<_> = ratios.collect();
    let missed = all.iter().filter(|(ratio, _)| *ratio < least).count();
    let (ratio, outcome) = all.iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(Verdict {
        target: target.to_owned(),
        at: format!("{}, {}: the worst of {}, {missed} short", outcome.store, outcome.load, all.len()),
        measured: format!("{ratio:.2}"),
        met: missed == 0,
    })
}
