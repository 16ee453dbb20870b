//! The broker under measurement, with what each scenario adds to six sites and one worker.

use super::checks::{self, Asker, Rule};
use super::queries::{COOKIE, Kind, network};
use super::{lab, scenario};
use crate::broker::{Broker, knows};
use crate::map::database::Database;
use crate::random::Random;
use anyhow::{Context, Result, bail};
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::EdnsOption;
use nearmost_core::geo::Position;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Mirrors, and domains, of the large scenarios.
const MANY: usize = 10_000;
/// Records in one change of a registry.
const AT_ONCE: usize = 7_000;
/// Making many domains may take this long: each change is signed, checked and stored.
const MAKING: Duration = Duration::from_secs(150);
/// What costs something and is on by default, off: by default, since all load here comes from one address,
/// most of it would not be answered.
const OFF: [&str; 5] = [
    "dns.cookies.enabled=false",
    "dns.limits.responses_per_second=0",
    "dns.limits.nxdomains_per_second=0",
    "dns.limits.errors_per_second=0",
    "dns.limits.max_amplification=0",
];
/// The same, on as it is by default. Queries with a valid cookie are not limited: dnsperf sends those.
/// kxdpgun sends none, from so many networks that none is at its limit.
const ON: [&str; 2] = ["dns.cookies.enabled=true", "dns.limits.responses_per_second=500"];

/// What a scenario adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variant {
    /// Nothing.
    Plain,
    /// The domain is signed, and clients ask for signatures.
    Signed,
    /// Ten thousand mirrors of one domain.
    Mirrors,
    /// Ten thousand domains, each with six mirrors.
    Domains,
    /// Cookies, and limits of what is sent to each network: as is by default. Metrics are always on.
    Everything,
    /// Queries are taken from the queues of the link (AF_XDP): what goes over loopback does not see it.
    Xdp,
}

/// One that runs.
pub struct Ours {
    /// The process.
    pub broker: Broker,
    /// Where it answers.
    pub at: SocketAddrV4,
    /// What it is asked.
    pub kind: Kind,
    /// What it may answer.
    pub rule: Rule,
    /// What one has to know to read its figures.
    pub notes: Vec<String>,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 6] = [
        Variant::Plain,
        Variant::Signed,
        Variant::Mirrors,
        Variant::Domains,
        Variant::Everything,
        Variant::Xdp,
    ];

    /// In tables.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Plain => "nearmost",
            Variant::Signed => "nearmost, DNSSEC",
            Variant::Mirrors => "nearmost, 10 000 mirrors",
            Variant::Domains => "nearmost, 10 000 domains",
            Variant::Everything => "nearmost, everything on",
            Variant::Xdp => "nearmost, AF_XDP",
        }
    }

    /// Where it answers.
    pub fn at(self) -> SocketAddrV4 {
        SocketAddrV4::new(lab::SERVER, 5400 + self as u16)
    }

    /// Starts it and makes its registry.
    ///
    /// # Errors
    /// When it cannot do what the scenario needs: then it is left out.
    pub async fn start(self, city: &Path, dir: &Path) -> Result<Ours> {
        std::fs::create_dir_all(dir)?;
        let (mut settings, mut notes) = (settings(self.at(), city), Vec::new());
        let wanted = if self == Variant::Everything { &ON[..] } else { &OFF[..] };
        let (known, unknown) = known(wanted).await?;
        if self == Variant::Everything && known.is_empty() {
            bail!("this broker knows none of {}", unknown.join(", "));
        }
        if !unknown.is_empty() {
            notes.push(format!("{}: this broker does not know {}", self.name(), unknown.join(", ")));
        }
        settings.extend(known);
        if self == Variant::Xdp {
            let interface = format!("dns.xdp.interfaces=[{:?}]", lab::INTERFACE);
            // Else sockets would be measured under its name.
            settings.extend([interface, "dns.xdp.required=true".into()]);
        }
        let broker = Broker::start(dir, &settings).await?;
        let mut ours =
            Ours { broker, at: self.at(), kind: Kind::default(), rule: Rule::near(checks::sites()), notes };
        match self {
            Variant::Mirrors => ours.mirrors().await?,
            Variant::Domains => ours.domains().await?,
            Variant::Plain | Variant::Signed | Variant::Everything | Variant::Xdp => {
                ours.apply(&scenario::registry()).await?
            }
        }
        ours.until_it_answers().await?;
        match self {
            Variant::Signed => ours.sign(dir).await?,
            Variant::Everything => ours.cookie().await?,
            Variant::Plain | Variant::Mirrors | Variant::Domains | Variant::Xdp => {}
        }
        Ok(ours)
    }
}

/// Settings of every broker here.
pub fn settings(at: SocketAddrV4, city: &Path) -> Vec<String> {
    vec![
        format!("geo.databases=[{:?}]", city.display().to_string()),
        format!("dns.listen=[\"{at}\"]"),
        "dns.workers=1".into(),
    ]
}

/// Which of these settings a broker knows, and which it does not.
async fn known(settings: &[&str]) -> Result<(Vec<String>, Vec<String>)> {
    let all: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
    if knows(&all).await? {
        return Ok((all, Vec::new()));
    }
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for setting in all {
        let one = std::slice::from_ref(&setting);
        let side = if knows(one).await? { &mut known } else { &mut unknown };
        side.push(setting);
    }
    Ok((known, unknown))
}

