//! A line chart as an SVG file, readable on light and on dark pages.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
/// Of the plot area's sides: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (68.0, 190.0, 56.0, 56.0);

/// Colours of the series, on light and on dark ground; neighbours differ for the colour-blind too.
const COLOURS: [(&str, &str); 8] = [
    ("#0060b0", "#6cb6ff"),
    ("#c84e00", "#ff9a5c"),
    ("#007f5c", "#4fd6ae"),
    ("#a83a83", "#f0a0d4"),
    ("#8a6a00", "#f2c94c"),
    ("#5f4bb6", "#b9a8ff"),
    ("#8c3b2e", "#e0a396"),
    ("#3f6f78", "#9ed3dd"),
];

/// Text and grid.
const STYLE: &str = "\
    .bg{fill:#ffffff}.ink{fill:#1c1c1e}.soft{fill:#5a5a60}.grid{stroke:#e2e2e6}.axis{stroke:#8a8a90}\
    .mark{stroke:#5a5a60;stroke-width:1.4;fill:none}.m0{stroke-dasharray:6 4}.m1{stroke-dasharray:2 4}\
    text{font:13px system-ui,'DejaVu Sans',sans-serif}.title{font-size:16px;font-weight:600}\
    .line{fill:none;stroke-width:2.2;stroke-linejoin:round}.first{stroke-width:3.4}";
const DARK_STYLE: &str = "\
    .bg{fill:#16181c}.ink{fill:#f0f0f2}.soft{fill:#a8a8b0}.grid{stroke:#2c2f36}.axis{stroke:#7c7c84}\
    .mark{stroke:#a8a8b0}";

/// A chart with lines in it.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// Lines to compare with.
    pub(crate) marks: Vec<Mark>,
}

/// An axis. A logarithmic one has a positive `from`.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) logarithmic: bool,
    pub(crate) ticks: Vec<f64>,
    /// Behind each tick's number.
    pub(crate) unit: &'static str,
}

/// A line, with its place in the order of colours.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) colour: usize,
    pub(crate) points: Vec<(f64, f64)>,
    /// A dot at each point.
    pub(crate) dots: bool,
}

/// A dashed line with a name at its end.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Axis {
    /// Where a value lies, from 0 to 1; values beyond the ends lie at the ends.
    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.max(1e-9).ln() } else { value };
        let (from, to) = (scale(self.from), scale(self.to));
        let span = if to > from { to - from } else { 1.0 };
        ((scale(value) - from) / span).clamp(0.0, 1.0)
    }

    /// A logarithmic axis that holds the values, with round numbers as ticks.
    pub(crate) fn logarithmic(label: &str, values: impl IntoIterator<Item = f64>) -> Axis {
        let (mut from, mut to) = (f64::INFINITY, 0.0f64);
        for value in values.into_iter().filter(|value| value.is_finite() && *value > 0.0) {
            (from, to) = (from.min(value), to.max(value));
        }
        if to == 0.0 {
            (from, to) = (1.0, 10.0);
        }
        // air at the ends, and never a point of no width
        (from, to) = (from / 1.06, to.max(from * 1.5) * 1.06);
        let fine = to / from < 8.0;
        let steps: &[f64] =
            if fine { &[1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0] } else { &[1.0, 2.0, 5.0] };
        let ticks = (-3..6)
            .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)))
            .filter(|tick| (from..=to).contains(tick))
            .collect();
        Axis { label: label.to_owned(), from, to, logarithmic: true, ticks, unit: "" }
    }
}

impl Chart {
    /// The file's text.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        // writing to a String cannot fail, here and below
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n<title>{}</title>\n<style>{}</style>\n\
             <rect class=\"bg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n",
            escaped(&self.title),
            style()
        );
        let left = MARGIN.0;
        text(&mut out, "ink title", left, 24.0, "start", &self.title);
        text(&mut out, "soft", left, 43.0, "start", &self.subtitle);
        self.grid(&mut out);
        for (number, mark) in self.marks.iter().enumerate() {
            let path = self.path(&mark.points);
            let _ = writeln!(out, "<path class=\"mark m{}\" d=\"{path}\"/>", number % 2);
        }
        for series in &self.series {
            let class = format!("c{}", series.colour % COLOURS.len());
            let first = if series.colour == 0 { " first" } else { "" };
            let path = self.path(&series.points);
            let _ = writeln!(out, "<path class=\"line s{class}{first}\" d=\"{path}\"/>");
            for (x, y) in series.points.iter().filter(|_| series.dots) {
                let (x, y) = self.at(*x, *y);
                let _ = writeln!(
                    out,
                    "<circle class=\"f{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"
                );
            }
        }
        self.legend(&mut out);
        out.push_str("</svg>\n");
        out
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (left, right, top, bottom) = MARGIN;
        let (width, height) = (WIDTH - left - right, HEIGHT - top - bottom);
        (left + width * self.x.place(x), top + height * (1.0 - self.y.place(y)))
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (number, (x, y)) in points.iter().enumerate() {
            let (x, y) = self.at(*x, *y);
            let _ = write!(path, "{}{x:.1} {y:.1}", if number == 0 { "M" } else { "L" });
        }
        path
    }

    fn grid(&self, out: &mut String) {
        let (left, right, top, bottom) = MARGIN;
        let (far, low) = (WIDTH - right, HEIGHT - bottom);
        for tick in &self.x.ticks {
            let (x, _) = self.at(*tick, self.y.from);
            line(out, "grid", (x, top), (x, low));
            text(out, "soft", x, low + 18.0, "middle", &label(*tick, self.x.unit));
        }
        for tick in &self.y.ticks {
            let (_, y) = self.at(self.x.from, *tick);
            line(out, "grid", (left, y), (far, y));
            text(out, "soft", left - 8.0, y + 4.0, "end", &label(*tick, self.y.unit));
        }
        line(out, "axis", (left, low), (far, low));
        line(out, "axis", (left, top), (left, low));
        text(out, "ink", (left + far) / 2.0, HEIGHT - 16.0, "middle", &self.x.label);
        let (x, y) = (18.0, (top + low) / 2.0);
        let _ = writeln!(
            out,
            "<text class=\"ink\" transform=\"translate({x} {y}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            escaped(&self.y.label)
        );
    }

    fn legend(&self, out: &mut String) {
        let x = WIDTH - MARGIN.1 + 18.0;
        let mut y = MARGIN.2 + 8.0;
        for series in &self.series {
            let class = series.colour % COLOURS.len();
            line(out, &format!("line sc{class}"), (x, y), (x + 24.0, y));
            text(out, "ink", x + 32.0, y + 4.5, "start", &series.name);
            y += 22.0;
        }
        for (number, mark) in self.marks.iter().enumerate() {
            line(out, &format!("mark m{}", number % 2), (x, y), (x + 24.0, y));
            text(out, "soft", x + 32.0, y + 4.5, "start", &mark.name);
            y += 22.0;
        }
    }
}

