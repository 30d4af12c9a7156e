//! Lifetimes as a picture: an SVG document that takes light and dark from who shows it.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::labels::labels;
use super::lives::{Bar, EndMark, LifeRow, Lives, Mark, RowKey, Span};
use super::scale::Window;
use super::text::ordered;
use crate::text::bytes::to_line;
use crate::text::table::cut_middle;

/// Rows of a picture. Of more sessions, those are shown that lived or ended last.
const SVG_ROWS_MAX: usize = 100;
/// Cells of the longest name.
const NAME_CELLS: usize = 24;
const WIDTH: u32 = 1_000;
/// Where the tracks begin and how wide they are.
const LEFT: u32 = 200;
const TRACK: u32 = 780;
const TOP: u32 = 60;
const ROW: u32 = 22;
/// Forms of the ends of the window, and of the end of a life.
const HEADING: &str = "%Y-%m-%d %H:%M %:z";
const END: &str = "%Y-%m-%d %H:%M:%S%.3f %:z";
/// Labels of the axis.
const LABELS: u32 = 10;

/// Colours are of classes, so that one rule changes them. Names and marks have shapes as well.
const STYLE: &str = "
text { font: 12px ui-monospace, 'DejaVu Sans Mono', monospace; fill: #24292f }
.paper { fill: #ffffff } .faint { fill: #57606a } .title { font-weight: bold }
.line { stroke: #d8dee4; stroke-width: 1 } .stripe { fill: #f6f8fa }
.bar { fill: #218bff } .gap { fill: url(#hatch) } .hatch { stroke: #6e7781; stroke-width: 2 }
.cut { fill: url(#cuts) } .gash { stroke: #ffffff; stroke-width: 4 }
.good { fill: #ffffff; stroke: #1a7f37; stroke-width: 2 } .warn { fill: #bf8700; stroke: #ffffff; stroke-width: 1 }
.bad { fill: none; stroke: #cf222e; stroke-width: 3 } .oom { fill: #cf222e; stroke: #ffffff; stroke-width: 1 }
.asks { fill: #ffffff; stroke: #bf8700; stroke-width: 2 } .other { fill: none; stroke: #57606a; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .paper { fill: #0d1117 } .faint { fill: #9198a1 }
.line { stroke: #30363d } .stripe { fill: #151b23 } .bar { fill: #388bfd } .hatch { stroke: #9198a1 }
.gash { stroke: #0d1117 }
.good { fill: #0d1117; stroke: #3fb950 } .warn { fill: #d29922; stroke: #0d1117 }
.bad { stroke: #ff7b72 } .oom { fill: #ff7b72; stroke: #0d1117 }
.asks { fill: #0d1117; stroke: #d29922 } .other { stroke: #9198a1 }
}
";

/// The document.
pub(super) fn document(lives: &Lives, zone: &TimeZone) -> String {
    let all = ordered(lives);
    let rows = newest(&all, lives.window);
    let names = labels(&rows);
    let lines = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let bottom = TOP + lines * ROW;
    let height = bottom + 56;
    let mut out = Svg { text: String::new(), window: lives.window, zone };
    out.push(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n"
    ));
    out.push(&format!("<title>Lifetimes of sessions</title>\n<style>{STYLE}</style>\n"));
    out.push(&format!("<defs>{}{}</defs>\n", stripes("hatch", "hatch"), stripes("cuts", "gash")));
    out.push(&format!("<rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n"));
    // The clock may change within the window, so both ends have an offset.
    let [since, until] = [lives.window.since_ns, lives.window.until_ns].map(|at| moment(at, zone, HEADING));
    let heading = format!("{since} to {until}");
    out.words(LEFT, 18, "faint", &heading);
    out.words(10, 18, "title", &format!("{} sessions", all.len()));
    for row in (0..lines).step_by(2) {
        out.push(&format!(
            "<rect class=\"stripe\" y=\"{}\" width=\"{WIDTH}\" height=\"{ROW}\"/>\n",
            TOP + row * ROW
        ));
    }
    out.axis(bottom);
    for (((key, row), name), line) in rows.iter().zip(&names).zip(0..) {
        let gaps = lives.gaps.get(&key.host_id).map(Vec::as_slice).unwrap_or_default();
        out.row(name, key, row, gaps, TOP + line * ROW);
    }
    out.legend(bottom + 20);
    let left_out = all.len() - rows.len();
    if left_out > 0 || lives.left_out > 0 {
        let text = match lives.left_out {
            0 => format!("{left_out} more sessions are left out"),
            entries => format!("{left_out} more sessions are left out, and {entries} entries of others"),
        };
        out.words(LEFT, bottom + 44, "faint", &text);
    }
    out.push("</svg>\n");
    out.text
}

/// A pattern of diagonal stripes: its id, and the class of a stripe.
fn stripes(id: &str, class: &str) -> String {
    format!(
        "<pattern id=\"{id}\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
         <line class=\"{class}\" x1=\"4\" y1=\"0\" x2=\"4\" y2=\"8\"/></pattern>"
    )
}

/// The parts of bars that lie in these times. Both are in the order of time.
fn within(mut bars: &[Bar], mut gaps: &[Span], window: Window) -> Vec<Span> {
    let mut parts = Vec::new();
    while let ([bar, later_bars @ ..], [gap, later_gaps @ ..]) = (bars, gaps) {
        let to_ns = bar.to_ns.unwrap_or(window.until_ns);
        let part = Span { from_ns: bar.from_ns.max(gap.from_ns), to_ns: to_ns.min(gap.to_ns) };
        if part.from_ns <= part.to_ns {
            parts.push(part);
        }
        if to_ns < gap.to_ns {
            bars = later_bars;
        } else {
            gaps = later_gaps;
        }
    }
    parts
}

/// At most [`SVG_ROWS_MAX`] rows: those that lived or ended last, in their order.
fn newest<'l>(all: &[(&'l RowKey, &'l LifeRow)], window: Window) -> Vec<(&'l RowKey, &'l LifeRow)> {
    let last = |row: &LifeRow| row.bars.last().map(|bar| bar.to_ns.unwrap_or(window.until_ns));
    let mut places: Vec<usize> = (0..all.len()).collect();
    places.sort_by_key(|&at| std::cmp::Reverse(all.get(at).and_then(|(_, row)| last(row))));
    places.truncate(SVG_ROWS_MAX);
    places.sort_unstable();
    places.into_iter().filter_map(|at| all.get(at).copied()).collect()
}

/// A moment in a time zone, in this form.
fn moment(unix_ns: i64, zone: &TimeZone, form: &str) -> String {
    let at = Timestamp::from_nanosecond(unix_ns.into());
    at.map(|at| at.to_zoned(zone.clone()).strftime(form).to_string()).unwrap_or_default()
}

/// `text` as the content of an element or an attribute: one harmless line, with XML's own characters escaped.
fn escaped(text: &str) -> String {
    let line = crate::text::bytes::to_one_line(text);
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The shape of an end around the middle of a row, and its class.
fn shape(end: EndMark, x: u32, y: u32) -> String {
    match end {
        EndMark::ExitZero => format!("<circle class=\"good\" cx=\"{x}\" cy=\"{y}\" r=\"4.5\"/>"),
        EndMark::ExitOther => format!("<circle class=\"warn\" cx=\"{x}\" cy=\"{y}\" r=\"5.5\"/>"),
        EndMark::Signal => format!(
            "<path class=\"bad\" d=\"M{} {}l9 9m0 -9l-9 9\"/>",
            f64::from(x) - 4.5,
            f64::from(y) - 4.5
        ),
        EndMark::Oom => format!("<path class=\"oom\" d=\"M{x} {}l7 7l-7 7l-7 -7z\"/>", y.saturating_sub(7)),
        EndMark::Unobserved => {
            format!("<rect class=\"asks\" x=\"{}\" y=\"{}\" width=\"8\" height=\"8\"/>", x - 4, y - 4)
        }
        EndMark::Other => format!("<path class=\"other\" d=\"M{x} {}v14\"/>", y.saturating_sub(7)),
    }
}

/// A document that is being written.
struct Svg<'z> {
    text: String,
    window: Window,
    /// Of all times in the document.
    zone: &'z TimeZone,
}

impl Svg<'_> {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn words(&mut self, x: u32, y: u32, class: &str, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escaped(text));
    }

    /// The place of a moment.
    fn x(&self, at_ns: i64) -> u32 {
        LEFT + self.window.part(at_ns, TRACK)
    }

    fn axis(&mut self, bottom: u32) {
        let mut free = 0;
        for tick in self.window.ticks(LABELS, self.zone) {
            let x = self.x(tick.at_ns);
            let _ = writeln!(
                self.text,
                "<line class=\"line\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\"/>",
                TOP - 8
            );
            if x >= free && x + 40 <= WIDTH {
                self.words(x, TOP - 14, "faint", &tick.label);
                free = x + 70;
            }
        }
    }

    /// A span as a rectangle; one that is too short to be seen has one unit.
    fn span(&mut self, class: &str, from_ns: i64, to_ns: i64, y: u32, height: u32) {
        let (from, to) = (self.x(from_ns), self.x(to_ns));
        let width = to.saturating_sub(from).max(1);
        let _ = write!(
            self.text,
            "<rect class=\"{class}\" x=\"{from}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        );
    }

    fn row(&mut self, name: &str, key: &RowKey, row: &LifeRow, gaps: &[Span], y: u32) {
        let home = escaped(&to_line(&key.home));
        let short = escaped(&cut_middle(name, NAME_CELLS));
        self.push(&format!("<g><title>{home}</title><text x=\"10\" y=\"{}\">{short}</text></g>\n", y + 15));
        for gap in gaps.iter().chain(&row.unseen) {
            self.span("gap", gap.from_ns, gap.to_ns, y + 1, 20);
        }
        let mut end = None;
        for bar in &row.bars {
            let to_ns = bar.to_ns.unwrap_or(self.window.until_ns);
            // Bars that would cover each other are drawn once.
            if end != Some((self.x(bar.from_ns), self.x(to_ns))) {
                self.span("bar", bar.from_ns, to_ns, y + 6, 10);
            }
            end = Some((self.x(bar.from_ns), self.x(to_ns)));
        }
        for part in within(&row.bars, gaps, self.window) {
            self.span("cut", part.from_ns, part.to_ns, y + 6, 10);
        }
        self.push("\n");
        let mut marks = row.marks.iter().peekable();
        while let Some(first) = marks.next() {
            let x = self.x(first.at_ns);
            let (mut worst, mut count, mut last) = (first.end, first.count, first);
            while let Some(next) = marks.next_if(|next| self.x(next.at_ns) == x) {
                (worst, count, last) = (worst.max(next.end), count.saturating_add(next.count), next);
            }
            self.mark(worst, count, last, x, y + 11);
        }
    }

    /// The ends at one place, with the last of them in words.
    fn mark(&mut self, worst: EndMark, count: u64, last: &Mark, x: u32, y: u32) {
        let times = if count > 1 { format!("{count} ends, the last: ") } else { String::new() };
        let cause = if last.cause.is_empty() { last.end.words() } else { &last.cause };
        let words = escaped(&format!("{times}{cause} at {}", moment(last.at_ns, self.zone, END)));
        let _ = writeln!(self.text, "<g><title>{words}</title>{}</g>", shape(worst, x, y));
    }

    fn legend(&mut self, y: u32) {
        self.push(&format!("<rect class=\"bar\" x=\"10\" y=\"{}\" width=\"24\" height=\"10\"/>\n", y - 9));
        self.words(40, y, "faint", "lives");
        let mut x = 100;
        for end in EndMark::ALL {
            self.push(&shape(end, x, y - 4));
            self.words(x + 12, y, "faint", end.words());
            x += 42 + 8 * u32::try_from(end.words().len()).unwrap_or(0);
        }
        let (bar, gap) = (y + 15, y + 10);
        self.push(&format!("<rect class=\"gap\" x=\"10\" y=\"{gap}\" width=\"52\" height=\"20\"/>\n"));
        for class in ["bar", "cut"] {
            self.push(&format!(
                "<rect class=\"{class}\" x=\"36\" y=\"{bar}\" width=\"26\" height=\"10\"/>\n"
            ));
        }
        self.words(70, y + 24, "faint", "not all is known");
    }
}

#[cfg(test)]
mod tests {
    use super::super::lives::tests::{BASE, HOUR, death, entry, rfc3339, window};
    use super::*;

    fn parsed(document: &str) -> roxmltree::Document<'_> {
        roxmltree::Document::parse(document).unwrap_or_else(|error| panic!("{error}:\n{document}"))
    }

    fn class_count(document: &roxmltree::Document<'_>, class: &str) -> usize {
        document.descendants().filter(|node| node.attribute("class") == Some(class)).count()
    }

    #[test]
    fn the_document_is_well_formed_whatever_names_hold() {
        let mut lives = Lives::new(window());
        let names = ["a<b>&\"'c", "]]>", "\x1b[2J\u{202e}\u{ffff}", "语言", "-->", "&#0;", "\u{0}"];
        for name in names {
            lives.take(entry(1, "session_started", &format!("/srv/{name}"), "{}"));
            let killed = death("signaled", r#","signal":9,"signal_name":"<b>&\"'\u001b""#);
            lives.take(entry(2, "session_ended", &format!("/srv/{name}"), &killed));
        }
        let document = document(&lives, &TimeZone::UTC);
        assert!(document.chars().all(|c| c == '\n' || !c.is_control()), "{document:?}");
        let parsed = parsed(&document);
        let texts: Vec<_> = parsed.descendants().filter_map(|node| node.text()).collect();
        for expected in ["a<b>&\"'c", "]]>", r"\x1b[2J\u{202e}\u{ffff}", "语言", "-->", "&#0;", r"\x00"] {
            assert!(texts.contains(&expected), "{expected}: {texts:#?}");
        }
        assert!(
            texts.iter().any(|text| text.starts_with(r#"<b>&"'\x1b at 2026-11-21 02:00:00.000 +00:00"#)),
            "{texts:#?}"
        );
    }

    #[test]
    fn lives_are_bars_ends_have_shapes_and_gaps_are_hatched() {
        let mut lives = Lives::new(window());
        let kinds = ["exited\",\"code\":0,\"x\":\"", "exited", "signaled", "oom_killed", "unobserved"];
        for (hour, kind) in (0..).step_by(4).zip(kinds) {
            lives.take(entry(hour, "session_started", "/srv/a", "{}"));
            lives.take(entry(hour + 2, "session_ended", "/srv/a", &death(kind, "")));
        }
        let gap = format!(r#"{{"from":"{}"}}"#, rfc3339(BASE + 20 * HOUR));
        lives.take(entry(22, "gap", "", &gap));
        let text = document(&lives, &TimeZone::UTC);
        let parsed = parsed(&text);
        // One of each is in the legend.
        for class in ["good", "warn", "bad", "oom", "asks", "gap"] {
            assert_eq!(class_count(&parsed, class), 2, "{class}: {text}");
        }
        assert_eq!((class_count(&parsed, "bar"), class_count(&parsed, "other")), (7, 1));
        let bar = parsed.descendants().find(|node| node.attribute("class") == Some("bar")).unwrap();
        assert_eq!((bar.attribute("x"), bar.attribute("width")), (Some("200"), Some("65")), "2 of 24 hours");
    }

    #[test]
    fn a_bar_is_cut_where_not_all_is_known_and_nowhere_else() {
        let mut lives = Lives::new(window());
        lives.take(entry(4, "session_started", "/srv/a", "{}"));
        lives.take(entry(8, "session_ended", "/srv/a", "{}"));
        lives.take(entry(12, "session_started", "/srv/a", "{}"));
        for (from, to) in [(2, 5), (7, 14), (16, 17)] {
            let gap = format!(r#"{{"from":"{}"}}"#, rfc3339(BASE + from * HOUR));
            lives.take(entry(to, "gap", "", &gap));
        }
        let bars = &lives.rows.first_key_value().unwrap().1.bars;
        let parts = within(bars, &lives.gaps[""], lives.window);
        let hours = |span: &Span| ((span.from_ns - BASE) / HOUR, (span.to_ns - BASE) / HOUR);
        assert_eq!(parts.iter().map(hours).collect::<Vec<_>>(), [(4, 5), (7, 8), (12, 14), (16, 17)]);
        let text = document(&lives, &TimeZone::UTC);
        let parsed = parsed(&text);
        // The last one is in the legend.
        let cuts: Vec<_> =
            parsed.descendants().filter(|node| node.attribute("class") == Some("cut")).collect();
        assert_eq!(
            (cuts.len(), cuts[0].attribute("x"), cuts[0].attribute("width")),
            (5, Some("330"), Some("32"))
        );
        assert!(within(&[], &lives.gaps[""], lives.window).is_empty());
    }

    #[test]
    fn all_times_are_of_one_zone_whose_offset_is_named() {
        let mut lives = Lives::new(window());
        lives.take(entry(2, "session_ended", "/srv/a", &death("oom_killed", "")));
        let india = TimeZone::fixed(jiff::tz::offset(5).saturating_add(jiff::Span::new().minutes(30)));
        let text = document(&lives, &india);
        let parsed = parsed(&text);
        let texts: Vec<_> = parsed.descendants().filter_map(|node| node.text()).collect();
        assert!(texts.contains(&"2026-11-21 05:30 +05:30 to 2026-11-22 05:30 +05:30"), "{texts:#?}");
        assert!(texts.iter().any(|text| text.ends_with(" at 2026-11-21 07:30:00.000 +05:30")), "{texts:#?}");
        assert!(texts.contains(&"06:00"), "the axis: {texts:#?}");
    }

    #[test]
    fn a_picture_is_bounded_and_says_what_it_leaves_out() {
        let mut lives = Lives::new(window());
        for home in 0..SVG_ROWS_MAX + 30 {
            let home = format!("/srv/{home:03}");
            lives.take(entry(1, "session_started", &home, "{}"));
            if !home.ends_with('0') {
                lives.take(entry(2, "session_ended", &home, "{}"));
            }
        }
        for second in 0..5_000 {
            let at_ns = BASE + 3 * HOUR + second * 2_000_000_000;
            let again = entry(0, "session_started", "/srv/000", "{}");
            lives.take(super::super::lives::PastEntry { at_ns, ..again });
            let end = entry(0, "session_ended", "/srv/000", "{}");
            lives.take(super::super::lives::PastEntry { at_ns: at_ns + 1_000_000_000, ..end });
        }
        let text = document(&lives, &TimeZone::UTC);
        let parsed = parsed(&text);
        let texts: Vec<_> = parsed.descendants().filter_map(|node| node.text()).collect();
        assert!(texts.contains(&"30 more sessions are left out"), "{texts:?}");
        // Those that live are there.
        assert!((0..130).step_by(10).all(|home| texts.contains(&format!("{home:03}").as_str())), "{texts:?}");
        assert!(text.len() < 400_000, "{} bytes", text.len());
    }
}
