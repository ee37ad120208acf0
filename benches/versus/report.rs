//! What the rounds gave, as a table for people.

use std::fmt::Write as _;

use super::results::{Memory, Outcome, Results, Taken};

/// The head of the table.
pub const HEAD: &str = "\
| store | load | peer | p50 | p99 | MB/s | CPU s/GB | store's CPU s/GB | CPU µs/request | peak MiB | \
store requests | KMS calls | of nginx | of direct | p50 over nginx |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

/// The head of the table of memory.
const MEMORY: &str = "\
| store | peer | clients at once, 64 MiB each | peak MiB | MB/s | CPU s/GB |
| --- | --- | --- | ---: | ---: | ---: |";

/// A row for each peer: medians of the rounds. Ratios are taken within each round, and their median is shown.
pub fn rows(outcome: &Outcome) -> String {
    outcome.peers.iter().map(|taken| row(outcome, taken)).collect()
}

fn row(outcome: &Outcome, taken: &Taken) -> String {
    let (store, load, name) = (&outcome.store, &outcome.load, &taken.peer);
    if taken.unable.is_some() {
        return format!("| {store} | {load} | {name} | n/a {} |\n", "| ".repeat(11));
    }
    let show = |value: Option<f64>, digits: usize| value.map(|v| format!("{v:.digits$}")).unwrap_or_default();
    let per_gb = |value: Option<f64>| match outcome.moves() {
        true => show(value, 2),
        false => String::new(),
    };
    let throughput = match outcome.moves() {
        true => show(taken.median(|round| Some(round.mb_per_s())), 1),
        false => format!("{} lists/s", show(taken.median(|round| Some(round.rate())), 2)),
    };
    let cpu_per_request = taken.median(|round| Some(round.cpu_s? * 1e6 / round.requests as f64));
    let store_cpu = taken.median(|round| Some(round.store_cpu_s / (round.bytes as f64 / 1e9)));
    let peak = taken.rounds.iter().filter_map(|round| round.peak_bytes).max();
    let of = |other: &str| match name == other || name == "direct" {
        true => String::new(),
        false => show(outcome.rate(name, other), 2),
    };
    let added = outcome.beside((name, "nginx"), |round| Some(round.p50_us), |own, base| own - base);
    let added = added.filter(|_| name != "direct" && name != "nginx");
    format!(
        "| {store} | {load} | {name} | {} | {} | {throughput} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        taken.median(|round| Some(round.p50_us)).map(time).unwrap_or_default(),
        taken.median(|round| Some(round.p99_us)).map(time).unwrap_or_default(),
        per_gb(taken.median(|round| round.cpu_per_gb())),
        per_gb(store_cpu),
        show(cpu_per_request, 0),
        show(peak.map(|bytes| bytes as f64 / 1_048_576.0), 0),
        show(taken.median(|round| round.store_requests), 2),
        show(taken.median(|round| round.kms_calls), 2),
        of("nginx"),
        of("direct"),
        added.map(|micros| format!("{micros:+.0} µs")).unwrap_or_default(),
    )
}

/// Why rows have no figures: each reason once, with the loads that it is the reason for.
pub fn reasons(results: &Results) -> String {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    let cases = results.cases.iter().flat_map(|outcome| {
        outcome.peers.iter().map(|taken| (&taken.peer, outcome.load.as_str(), &taken.unable))
    });
    let memory = results.memory.iter().map(|memory| (&memory.peer, memory.load.as_str(), &memory.unable));
    for (peer, load, why) in cases.chain(memory) {
        let Some(why) = why else { continue };
        let reason = format!("{peer}: {why}");
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, loads)) => loads.push(load),
            None => reasons.push((reason, vec![load])),
        }
    }
    let mut text = String::new();
    for (reason, loads) in reasons {
        writeln!(text, "- n/a, {reason} ({})", loads.join("; ")).expect("a string takes all");
    }
    text
}

/// The table of memory.
pub fn memory(turns: &[Memory]) -> String {
    let mut text = format!("{MEMORY}\n");
    for Memory { store, peer, load, clients, round, .. } in turns {
        let figures = match round {
            Some(round) => format!(
                "{:.0} | {:.0} | {:.2}",
                round.peak_bytes.unwrap_or(0) as f64 / 1_048_576.0,
                round.mb_per_s(),
                round.cpu_per_gb().unwrap_or(0.0)
            ),
            None => "n/a | |".to_owned(),
        };
        writeln!(text, "| {store} | {peer} | {clients} {load} | {figures} |").expect("a string takes all");
    }
    text
}

fn time(micros: f64) -> String {
    match micros {
        micros if micros < 10_000.0 => format!("{micros:.0} µs"),
        micros => format!("{:.1} ms", micros / 1e3),
    }
}
