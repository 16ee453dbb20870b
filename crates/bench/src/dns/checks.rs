//! Whether answers are right: a sample is compared with where the client is and where mirrors are, by
//! the database and by geometry alone.

use super::city::City;
use super::queries::{Kind, network};
use super::scenario;
use crate::random::Random;
use anyhow::{Context, Result, bail};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use nearmost_core::geo::Position;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use tokio::net::UdpSocket;

/// A reply takes no longer, with the load of the measurement off.
const PATIENCE: Duration = Duration::from_secs(1);
/// A datagram's most.
const SIZE: usize = 4096;
/// So many right answers in a row are no chance.
const SETTLED: u16 = 50;
/// Between two looks at whether a server has settled.
const PAUSE: Duration = Duration::from_millis(5);
/// Wrong answers that are told.
const TOLD: usize = 5;

/// What a right answer is.
#[derive(Clone, Debug)]
pub enum Rule {
    /// The site of the client's continent.
    Continent,
    /// Of these mirrors, one that is at most so much farther from the client than the nearest: this
    /// many times, and this many kilometres more.
    Near { mirrors: HashMap<Ipv4Addr, Position>, times: f64, km: f64 },
}

impl Rule {
    /// The nearest of the sites, but for rounding.
    pub fn nearest() -> Rule {
        Rule::Near { mirrors: sites(), times: 1.0, km: 2.0 }
    }

    /// What a broker may answer: it goes by the time that it expects on the way, which follows cables,
    /// so that of two mirrors about as far away it may prefer the farther one.
    pub fn near(mirrors: HashMap<Ipv4Addr, Position>) -> Rule {
        Rule::Near { mirrors, times: 2.0, km: 1000.0 }
    }

    /// `None` when the answer is right, else what is wrong.
    fn judge(&self, client: &super::city::Client, answer: Ipv4Addr) -> Option<String> {
        match self {
            Rule::Continent => {
                let right = scenario::of_continent(&client.continent)?.address();
                (answer != right).then(|| format!("{answer}, not {right} of {}", client.continent))
            }
            Rule::Near { mirrors, times, km } => {
                let Some(at) = mirrors.get(&answer) else {
                    return Some(format!("{answer}, which is no mirror"));
                };
                let client = client.position?;
                let nearest = mirrors.values().map(|m| m.distance_km(client)).fold(f64::INFINITY, f64::min);
                let distance = at.distance_km(client);
                (distance > nearest * times + km)
                    .then(|| format!("{answer} at {distance:.0} km, the nearest is at {nearest:.0} km"))
            }
        }
    }
}

/// The sites by address.
pub fn sites() -> HashMap<Ipv4Addr, Position> {
    scenario::SITES.iter().filter_map(|site| Some((site.address(), site.position()?))).collect()
}

/// What the sample gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// Queries asked.
    pub asked: usize,
    /// Wrong answers and lost ones.
    pub wrong: usize,
    /// Some of them in words.
    pub told: Vec<String>,
}

/// One that a server is asked with, a query after the other.
pub struct Asker {
    socket: UdpSocket,
}

impl Asker {
    /// Of a server.
    ///
    /// # Errors
    /// When there is no socket.
    pub async fn of(at: SocketAddrV4) -> Result<Asker> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(at).await?;
        Ok(Asker { socket })
    }

    /// The reply to a query, of which the first two bytes are its number; `None` when none comes in time.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn ask(&self, query: &[u8], patience: Duration) -> Result<Option<Vec<u8>>> {
        self.socket.send(query).await?;
        let mut reply = vec![0; SIZE];
        let read = async {
            loop {
                let n = self.socket.recv(&mut reply).await?;
                // Replies to earlier queries may still come.
                if reply.get(..2) == query.get(..2) {
                    return anyhow::Ok(n);
                }
            }
        };
        let Ok(read) = tokio::time::timeout(patience, read).await else { return Ok(None) };
        reply.truncate(read?);
        Ok(Some(reply))
    }
}

/// Asks a server from random networks and judges each answer.
///
/// # Errors
/// When it cannot be asked at all.
pub async fn sample(at: SocketAddrV4, city: &City, kind: &Kind, rule: &Rule, count: u16) -> Result<Checked> {
    let asker = Asker::of(at).await?;
    let mut random = Random::new(77);
    let mut checked = Checked { asked: count.into(), ..Checked::default() };
    for id in 0..count {
        let (name, client) = (kind.name(&mut random), network(&mut random));
        let query = kind.query(id, &name, client)?;
        let said = match asker.ask(&query, PATIENCE).await? {
            None => Some("no answer".into()),
            Some(reply) => match address(&reply, kind) {
                Ok(answer) => rule.judge(&city.locate(client)?, answer),
                Err(e) => Some(format!("{e:#}")),
            },
        };
        if let Some(what) = said {
            checked.wrong += 1;
            if checked.told.len() < TOLD {
                checked.told.push(format!("{name} from {client}: {what}"));
            }
        }
    }
    Ok(checked)
}

