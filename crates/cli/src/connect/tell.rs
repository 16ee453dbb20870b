//! What `connect` says: a line for people on standard error for each thing that happens, and with `--json` a
//! line of JSON on standard output.

use super::args::MirrorArg;
use super::lines::Lines;
use crate::output::{escaped, shown};
use nearmost_client::identity::Id;
use nearmost_client::session::{Count, Event, MoveReason, Session};
use nearmost_client::sidecar::{Counters, Notice};
use nearmost_client::text::printable;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// What the session dropped or refused.
const COUNTS: [(&str, Count); 11] = [
    ("session_unattached", Count::Unattached),
    ("session_too_large", Count::TooLarge),
    ("session_not_sent", Count::NotSent),
    ("session_not_fetched", Count::NotFetched),
    ("session_duplicates", Count::Duplicates),
    ("session_too_old", Count::TooOld),
    ("session_bad_input", Count::BadInput),
    ("session_wrong_key", Count::WrongKey),
    ("session_no_tripwire", Count::NoTripwire),
    ("session_bad_list", Count::BadList),
    ("session_ungranted", Count::Ungranted),
];

/// For how long the last lines are waited for.
const LAST: Duration = Duration::from_secs(1);

/// Says it, by the names that people gave, else by those of the broker's list.
pub struct Teller {
    people: Lines,
    /// Where JSON was asked for.
    programs: Option<Lines>,
    names: HashMap<Id, String>,
    session: Session,
}

impl Teller {
    /// With the names of these mirrors.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn new(json: bool, mirrors: &[MirrorArg], session: Session) -> std::io::Result<Teller> {
        let named = |mirror: &MirrorArg| Some((mirror.node, mirror.name.clone()?));
        let names = mirrors.iter().filter_map(named).collect();
        let people = Lines::new(std::io::stderr())?;
        let programs = json.then(|| Lines::new(std::io::stdout())).transpose()?;
        Ok(Teller { people, programs, names, session })
    }

    fn name(&self, node: Id) -> String {
        let listed = || self.session.name(node).unwrap_or_else(|| node.to_string());
        self.names.get(&node).cloned().unwrap_or_else(listed)
    }

    /// A line for people, and what it says in JSON.
    fn say(&self, line: &str, value: &Value) {
        self.people.say(format!("{}\n", printable(line)));
        if let Some(programs) = &self.programs {
            programs.say(shown(&format!("{}\n", escaped(&value.to_string()))));
        }
    }

    /// Programs may come.
    pub fn ready(&self, listen: &str, mode: &str, domain: &str) {
        let line = format!("ready: {mode} on {listen} goes to {domain}");
        self.say(&line, &json!({ "event": "ready", "listen": listen, "mode": mode, "domain": domain }))
    }

    /// A first mirror, or the same again after none was left.
    pub fn attached(&self, to: Id) {
        let name = self.name(to);
        let rtt_ms = self.session.round_trip().map(ms);
        let near = rtt_ms.map(|rtt| format!(", {rtt} ms")).unwrap_or_default();
        let value = json!({ "event": "attached", "to": name, "node": to.to_string(), "rtt_ms": rtt_ms });
        self.say(&format!("attached to {name}{near}"), &value);
    }

    /// What happened to the session.
    pub fn event(&self, event: Event) {
        match event {
            Event::Attached { to } => self.attached(to),
            Event::Moved { from, to, reason, gap } => {
                let (from, name, gap) = (self.name(from), self.name(to), ms(gap));
                let (label, words) = why(reason);
                let line = format!("moved from {from} to {name}: {words}, {gap} ms without a mirror");
                let value = json!({
                    "event": "moved", "from": from, "to": name, "node": to.to_string(), "reason": label, "gap_ms": gap,
                });
                self.say(&line, &value)
            }
            Event::Degraded { primary } => self.state("degraded", primary, "does not answer as it should"),
            Event::Restored { primary } => self.state("restored", primary, "answers again"),
            Event::Lost { primary } => {
                self.state("lost", primary, "is gone, and no other mirror is there yet")
            }
        }
    }

    fn state(&self, event: &str, primary: Id, says: &str) {
        let name = self.name(primary);
        let value = json!({ "event": event, "mirror": name, "node": primary.to_string() });
        self.say(&format!("{name} {says}"), &value)
    }

    /// What went wrong for a program.
    pub fn notice(&self, notice: &Notice) {
        let text = notice.to_string();
        self.say(&format!("warning: {text}"), &json!({ "event": "warning", "text": text }))
    }

    /// The end, with all that was counted.
    pub async fn ended(self, counters: &Counters) {
        let dropped = COUNTS.into_iter().map(|(name, what)| (name, self.session.count(what)));
        let untold = self.people.dropped() + self.programs.as_ref().map_or(0, Lines::dropped);
        let dropped = dropped.chain([("lines_dropped", untold)]);
        let all = counters.named().chain(dropped.filter(|(_, n)| *n > 0));
        let (mut shown, mut value) = (Vec::new(), Map::new());
        for (name, n) in all {
            shown.push(format!("{name} {n}"));
            value.insert(name.into(), n.into());
        }
        let shown = if shown.is_empty() { "nothing came".into() } else { shown.join(", ") };
        self.say(&format!("ended: {shown}"), &json!({ "event": "ended", "counters": value }));
        self.people.finish(LAST).await;
        if let Some(programs) = self.programs {
            programs.finish(LAST).await;
        }
    }
}

/// Milliseconds with one digit behind the point.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

fn why(reason: MoveReason) -> (&'static str, &'static str) {
    match reason {
        MoveReason::Silence => ("silence", "it fell silent"),
        MoveReason::Tripwire => ("tripwire", "its connection closed"),
        MoveReason::Drain => ("drain", "it drains or its service takes nobody"),
        MoveReason::Unlisted => ("unlisted", "the broker says that it is down"),
        MoveReason::Refused => ("refused", "it has no room"),
        MoveReason::Better => ("better", "the other is nearer"),
    }
}
