//! Charts of the fleet over time, as SVG without a script.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use maud::{Markup, html};

use super::text::{duration, rate};
use crate::fleet::Phase;
use crate::fleet::history::{Sample, Window};
use crate::fleet::link::Link;

/// Size of the drawing, and of its frame inside, in units of the SVG.
const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 74.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 24.0;

/// No chart shows less than this.
const SHORTEST: Duration = Duration::from_secs(60);

/// Points of a line; more than pixels are of no use.
const MAX_POINTS: usize = 300;

/// Both charts.
pub(super) fn charts(
    samples: &[Sample],
    link: Option<&Link>,
    window: Window,
    now: Instant,
) -> Markup {
    let longest = match window {
        Window::Short => Duration::from_secs(900),
        Window::Day => Duration::from_secs(86_400),
    };
    // from the first moment on at which there was something to see
    let first = samples.iter().find(|sample| sample.phases.iter().sum::<u32>() > 0);
    let age = first.map_or(SHORTEST, |first| now.saturating_duration_since(first.at));
    let span = age.clamp(SHORTEST, longest);
    let begin = samples.partition_point(|s| now.saturating_duration_since(s.at) > span);
    let samples: Vec<Sample> = thin(samples.get(begin..).unwrap_or_default());
    let scene = Scene { samples: &samples, span, now };
    html! {
        div.charts { (scene.nodes()) (scene.rates(link)) }
        p.hint {
            "Sampled every two seconds from what nodes report, since this tracker started. "
            @match window {
                Window::Short => { a href="/?window=day" { "Show the last day" } }
                Window::Day => { a href="/" { "Show the last quarter of an hour" } }
            }
        }
    }
}

fn thin(samples: &[Sample]) -> Vec<Sample> {
    let step = samples.len().div_ceil(MAX_POINTS).max(1);
    // counted from the end: the newest is always there
    let mut thinned: Vec<Sample> = samples.iter().rev().step_by(step).copied().collect();
    thinned.reverse();
    thinned
}

struct Scene<'a> {
    samples: &'a [Sample],
    span: Duration,
    now: Instant,
}

/// One layer of a stack: its class, its name, its value in each sample.
struct Layer {
    class: &'static str,
    name: String,
    values: Vec<f64>,
}

