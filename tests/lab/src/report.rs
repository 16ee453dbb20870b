//! What all trials of a cell say together: a row of the table, of the CSV, and of the JSON.

use crate::gap::Felt;
use crate::order::Report;
use crate::seen::{Mode, Way};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Quantiles, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half are at most this …
    pub p50: f64,
    /// … 99 in a hundred this …
    pub p99: f64,
    /// … and all this.
    pub max: f64,
}

impl Quantiles {
    /// Of values in microseconds, by nearest rank.
    pub fn of(mut us: Vec<u64>) -> Quantiles {
        us.sort_unstable();
        let at = |share: f64| {
            let rank = ((us.len() as f64 * share).ceil() as usize).clamp(1, us.len().max(1));
            us.get(rank - 1).map_or(0.0, |us| *us as f64 / 1e3)
        };
        Quantiles { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// Which trials a row is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subject {
    /// The scenario.
    pub scenario: String,
    /// What goes between user and service.
    pub way: Way,
    /// How users used it.
    pub mode: Mode,
    /// Round trip to the primary.
    pub r_ms: u32,
    /// Round trip to the standby.
    pub s_ms: u32,
}

/// What came of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Of which trials.
    #[serde(flatten)]
    pub subject: Subject,
    /// Sessions that were measured; several in each …
    pub trials: u64,
    /// … of so many runs of the script.
    pub runs: u64,
    /// Gaps.
    pub gap_ms: Quantiles,
    /// Gaps before anything was done.
    pub quiet_ms: Quantiles,
    /// Round trips of users before anything was done, half of which are at most this.
    pub rtt_p50_ms: f64,
    /// How much 99 in 100 gaps may be.
    pub figure_ms: Option<f64>,
    /// What was lost, came twice, and so on.
    #[serde(flatten)]
    pub counts: Counts,
    /// Why sessions moved, and how often.
    #[serde(flatten)]
    pub moved: Moved,
    /// How late the router was, 99 in a hundred packets of the worst run.
    pub late_p99_ms: f64,
}

/// Why sessions moved, and how often.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// Times that a session moved in an hour of being watched.
    pub moves_an_hour: f64,
    /// Times that sessions moved, by why.
    pub moved_by: BTreeMap<String, u64>,
}

/// Sums over sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Never answered.
    pub lost: u64,
    /// Answered more than once.
    pub duplicated: u64,
    /// Nobody can tell.
    pub unsure: u64,
    /// Wrong.
    pub corrupt: u64,
    /// Times that sessions moved.
    pub moves: u64,
    /// POSTs that services' ledgers hold more than once.
    pub twice_in_ledger: u64,
    /// POSTs that were answered and are in no ledger.
    pub not_in_ledger: u64,
    /// Sessions that were elsewhere when the script began, and do not count.
    pub elsewhere: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: Counts) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.unsure += other.unsure;
        self.corrupt += other.corrupt;
        self.moves += other.moves;
        self.twice_in_ledger += other.twice_in_ledger;
        self.not_in_ledger += other.not_in_ledger;
        self.elsewhere += other.elsewhere;
    }
}

/// The trials of a cell and mode.
#[derive(Clone, Debug, Default)]
pub struct Trials {
    /// What each session felt.
    pub felt: Vec<Felt>,
    /// Runs of the script.
    pub runs: u64,
    /// How the router did in each.
    pub router: Vec<Report>,
    /// Counts that no session knows.
    pub counts: Counts,
}

impl Trials {
    /// All together.
    pub fn row(&self, subject: Subject, figure_ms: Option<f64>, watched: Duration) -> Row {
        let hours = watched.as_secs_f64() / 3600.0 * self.felt.len().max(1) as f64;
        let sum = |of: fn(&Felt) -> u64| self.felt.iter().map(of).sum::<u64>();
        let mut moves: BTreeMap<String, u64> = BTreeMap::new();
        for (why, times) in self.felt.iter().flat_map(|f| &f.moves) {
            *moves.entry(why.clone()).or_default() += times;
        }
        let late = self.router.iter().map(|r| r.late_p99_us).max().unwrap_or(0);
        Row {
            subject,
            trials: self.felt.len() as u64,
            runs: self.runs,
            gap_ms: Quantiles::of(self.felt.iter().map(|f| f.gap_us).collect()),
            quiet_ms: Quantiles::of(self.felt.iter().map(|f| f.quiet_us).collect()),
            rtt_p50_ms: Quantiles::of(self.felt.iter().map(|f| f.rtt_us).collect()).p50,
            figure_ms,
            counts: Counts {
                lost: sum(|f| f.lost),
                duplicated: sum(|f| f.duplicated),
                unsure: sum(|f| f.unsure),
                corrupt: sum(|f| f.corrupt),
                moves: moves.values().sum(),
                ..self.counts
            },
            moved: Moved { moves_an_hour: moves.values().sum::<u64>() as f64 / hours, moved_by: moves },
            late_p99_ms: late as f64 / 1e3,
        }
    }
}

