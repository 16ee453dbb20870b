//! Who was connected where, and when nobody answered: of one run, as CSV and as a picture.

use crate::gap::{self, Window};
use crate::seen::{Mode, Session, Sessions};
use std::fmt::Write;

/// Shorter silence is not shown, in microseconds.
const SHOWN_US: u64 = 30_000;
/// Of the picture, in its units.
const LEFT: f64 = 130.0;
const WIDE: f64 = 900.0;
const LINE: f64 = 22.0;
const TOP: f64 = 50.0;
/// Colours of mirrors, that are told apart without colour sight too (Okabe, Ito 2008).
const COLOURS: [&str; 7] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442", "#999999"];

/// A run, to be shown.
pub struct Run<'a> {
    /// What it is.
    pub title: String,
    /// What its sessions saw.
    pub seen: &'a [Sessions],
    /// From when to when.
    pub window: Window,
    /// What was done, and when.
    pub marks: Vec<(u64, String)>,
}

/// A time in which one mirror answered, or none did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Since the first step, in microseconds.
    pub from: i64,
    /// The same.
    pub to: i64,
    /// The mirror's host; `None` in a gap.
    pub by: Option<u8>,
}

/// What a session's time consists of.
pub fn stretches(mode: Mode, session: &Session, window: Window) -> Vec<Stretch> {
    let least = SHOWN_US.max(2 * gap::usual(mode, session, window));
    let since = |at: u64| at as i64 - window.fault as i64;
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut last = window.settled;
    let inside = |at: &u64| (window.settled..=window.end).contains(at);
    for (at, by) in gap::firsts(session).into_iter().filter(|(at, _)| inside(at)) {
        if at - last > least {
            stretches.push(Stretch { from: since(last), to: since(at), by: None });
        }
        match stretches.last_mut() {
            Some(stretch) if stretch.by == Some(by) => stretch.to = since(at),
            _ => stretches.push(Stretch {
                from: since(last.max(at.min(last + least))),
                to: since(at),
                by: Some(by),
            }),
        }
        if let [.., gap, stretch] = &mut stretches[..]
            && gap.by.is_none()
            && stretch.from < gap.to
        {
            stretch.from = gap.to;
        }
        last = at;
    }
    if window.end - last > least {
        stretches.push(Stretch { from: since(last), to: since(window.end), by: None });
    }
    stretches
}

/// The stretches of a run as CSV, times in milliseconds since the first step.
pub fn csv(run: &Run<'_>) -> String {
    let mut text = String::from("mode,session,from_ms,to_ms,at\r\n");
    for (sessions, number, session) in each(run.seen) {
        for Stretch { from, to, by } in stretches(sessions.mode, session, run.window) {
            let at = by.map_or("gap".into(), |host| format!("m{host}"));
            let (from, to) = (from as f64 / 1e3, to as f64 / 1e3);
            let _ = write!(text, "{},{number},{from:.1},{to:.1},{at}\r\n", sessions.mode.name());
        }
    }
    text
}

/// The run as a picture.
pub fn svg(run: &Run<'_>) -> String {
    let lines = run.seen.iter().map(|s| s.sessions.len()).sum::<usize>() as f64;
    let bottom = TOP + lines * LINE;
    let (height, width) = (bottom + 40.0, LEFT + WIDE + 20.0);
    let span = (run.window.end - run.window.settled).max(1) as f64;
    let start = run.window.settled as i64 - run.window.fault as i64;
    let x = |since: i64| LEFT + (since - start) as f64 / span * WIDE;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\">{}</text>\n",
        escaped(&run.title)
    );
    for (line, (sessions, number, session)) in each(run.seen).enumerate() {
        let y = TOP + line as f64 * LINE;
        let name = format!("{} {}", sessions.mode.name(), number + 1);
        let _ = writeln!(text, "<text x=\"10\" y=\"{:.1}\">{name}</text>", y + 13.0);
        for stretch in stretches(sessions.mode, session, run.window) {
            text += &bar(stretch, y, x(stretch.from), x(stretch.to));
        }
    }
    for (at, what) in &run.marks {
        let x = x(*at as i64 - run.window.fault as i64);
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"#000\" stroke-dasharray=\"3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            TOP - 12.0,
            x + 3.0,
            TOP - 5.0,
            escaped(what)
        );
    }
    for tenth in 0..=10 {
        let since = start as f64 + span * f64::from(tenth) / 10.0;
        let x = x(since as i64);
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\">{:.0} ms</text>",
            x - 12.0,
            bottom + 18.0,
            since / 1e3
        );
    }
    text + "</svg>\n"
}

fn bar(stretch: Stretch, y: f64, from: f64, to: f64) -> String {
    let width = (to - from).max(1.0);
    let ms = (stretch.to - stretch.from) as f64 / 1e3;
    let (fill, what) = match stretch.by {
        Some(host) => {
            (COLOURS[usize::from(host.saturating_sub(1)) % COLOURS.len()], format!("m{host}, {ms:.0} ms"))
        }
        None => ("#d00000", format!("gap, {ms:.0} ms")),
    };
    // A gap is thin, so that it is seen on paper without colours too.
    let (y, tall) = if stretch.by.is_some() { (y, 16.0) } else { (y + 6.0, 4.0) };
    let label = match stretch.by {
        Some(host) if width > 30.0 => {
            format!("<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#fff\">m{host}</text>", from + 4.0, y + 12.0)
        }
        _ => String::new(),
    };
    format!(
        "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{tall}\" fill=\"{fill}\">\
         <title>{what}</title></rect>{label}\n"
    )
}

fn each(seen: &[Sessions]) -> impl Iterator<Item = (&Sessions, usize, &Session)> {
    seen.iter().flat_map(|s| s.sessions.iter().enumerate().map(move |(number, session)| (s, number, session)))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seen::Answer;

    /// m1 answers until 1.0 s, nobody until 1.2 s, then m2.
    fn run() -> Vec<Sessions> {
        let answer = |seq: u64| Answer { seq, at: seq * 10_000, by: if seq <= 100 { 1 } else { 2 } };
        let answers = (0..=200).filter(|seq| !(101..120).contains(seq)).map(answer).collect();
        let session = Session { answers, ..Session::default() };
        vec![Sessions { mode: Mode::Udp, sessions: vec![session] }]
    }

    const WINDOW: Window = Window { settled: 500_000, fault: 1_000_000, end: 2_000_000, grace: 0 };

    #[test]
    fn a_session_is_where_its_answers_come_from() {
        let seen = run();
        let stretches = stretches(Mode::Udp, &seen[0].sessions[0], WINDOW);
        let of = |from, to, by| Stretch { from, to, by };
        assert_eq!(
            stretches,
            [of(-500_000, 0, Some(1)), of(0, 200_000, None), of(200_000, 1_000_000, Some(2))]
        );
    }

    #[test]
    fn a_run_is_shown() {
        let seen = run();
        let marks = vec![(1_000_000, "kill <m1>".to_owned())];
        let run = Run { title: "kill & go on".into(), seen: &seen, window: WINDOW, marks };
        assert_eq!(
            csv(&run),
            "mode,session,from_ms,to_ms,at\r\nudp,0,-500.0,0.0,m1\r\nudp,0,0.0,200.0,gap\r\n\
             udp,0,200.0,1000.0,m2\r\n"
        );
        let svg = svg(&run);
        for part in ["kill &amp; go on", "kill &lt;m1&gt;", "gap, 200 ms", "m2, 800 ms", "</svg>"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }
}