impl Scene<'_> {
    fn nodes(&self) -> Markup {
        let layers: Vec<Layer> = Phase::ALL
            .iter()
            .enumerate()
            .map(|(at, phase)| Layer {
                class: phase.word(),
                name: phase.title().to_owned(),
                values: self.samples.iter().map(|s| f64::from(s.phases[at])).collect(),
            })
            .collect();
        let most = self.samples.iter().map(|s| s.phases.iter().sum::<u32>()).max().unwrap_or(0);
        let top = nice(f64::from(most.max(4)));
        let last = self.samples.last();
        let now: Vec<String> = Phase::ALL
            .iter()
            .enumerate()
            .filter_map(|(at, phase)| Some((last?.phases[at], phase)))
            .filter(|(count, _)| *count > 0)
            .map(|(count, phase)| format!("{count} {}", phase.word()))
            .collect();
        let summary = format!("Nodes by stage over time; now {}", or_none(&now.join(", ")));
        self.figure("Nodes by stage", &summary, &layers, top, &|v| format!("{v:.0}"), None)
    }

    fn rates(&self, link: Option<&Link>) -> Markup {
        let values = |of: fn(&Sample) -> u64| self.samples.iter().map(|s| float(of(s))).collect();
        let layers = [
            Layer { class: "admin", name: "admin host".into(), values: values(|s| s.rates.admin) },
            Layer { class: "web", name: "web seeds".into(), values: values(|s| s.rates.web) },
            Layer { class: "peers", name: "peers".into(), values: values(|s| s.rates.peers) },
        ];
        let most = self.samples.iter().map(|s| s.rates.total()).max().unwrap_or(0);
        let line = link.map(|link| float(link.rate));
        let top = nice_rate(float(most).max(line.unwrap_or(0.0)).max(125_000.0));
        let name = link.map(|link| {
            format!("{}: all that HTTP boot could have ({})", rate(link.rate), link.source)
        });
        let summary = format!(
            "Bytes that nodes received, by source, over time; at most {}{}",
            rate(most),
            name.as_ref().map(|name| format!("; line at {name}")).unwrap_or_default()
        );
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a label")]
        let label = |v: f64| rate(v as u64);
        let mark = line.zip(name);
        self.figure("Received, by source", &summary, &layers, top, &label, mark)
    }

    /// A stack of areas, with an axis, a legend, and maybe a line across.
    fn figure(
        &self,
        title: &str,
        summary: &str,
        layers: &[Layer],
        top: f64,
        label: &dyn Fn(f64) -> String,
        line: Option<(f64, String)>,
    ) -> Markup {
        let floor = HEIGHT - BOTTOM;
        let y = |value: f64| floor - (value / top).clamp(0.0, 1.0) * (floor - TOP);
        let mut base = vec![0.0; self.samples.len()];
        let mut areas = Vec::new();
        for layer in layers {
            let upper: Vec<f64> = base.iter().zip(&layer.values).map(|(b, v)| b + v).collect();
            if layer.values.iter().any(|value| *value > 0.0) {
                areas.push((layer.class, self.area(&base, &upper, &y)));
            }
            base = upper;
        }
        let ticks = [0.0, top / 2.0, top];
        html! {
            figure {
                figcaption { (title) }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(summary) {
                    @for tick in ticks {
                        line.grid x1=(LEFT) x2=(WIDTH) y1=(num(y(tick))) y2=(num(y(tick))) {}
                        text x=(LEFT - 6.0) y=(num(y(tick) + 4.0)) text-anchor="end" { (label(tick)) }
                    }
                    @for (class, path) in areas { path.(class) d=(path) {} }
                    @if let Some((value, _)) = &line {
                        line.limit x1=(LEFT) x2=(WIDTH) y1=(num(y(*value))) y2=(num(y(*value))) {}
                    }
                    text x=(LEFT) y=(HEIGHT - 6.0) { (duration(self.span)) " ago" }
                    text x=(WIDTH) y=(HEIGHT - 6.0) text-anchor="end" { "now" }
                }
                ul.legend {
                    @for layer in layers {
                        li { span.key.(layer.class) aria-hidden="true" {} (layer.name) }
                    }
                    @if let Some((_, name)) = &line {
                        li { span.key.limit aria-hidden="true" {} (name) }
                    }
                }
            }
        }
    }

    fn area(&self, lower: &[f64], upper: &[f64], y: &dyn Fn(f64) -> f64) -> String {
        let mut path = String::with_capacity(self.samples.len() * 24);
        let x = |sample: &Sample| {
            let age = self.now.saturating_duration_since(sample.at).as_secs_f64();
            WIDTH - (age / self.span.as_secs_f64()).min(1.0) * (WIDTH - LEFT)
        };
        let up = self.samples.iter().zip(upper);
        let down = self.samples.iter().zip(lower).rev();
        for (at, (sample, value)) in up.chain(down).enumerate() {
            let command = if at == 0 { 'M' } else { 'L' };
            // Writing to a String cannot fail.
            let _ = write!(path, "{command}{} {}", num(x(sample)), num(y(*value)));
        }
        path.push('Z');
        path
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

/// One decimal place is a tenth of a pixel.
fn num(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// The next of 1, 2, 4, 5, 10 … above: half of it is a number to read as well.
fn nice(value: f64) -> f64 {
    let mut unit = 1.0;
    while unit * 10.0 <= value {
        unit *= 10.0;
    }
    let steps = [1.0, 2.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.iter().map(|step| step * unit).find(|step| *step >= value).unwrap_or(value)
}

/// The same in bits.
fn nice_rate(bytes: f64) -> f64 {
    nice(bytes * 8.0) / 8.0
}

#[expect(clippy::cast_precision_loss, reason = "a drawing")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::event::Sources;

    #[test]
    fn axes_end_at_numbers_to_read() {
        for (value, top) in [(4.0, 4.0), (7.0, 8.0), (11.0, 20.0), (400.0, 400.0), (401.0, 500.0)] {
            assert_eq!(nice(value), top);
        }
        assert_eq!(nice_rate(124_000_000.0), 125_000_000.0);
    }

    #[test]
    fn a_chart_has_its_layers_and_the_link_and_stays_small() {
        let start = Instant::now();
        let sample = |n: u32| Sample {
            at: start + Duration::from_secs(2) * n,
            phases: [n, 0, 450 - n, 0, 0, 1],
            rates: Sources { admin: 1_000_000, peers: u64::from(n) * 1_000_000, web: 0 },
        };
        let samples: Vec<_> = (0..450).map(sample).collect();
        let now = start + Duration::from_secs(900);
        let link = Link { rate: 125_000_000, source: "--admin-link".into() };
        let svg = charts(&samples, Some(&link), Window::Short, now).into_string();
        for part in [
            "now 449 seeding, 1 fetch, 1 failed",
            "path class=\"seeding\"",
            "path class=\"peers\"",
            "1.0 Gbit/s: all that HTTP boot could have (--admin-link)",
            "15 min 0 s ago",
            "at most 3.6 Gbit/s",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("path class=\"web\"") && !svg.contains("NaN"), "{svg}");
        assert!(svg.len() < 60_000, "{}", svg.len());
        let empty = charts(&[], None, Window::Day, now).into_string();
        assert!(empty.contains("now none") && !empty.contains("NaN"), "{empty}");
    }
}