/// The rows as a table for people.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<22}{:<9}{:<5}{:>5}{:>5}{:>7}{:>9}{:>9}{:>9}{:>8}{:>7}{:>7}{:>6}{:>6}{:>7}{:>6}{:>6}\n",
        "scenario",
        "way",
        "mode",
        "r",
        "s",
        "trials",
        "p50",
        "p99",
        "max",
        "figure",
        "rtt",
        "quiet",
        "lost",
        "dup",
        "unsure",
        "moves",
        "late"
    );
    for row in rows {
        let Row { subject: s, gap_ms: gap, counts: c, .. } = row;
        let figure = row.figure_ms.map_or("-".into(), |ms| format!("{ms:.0}"));
        let _ = write!(text, "{:<22}{:<9}{:<5}", s.scenario, s.way.name(), s.mode.name());
        let _ = write!(text, "{:>5}{:>5}{:>7}", s.r_ms, s.s_ms, row.trials);
        let _ = write!(text, "{:>9.1}{:>9.1}{:>9.1}{figure:>8}", gap.p50, gap.p99, gap.max);
        let _ = write!(text, "{:>7.1}{:>7.1}", row.rtt_p50_ms, row.quiet_ms.p99);
        let _ = write!(text, "{:>6}{:>6}{:>7}{:>6}", c.lost, c.duplicated, c.unsure, c.moves);
        let _ = writeln!(text, "{:>6.1}", row.late_p99_ms);
        if !row.moved.moved_by.is_empty() {
            let _ = writeln!(text, "  moved: {:?}", row.moved.moved_by);
        }
        for (count, what) in [
            (c.corrupt, "answers were wrong"),
            (c.twice_in_ledger, "POSTs are more than once in the ledgers"),
            (c.not_in_ledger, "answered POSTs are in no ledger"),
            (c.elsewhere, "sessions were elsewhere and do not count"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "  {count} {what}");
            }
        }
    }
    text
}

/// The rows as CSV (RFC 4180).
pub fn csv(rows: &[Row]) -> String {
    let mut text = String::from(
        "scenario,way,mode,r_ms,s_ms,trials,runs,gap_p50_ms,gap_p99_ms,gap_max_ms,figure_ms,rtt_p50_ms,quiet_p99_ms,lost,\
         duplicated,unsure,corrupt,moves,twice_in_ledger,not_in_ledger,elsewhere,late_p99_ms\r\n",
    );
    for row in rows {
        let Row { subject: s, gap_ms: gap, counts: c, .. } = row;
        let name = s.scenario.replace('"', "\"\"");
        let _ = write!(text, "\"{name}\",{},{},{},{},", s.way.name(), s.mode.name(), s.r_ms, s.s_ms);
        let _ = write!(text, "{},{},{},{},{},", row.trials, row.runs, gap.p50, gap.p99, gap.max);
        let figure = row.figure_ms.map_or(String::new(), |ms| ms.to_string());
        let _ = write!(
            text,
            "{figure},{},{},{},{},{},{},",
            row.rtt_p50_ms, row.quiet_ms.p99, c.lost, c.duplicated, c.unsure, c.corrupt
        );
        let _ = write!(text, "{},{},{},{},", c.moves, c.twice_in_ledger, c.not_in_ledger, c.elsewhere);
        let _ = write!(text, "{}\r\n", row.late_p99_ms);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let q = Quantiles::of((1..=200).map(|n| n * 1000).collect());
        assert_eq!(q, Quantiles { p50: 100.0, p99: 198.0, max: 200.0 });
        assert_eq!(Quantiles::of(vec![5000]), Quantiles { p50: 5.0, p99: 5.0, max: 5.0 });
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
    }

    #[test]
    fn a_row_is_told_in_each_way() {
        let felt = |gap_us, lost| Felt { gap_us, lost, ..Felt::default() };
        let trials = Trials { felt: vec![felt(1000, 1), felt(3000, 2)], runs: 1, ..Trials::default() };
        let subject =
            Subject { scenario: "a \"b\"".into(), way: Way::Nearmost, mode: Mode::Udp, r_ms: 10, s_ms: 40 };
        let row = trials.row(subject, Some(75.0), Duration::from_secs(36));
        assert_eq!((row.trials, row.gap_ms.p50, row.gap_ms.max, row.counts.lost), (2, 1.0, 3.0, 3));
        let csv = csv(std::slice::from_ref(&row));
        let lines: Vec<_> = csv.lines().collect();
        assert!(lines[1].starts_with("\"a \"\"b\"\"\",nearmost,udp,10,40,2,1,1,3,3,75,"), "{}", lines[1]);
        assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!((json["scenario"].as_str(), json["lost"].as_u64()), (Some("a \"b\""), Some(3)));
        assert!(table(&[row]).lines().nth(1).unwrap().contains("75"));
    }
}
