//! The results as a picture: for each load and peer a bar of its throughput beside nginx's, and one of its CPU.
//!
//! It depends on the results alone, so it can be drawn again. Its colours follow the reader's choice of light or dark.

use std::fmt::Write as _;

use super::results::{Outcome, Results, Taken};
use super::targets::{NATIVE, OURS, OURS_KMS, RIVALS, UNSIGNED};

const WIDTH: f64 = 1160.0;
/// Where names end, and where the two panels begin and end.
const NAMES: f64 = 212.0;
const RATES: (f64, f64) = (222.0, 640.0);
const CPU: (f64, f64) = (730.0, 1090.0);
/// Above the first group; of a group's title; of a bar and the gap below it.
const TOP: f64 = 92.0;
const TITLE: f64 = 26.0;
const ROW: f64 = 14.0;
const BAR: f64 = 10.0;

/// The throughput at the right end of its panel, beside nginx's.
const FASTEST: f64 = 1.5;
/// CPU seconds for each GB, on a logarithmic scale, from one end to the other.
const CHEAPEST: f64 = 0.1;
const DEAREST: f64 = 1000.0;

const STYLE: &str = "\
text { font: 11px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328; }
.title { font-size: 16px; font-weight: 600; }
.load { font-weight: 600; }
.faint { fill: #59636e; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.back { fill: #ffffff; }
.line { stroke: #d1d9e0; stroke-width: 1; }
.nginx-line { stroke: #59636e; stroke-width: 1; stroke-dasharray: 3 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .faint { fill: #9198a1; }
  .back { fill: #0d1117; }
  .line { stroke: #3d444d; }
  .nginx-line { stroke: #9198a1; }
}
";

/// Draws the loads of the store before which most peers were measured.
pub fn svg(results: &Results) -> String {
    let most = results.cases.iter().max_by_key(|outcome| outcome.peers.len());
    let store = most.map_or("", |outcome| &outcome.store);
    let outcomes: Vec<&Outcome> = results.cases.iter().filter(|outcome| outcome.store == store).collect();
    let rows = |outcome: &Outcome| drawn(outcome).count() as f64;
    let height = TOP + outcomes.iter().map(|outcome| TITLE + ROW * rows(outcome)).sum::<f64>() + 20.0;

    let mut svg = String::new();
    let out = &mut svg;
    put(
        out,
        format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">"),
    );
    put(out, format!("<title>s3veil beside other proxies, store: {}</title>", escaped(store)));
    put(out, format!("<style>{STYLE}</style>"));
    put(out, format!("<rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>"));
    text(out, 16.0, 28.0, "title", &format!("s3veil beside other proxies, store: {store}"));
    text(out, 16.0, 48.0, "faint", &format!("{}; medians of {} rounds", results.machine, results.rounds));
    axes(out, height);
    let mut y = TOP;
    for outcome in outcomes {
        y += TITLE;
        text(out, NAMES, y - 6.0, "load end", &outcome.load);
        for taken in drawn(outcome) {
            bars(out, y, outcome, taken);
            y += ROW;
        }
    }
    // Above the bars, or long ones hide it.
    let nginx = rate_x(1.0);
    let (top, bottom) = (TOP - 8.0, height - 14.0);
    put(out, format!("<path class=\"nginx-line\" d=\"M{nginx:.1} {top}V{bottom}\"/>"));
    put(out, "</svg>".into());
    svg
}

/// The peers that have bars: all but the store alone.
fn drawn(outcome: &Outcome) -> impl Iterator<Item = &Taken> {
    outcome.peers.iter().filter(|taken| taken.peer != "direct")
}

fn axes(out: &mut String, height: f64) {
    text(out, RATES.0, 70.0, "load", "throughput, nginx = 1");
    text(out, CPU.0, 70.0, "load", "CPU of the proxy, seconds for each GB (logarithmic)");
    let mut tick = |x: f64, label: String| {
        let (top, bottom) = (TOP - 4.0, height - 14.0);
        put(out, format!("<path class=\"line\" d=\"M{x:.1} {top}V{bottom}\"/>"));
        text(out, x, TOP - 8.0, "faint middle", &label);
    };
    for half in 0..=3 {
        let rate = f64::from(half) / 2.0;
        tick(rate_x(rate), format!("{rate}"));
    }
    for power in -1..=3 {
        let seconds = 10f64.powi(power);
        tick(cpu_x(seconds), format!("{seconds}"));
    }
}

fn bars(out: &mut String, y: f64, outcome: &Outcome, taken: &Taken) {
    text(out, NAMES, y + BAR - 1.0, "end", &taken.peer);
    let colour = colour(&taken.peer);
    let mut bar = |from: f64, to: f64, label: String| {
        let width = (to - from).max(1.0);
        let y = y + 1.0;
        put(
            out,
            format!(
                "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
            ),
        );
        text(out, from + width + 4.0, y + BAR - 2.0, "", &label);
    };
    if let Some(rate) = outcome.rate(&taken.peer, "nginx") {
        bar(RATES.0, rate_x(rate), format!("{rate:.2}"));
    }
    let cpu = taken.median(|round| round.cpu_per_gb());
    let cpu = cpu.filter(|_| outcome.moves() && taken.unable.is_none() && taken.peer != NATIVE);
    if let Some(seconds) = cpu {
        bar(
            CPU.0,
            cpu_x(seconds),
            if seconds < 10.0 { format!("{seconds:.2}") } else { format!("{seconds:.0}") },
        );
    }
    if taken.unable.is_some() {
        text(out, RATES.0 + 4.0, y + BAR - 1.0, "faint", "n/a");
    } else if taken.peer == NATIVE && outcome.moves() {
        text(out, CPU.0 + 4.0, y + BAR - 1.0, "faint", "within the store: see the table");
    }
}

fn rate_x(rate: f64) -> f64 {
    RATES.0 + (RATES.1 - RATES.0) * (rate / FASTEST).clamp(0.0, 1.0)
}

fn cpu_x(seconds: f64) -> f64 {
    let share = (seconds / CHEAPEST).log10() / (DEAREST / CHEAPEST).log10();
    CPU.0 + (CPU.1 - CPU.0) * share.clamp(0.0, 1.0)
}

/// Of a middle brightness, on white as on black.
fn colour(peer: &str) -> &'static str {
    match peer {
        "nginx" => "#8c959f",
        OURS => "#0e9f6e",
        UNSIGNED => "#5cc4a0",
        OURS_KMS => "#0b7a75",
        NATIVE => "#e08a00",
        peer if peer == RIVALS[0] => "#3b82f6",
        peer if peer == RIVALS[1] => "#a05be0",
        _ => "#b08d57",
    }
}

fn text(out: &mut String, x: f64, y: f64, class: &str, words: &str) {
    put(out, format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>", escaped(words)));
}

fn put(out: &mut String, line: String) {
    writeln!(out, "{line}").expect("a string takes all");
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