fn style() -> String {
    let colours = |pick: fn(&(&'static str, &'static str)) -> &'static str| {
        COLOURS.iter().enumerate().fold(String::new(), |mut css, (number, pair)| {
            let colour = pick(pair);
            let _ = write!(css, ".sc{number}{{stroke:{colour}}}.fc{number}{{fill:{colour}}}");
            css
        })
    };
    let (light, dark) = (colours(|pair| pair.0), colours(|pair| pair.1));
    format!("{STYLE}{light}@media (prefers-color-scheme:dark){{{DARK_STYLE}{dark}}}")
}

fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<path class=\"{class}\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(out: &mut String, class: &str, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
        escaped(words)
    );
}

/// A tick's number, without needless zeros.
fn label(value: f64, unit: &str) -> String {
    let text = format!("{value:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Fails unless every element is closed in order and no stray `&` or `<` is left.
    pub(crate) fn assert_well_formed(text: &str) {
        let mut open: Vec<&str> = Vec::new();
        for part in text.split('<').skip(1) {
            let (tag, rest) = part.split_once('>').unwrap_or_else(|| panic!("not closed: {part}"));
            assert!(!rest.contains('>'), "stray >: {rest}");
            for entity in rest.split('&').skip(1).chain(tag.split('&').skip(1)) {
                let name = entity.split(';').next().unwrap();
                assert!(["amp", "lt", "gt", "quot"].contains(&name), "stray &: {entity}");
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes: {tag}");
            match (tag.strip_prefix('/'), tag.ends_with('/')) {
                (Some(name), _) => assert_eq!(open.pop(), Some(name)),
                (None, true) => {}
                (None, false) => open.push(tag.split_whitespace().next().unwrap()),
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    fn chart() -> Chart {
        Chart {
            title: "a < b & \"c\"".to_owned(),
            subtitle: "x > y".to_owned(),
            x: Axis::logarithmic("time", [1.0, 30.0]),
            y: Axis {
                label: "nodes".to_owned(),
                from: 0.0,
                to: 100.0,
                logarithmic: false,
                ticks: vec![0.0, 50.0, 100.0],
                unit: " %",
            },
            series: vec![Series {
                name: "one".to_owned(),
                colour: 0,
                points: vec![(1.0, 0.0), (30.0, 100.0)],
                dots: true,
            }],
            marks: vec![Mark { name: "ideal".to_owned(), points: vec![(1.0, 0.0), (1.0, 100.0)] }],
        }
    }

    #[test]
    fn a_chart_is_well_formed() {
        let text = chart().render();
        assert_well_formed(&text);
        assert!(text.contains("a &lt; b &amp; &quot;c&quot;"), "{text}");
        assert!(text.contains("prefers-color-scheme:dark"));
        assert_eq!(text.matches("<circle").count(), 2);
    }

    #[test]
    fn points_lie_where_they_belong() {
        let chart = chart();
        let (left, right, top, bottom) = MARGIN;
        let (_, low) = chart.at(1.0, 0.0);
        let (_, high) = chart.at(1.0, 100.0);
        assert_eq!((low, high), (HEIGHT - bottom, top));
        let (first, last) = (chart.at(1.0, 0.0).0, chart.at(30.0, 0.0).0);
        assert!(left < first && first < last && last < WIDTH - right);
        let middle = chart.at(30f64.sqrt(), 0.0).0;
        assert!((middle - (first + last) / 2.0).abs() < 1e-6, "logarithmic");
        assert_eq!(chart.at(1e9, 0.0).0, WIDTH - right, "cut off at the edge");
    }

    #[test]
    fn ticks_are_round_and_within() {
        let wide = Axis::logarithmic("", [1.0, 100.0]);
        assert_eq!(wide.ticks, [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        let narrow = Axis::logarithmic("", [1.1, 2.4]);
        assert_eq!(narrow.ticks, [1.2, 1.5, 2.0]);
        let empty = Axis::logarithmic("", []);
        assert!(empty.to > empty.from && !empty.ticks.is_empty());
        let point = Axis::logarithmic("", [3.0]);
        assert!(point.to > point.from && !point.ticks.is_empty());
        assert_eq!(
            (label(1.5, "x"), label(100.0, " %"), label(0.25, "")),
            ("1.5x".into(), "100 %".into(), "0.25".into())
        );
    }
}