/// Waits until a server answers as the rule says. A broker answers at once, but by what it knows of
/// countries until it has read the city database.
///
/// # Errors
/// When it does not within `patience`: what is wrong then.
pub async fn settled(
    at: SocketAddrV4,
    city: &City,
    kind: &Kind,
    rule: &Rule,
    patience: Duration,
) -> Result<()> {
    let mut last = Checked::default();
    let settles = async {
        loop {
            last = sample(at, city, kind, rule, SETTLED).await?;
            if last.wrong == 0 {
                return anyhow::Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(patience, settles).await {
        Ok(settled) => settled,
        Err(_) => bail!("still wrong: {}", last.told.join("; ")),
    }
}

/// The one address of a reply.
///
/// # Errors
/// What is wrong with it.
pub fn address(reply: &[u8], kind: &Kind) -> Result<Ipv4Addr> {
    let message = Message::from_vec(reply).context("no DNS message")?;
    let code = message.metadata.response_code;
    if code != ResponseCode::NoError {
        bail!("the code is {code}");
    }
    if message.metadata.truncation {
        bail!("truncated");
    }
    if kind.dnssec && !message.answers.iter().any(|r| r.record_type() == RecordType::RRSIG) {
        bail!("no signature");
    }
    let mut addresses = message.answers.iter().filter_map(|r| match r.data {
        RData::A(a) => Some(a.0),
        _ => None,
    });
    let first = addresses.next().context("no address")?;
    match addresses.next() {
        None => Ok(first),
        Some(_) => bail!("more than one address"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::city::Client;
    use super::*;
    use hickory_proto::op::{MessageType, OpCode, Query};
    use hickory_proto::rr::{Name, Record, rdata};

    fn client(latitude: f64, longitude: f64, continent: &str) -> Client {
        Client { position: Position::from_degrees(latitude, longitude), continent: continent.into() }
    }

    #[test]
    fn only_the_nearest_is_right_where_distance_alone_counts() {
        let paris = client(48.9, 2.4, "EU");
        let [london, new_york, ..] = scenario::SITES.map(|s| s.address());
        assert_eq!(Rule::nearest().judge(&paris, london), None);
        assert!(Rule::nearest().judge(&paris, new_york).unwrap().contains("nearest is at"));
        assert!(Rule::near(sites()).judge(&paris, new_york).is_some());
        assert!(Rule::near(sites()).judge(&paris, Ipv4Addr::LOCALHOST).unwrap().contains("no mirror"));
        // Between two sites a broker has its own view, and gdnsd has not.
        let chicago = client(41.9, -87.6, "NA");
        let sfo = scenario::SITES[2].address();
        assert_eq!(Rule::near(sites()).judge(&chicago, sfo), None);
        assert!(Rule::nearest().judge(&chicago, sfo).is_some());
    }

    #[test]
    fn continents_have_their_sites() {
        let lagos = client(6.5, 3.4, "AF");
        assert_eq!(Rule::Continent.judge(&lagos, scenario::SITES[0].address()), None);
        assert!(Rule::Continent.judge(&lagos, scenario::SITES[3].address()).is_some());
        assert_eq!(Rule::Continent.judge(&client(0.0, 0.0, ""), Ipv4Addr::LOCALHOST), None, "nowhere");
    }

    fn reply(addresses: &[Ipv4Addr]) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        let name = Name::from_ascii("play.example.com.").unwrap();
        message.add_query(Query::query(name.clone(), RecordType::A));
        for a in addresses {
            message.add_answer(Record::from_rdata(name.clone(), 30, RData::A(rdata::A(*a))));
        }
        message
    }

    #[test]
    fn a_reply_has_one_address_and_no_error() {
        let (a, b) = (Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2));
        let of = |m: &Message, dnssec| {
            let kind = Kind { dnssec, ..Kind::default() };
            address(&m.to_vec().unwrap(), &kind).map_err(|e| e.to_string())
        };
        assert_eq!(of(&reply(&[a]), false), Ok(a));
        assert_eq!(of(&reply(&[a]), true), Err("no signature".into()));
        assert_eq!(of(&reply(&[a, b]), false), Err("more than one address".into()));
        assert_eq!(of(&reply(&[]), false), Err("no address".into()));
        let mut refused = reply(&[a]);
        refused.metadata.response_code = ResponseCode::ServFail;
        assert!(of(&refused, false).unwrap_err().contains("code"));
        let mut cut = reply(&[a]);
        cut.metadata.truncation = true;
        assert_eq!(of(&cut, false), Err("truncated".into()));
        assert!(address(b"x", &Kind::default()).is_err());
    }
}
