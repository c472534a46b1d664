//! How often pieces are there.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::fleet::exchange::Availability;

/// Most bars; with more numbers of copies than that a bar is a range.
const MAX_BARS: u32 = 20;

/// One bar: copies from and to, and the pieces that are there so often.
#[derive(Debug, PartialEq, Eq)]
struct Bar {
    from: u32,
    to: u32,
    pieces: u32,
}

/// The histogram of one image.
pub(super) fn availability(of: &Availability) -> Markup {
    let bars = bars(of);
    let most = f64::from(bars.iter().map(|bar| bar.pieces).max().unwrap_or(1).max(1));
    let width = 600.0 / f64::from(u32::try_from(bars.len()).unwrap_or(1).max(1));
    let mut words = format!("{}: number of pieces by copies", of.revision);
    for bar in &bars {
        // writing to a string cannot fail
        let _ = write!(words, ", {} with {}", bar.pieces, label(bar));
    }
    html! {
        figure {
            figcaption {
                (of.revision)
                @if let Some((copies, pieces)) = of.rarest() {
                    ": the rarest piece is there " @if of.at_least { "at least " } (times(copies))
                    " (" (pieces) " of " (of.pieces) " pieces are)"
                }
            }
            svg viewBox="0 0 620 150" role="img" aria-label=(words) {
                @for (bar, at) in bars.iter().zip(0_u32..) {
                    @let height = f64::from(bar.pieces) / most * 105.0;
                    @let x = 10.0 + f64::from(at) * width;
                    rect.(if bar.from == 0 { "failed" } else { "fetch" }) x=(num(x))
                        width=(num((width - 4.0).clamp(1.0, 60.0))) y=(num(122.0 - height)) height=(num(height)) {}
                    @let middle = x + (width - 4.0).clamp(1.0, 60.0) / 2.0;
                    text x=(num(middle)) y=(num(117.0 - height)) text-anchor="middle" {
                        @if bar.pieces > 0 { (bar.pieces) }
                    }
                    text x=(num(middle)) y="140" text-anchor="middle" { (label(bar)) }
                }
            }
        }
    }
}

fn num(value: f64) -> String {
    format!("{value:.1}")
}

/// `once`, `3×`.
fn times(copies: u32) -> String {
    match copies {
        0 => "nowhere".to_owned(),
        copies => format!("{copies}×"),
    }
}

fn label(bar: &Bar) -> String {
    if bar.from == bar.to {
        format!("{}×", bar.from)
    } else {
        format!("{}–{}×", bar.from, bar.to)
    }
}

/// From the rarest to the most frequent, without gaps.
fn bars(of: &Availability) -> Vec<Bar> {
    let (Some((least, _)), Some((most, _))) =
        (of.by_copies.first_key_value(), of.by_copies.last_key_value())
    else {
        return Vec::new();
    };
    let per = (most - least + 1).div_ceil(MAX_BARS);
    let mut bars: Vec<Bar> = Vec::new();
    let mut from = *least;
    while from <= *most {
        let to = (from + per - 1).min(*most);
        let pieces = of.by_copies.range(from..=to).map(|(_, pieces)| pieces).sum();
        bars.push(Bar { from, to, pieces });
        from = to + 1;
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_every_piece_and_no_gap() {
        for copies in [vec![(3, 5)], vec![(0, 1), (4, 2)], (0..500).map(|c| (c, 2)).collect()] {
            let by_copies: std::collections::BTreeMap<u32, u32> = copies.into_iter().collect();
            let pieces = by_copies.values().sum();
            let revision = "debian@0123456789ab".parse().unwrap();
            let of = Availability { revision, pieces, at_least: false, by_copies };
            let bars = bars(&of);
            assert!(bars.len() <= 20, "{bars:?}");
            assert_eq!(bars.iter().map(|bar| bar.pieces).sum::<u32>(), pieces);
            assert!(bars.windows(2).all(|pair| pair[0].to + 1 == pair[1].from), "{bars:?}");
        }
    }
}