impl Ours {
    /// Its process id.
    ///
    /// # Errors
    /// When it ended.
    pub fn pid(&self) -> Result<u32> {
        self.broker.pid()
    }

    /// Changes the registry by a file without its head.
    async fn apply(&self, registry: &str) -> Result<()> {
        self.broker.apply(&format!("version = 1\n{registry}")).await
    }

    async fn mirrors(&mut self) -> Result<()> {
        let places = places();
        let mut all = HashMap::new();
        for (batch, chunk) in places.chunks(AT_ONCE).enumerate() {
            let mut text = scenario::head(scenario::NAME);
            for (i, place) in chunk.iter().enumerate() {
                let number = batch * AT_ONCE + i;
                let address = Ipv4Addr::from_bits(10 << 24 | number as u32);
                let (latitude, longitude) = place.degrees();
                text +=
                    &scenario::mirror(scenario::NAME, &format!("m{number}"), address, latitude, longitude);
                all.insert(address, *place);
            }
            self.apply(&text).await?;
        }
        self.rule = Rule::near(all);
        Ok(())
    }

    /// As many domains as can be made within the time that there is for it.
    async fn domains(&mut self) -> Result<()> {
        let each = AT_ONCE / (scenario::SITES.len() + 1);
        let begun = now();
        for first in (0..MANY).step_by(each) {
            if begun.elapsed() > MAKING {
                let what = format!("10 000 domains: only {first} were made within {} s", MAKING.as_secs());
                self.notes.push(what);
                break;
            }
            let mut text = String::new();
            for number in first..MANY.min(first + each) {
                text += &six_sites(&scenario::domain(number));
                self.kind.domains = number + 1;
            }
            self.apply(&text).await?;
        }
        Ok(())
    }

    /// Signs the domain and asks for signatures from now on.
    async fn sign(&mut self, dir: &Path) -> Result<()> {
        let key = dir.join("person.key");
        self.broker.key().save_new(&key)?;
        let mut command = Command::new(crate::broker::binary("nearmost")?);
        command.args(["domain", "dnssec", scenario::NAME, "--enable"]);
        command.env("NEARMOST_PERSON_KEY", &key).env("NEARMOST_BROKER", self.broker.admin());
        let done = command.output().await?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            bail!("the domain cannot be signed: {}", said.lines().next().unwrap_or("no reason given"));
        }
        self.kind.dnssec = true;
        self.until_it_answers().await
    }

    /// Gets a cookie, which all queries carry from now on.
    async fn cookie(&mut self) -> Result<()> {
        let first = Kind { cookie: Some(vec![0x42; 8]), ..self.kind.clone() };
        let query = first.query(1, scenario::NAME, network(&mut Random::new(1)))?;
        let reply = Asker::of(self.at).await?.ask(&query, Duration::from_secs(1)).await?;
        let message = Message::from_vec(&reply.context("no reply")?)?;
        let mut options = message.edns.iter().flat_map(|edns| edns.options().as_ref());
        let cookie = options.find_map(|(_, option)| match option {
            EdnsOption::Unknown(COOKIE, cookie) if cookie.len() > 8 => Some(cookie.clone()),
            _ => None,
        });
        match cookie {
            Some(cookie) => self.kind.cookie = Some(cookie),
            None => self.notes.push("everything on: the broker gives no cookies".into()),
        }
        Ok(())
    }

    /// Waits until a query is answered as it should be.
    async fn until_it_answers(&self) -> Result<()> {
        let what = first_answer(self.at, &self.kind);
        tokio::time::timeout(Duration::from_secs(60), what).await.context("no answer within a minute")?
    }
}

/// A domain with the six sites.
fn six_sites(name: &str) -> String {
    let mut text = scenario::head(name);
    for site in scenario::SITES {
        text += &scenario::mirror(name, site.name, site.address(), site.latitude, site.longitude);
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "measures time, decides nothing")]
fn now() -> Instant {
    Instant::now()
}

/// Places of many mirrors: around where people live.
fn places() -> Vec<Position> {
    let database = Database::new(2, 1, 1, MANY);
    database.places().iter().filter_map(|place| place.position).collect()
}

/// Asks until there is an answer, again and again each millisecond.
///
/// # Errors
/// When there are no sockets.
pub async fn first_answer(at: SocketAddrV4, kind: &Kind) -> Result<()> {
    let mut random = Random::new(5);
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // A socket for each query: one that was refused before says so once more.
        let asker = Asker::of(at).await?;
        let query = kind.query(random.next() as u16, &kind.name(&mut random), network(&mut random))?;
        match asker.ask(&query, Duration::from_millis(50)).await {
            Ok(Some(reply)) if checks::address(&reply, kind).is_ok() => return Ok(()),
            _ => {}
        }
    }
}

/// A broker with a database in `dir`, whose registry is made.
///
/// # Errors
/// When it does not start.
pub async fn with_sites(at: SocketAddrV4, city: &Path, dir: &Path) -> Result<Broker> {
    std::fs::create_dir_all(dir)?;
    let broker = Broker::start(dir, &settings(at, city)).await?;
    broker.apply(&format!("version = 1\n{}", scenario::registry())).await?;
    Ok(broker)
}
