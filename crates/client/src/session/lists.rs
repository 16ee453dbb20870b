//! Where the machine's lists come from: the caller's mirrors, or brokers.

use super::counters::{Count, Counters};
use super::find::BrokerAt;
use super::known::{self, Known};
use super::line::{self, Heard, Line, Word};
use super::table::Mirrors;
use super::trust::Trust;
use nearmost_core::session::MirrorKey;
use nearmost_core::session::client::Input;
use nearmost_core::session::list::ListVersion;
use nearmost_core::time::UnixMillis;
use nearmost_wire::client::{MAX_RTTS, Measured};
use nearmost_wire::fare::Fare;
use nearmost_wire::identity::Id;
use nearmost_wire::list::Version;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// What lines have said that waits for the driver.
pub(super) const HEARD: usize = 64;

/// The mirrors, and whoever tells of them.
pub(super) struct Lists {
    pub mirrors: Mirrors,
    brokers: Option<Brokers>,
}

/// Brokers of a session. One is followed at a time.
struct Brokers {
    domain: String,
    at: Vec<BrokerAt>,
    trust: Trust,
    line: Option<Line>,
    last: u64,
    to: mpsc::Sender<Heard>,
    /// Round trips that were measured and not reported yet, in milliseconds.
    measured: HashMap<String, f64>,
    /// On which line it was told how the session stands, and how.
    told: Option<(u64, bool, bool)>,
}

/// What came of something that a line said.
pub(super) struct Took {
    /// For the machine.
    pub input: Option<Input>,
    /// What is wrong with a broker.
    pub problem: Option<(Id, String)>,
}

impl Lists {
    /// Of mirrors that the caller gave.
    pub fn given(mirrors: Vec<Known>) -> Lists {
        Lists { mirrors: Mirrors::of(mirrors), brokers: None }
    }

    /// Of what brokers say; where the owner is known, nothing counts without its word.
    pub fn brokers(domain: String, at: Vec<BrokerAt>, owner: Option<Id>, to: mpsc::Sender<Heard>) -> Lists {
        let trust = Trust::new(domain.clone(), owner);
        let (line, last, measured, told) = (None, 0, HashMap::new(), None);
        let brokers = Some(Brokers { domain, at, trust, line, last, to, measured, told });
        Lists { mirrors: Mirrors::default(), brokers }
    }

    /// Asks for what is newer than `have`; answers at once where nobody needs to be asked.
    pub fn resolve(&mut self, broker: usize, have: Option<ListVersion>, now: UnixMillis) -> Option<Input> {
        let Some(brokers) = &mut self.brokers else {
            return Some(known::resolve(&self.mirrors, have, now));
        };
        let have = have.filter(|_| !brokers.trust.renew(now.0));
        let have = have.map(|v| Version { source: v.source, number: v.number });
        let ask = line::subscribe(&brokers.domain, have);
        if let Some(line) = brokers.line.as_ref().filter(|line| line.broker == broker) {
            // Too much waits already: so does an answer.
            line.ask(ask);
            brokers.report();
            return None;
        }
        let at = brokers.at.get(broker)?.clone();
        brokers.last += 1;
        brokers.line = Some(Line::open(brokers.last, broker, at, ask, brokers.to.clone()));
        None
    }

    /// Takes what a line said.
    pub fn heard(&mut self, heard: Heard, counters: &Counters, now: UnixMillis) -> Took {
        let nothing = Took { input: None, problem: None };
        let Some(brokers) = &mut self.brokers else { return nothing };
        let Some(line) = brokers.line.as_ref().filter(|line| line.number == heard.line) else {
            return nothing;
        };
        let Some(at) = brokers.at.get(line.broker).cloned() else { return nothing };
        let problem = match heard.word {
            Word::Signed(signed) => {
                match brokers.trust.open(&signed, &at.id, &mut self.mirrors, counters, now.0) {
                    Ok(input) => return Took { input: Some(input), problem: None },
                    Err(error) => {
                        counters.add(Count::BadList);
                        error.to_string()
                    }
                }
            }
            Word::Lost(error) => error.to_string(),
        };
        brokers.line = None;
        Took { input: Some(Input::BrokerLost), problem: Some((at.id, problem)) }
    }

    /// Tells the broker that a mirror failed.
    pub fn failed(&self, mirror: MirrorKey) {
        let name = self.mirrors.get(mirror).and_then(|known| known.name.clone());
        if let (Some(brokers), Some(name)) = (&self.brokers, name)
            && let Some(line) = &brokers.line
        {
            line.ask(line::report(&brokers.domain, Vec::new(), vec![name]));
        }
    }

    /// Tells the broker how the session stands, if that is news to it; false where it stays to be told.
    pub fn tell(&mut self, fare: &Fare) -> bool {
        let Some(brokers) = &mut self.brokers else { return false };
        let Some(line) = &brokers.line else { return false };
        let stands = Some((line.number, fare.attached, fare.standby));
        let news = brokers.told != stands || !fare.moves.is_empty() || fare.lost > 0;
        let told = news && line.tell(fare.clone());
        if told {
            brokers.told = stands;
        }
        told
    }

    /// Takes down a round trip, to be reported with the next ones.
    pub fn measured(&mut self, mirror: MirrorKey, rtt: Duration) {
        let name = self.mirrors.get(mirror).and_then(|known| known.name.clone());
        if let (Some(brokers), Some(name)) = (&mut self.brokers, name)
            && brokers.measured.len() < MAX_RTTS
        {
            let rtt_ms = rtt.as_secs_f64() * 1000.0;
            let least = brokers.measured.entry(name).or_insert(rtt_ms);
            *least = least.min(rtt_ms);
        }
    }

    /// The line may lead through a network that is gone, and what was measured was another's.
    pub fn network_changed(&mut self) {
        if let Some(brokers) = &mut self.brokers {
            brokers.line = None;
            brokers.measured.clear();
        }
    }

    /// Reports what was measured.
    pub fn report(&mut self) {
        if let Some(brokers) = &mut self.brokers {
            brokers.report();
        }
    }
}

impl Brokers {
    fn report(&mut self) {
        let Some(line) = self.line.as_ref().filter(|_| !self.measured.is_empty()) else { return };
        let measured = |(mirror, rtt_ms)| Measured { mirror, rtt_ms };
        let rtts = self.measured.drain().map(measured).collect();
        line.ask(line::report(&self.domain, rtts, Vec::new()));
    }
}
