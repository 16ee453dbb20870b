//! Whether the world finds this broker: the parent's delegation, name servers, their addresses and serials,
//! and the DS of signed zones, each by real queries.
//!
//! ```text
//! resolver ──► the parent's name servers ──► what they say of the zone: NS, glue, DS
//!                                               └──► each name server: does it answer, which serial
//! ```

use super::Findings;
use super::ask::{By, addresses, ask, authoritative, code, no_way, serial, servers};
use crate::args::DoctorArgs;
use crate::broker::Context;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use hickory_resolver::system_conf::read_system_conf;
use nearmost_client::api::{CheckupResponse, DnssecKeyView};
use nearmost_client::{Client, ClientError};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Servers of a parent that are asked, and addresses of a zone's name servers.
const PARENT_SERVERS: usize = 3;
const ADDRESSES: usize = 12;
/// Zones looked at at once, and how long all may take.
const AT_ONCE: usize = 8;
const BUDGET: Duration = Duration::from_secs(60);
/// Below these nobody is delegated anything (RFC 6761, RFC 6762, RFC 8375, RFC 9476).
const PRIVATE: [&str; 7] = ["test", "example", "invalid", "localhost", "local", "internal", "home.arpa"];

/// Who is asked, and what the broker says of itself.
pub struct World {
    /// Asked in turn until one answers.
    resolvers: Vec<SocketAddr>,
    /// Whether the resolver was named: private names may be known to it.
    private: bool,
    port: u16,
    zones: Vec<String>,
    nameservers: Vec<String>,
    /// Where the broker answers DNS.
    broker: Vec<SocketAddr>,
    /// Whether those addresses are the ones that the world sees.
    known: bool,
    /// Whether it answers at every address of this machine instead.
    machine: bool,
}

impl World {
    /// From the command line and the broker's examination.
    pub fn new(args: &DoctorArgs, checkup: &CheckupResponse, broker: Vec<SocketAddr>) -> World {
        let system = || {
            let Ok((config, _)) = read_system_conf() else { return Vec::new() };
            let mut all: Vec<SocketAddr> =
                config.name_servers().iter().map(|server| SocketAddr::new(server.ip, 53)).collect();
            all.dedup();
            all
        };
        let wild = |l: &nearmost_client::api::ListenerView| {
            l.kind == "dns" && l.address.parse::<SocketAddr>().is_ok_and(|at| at.ip().is_unspecified())
        };
        let known = !args.address.is_empty() || !broker.is_empty() && !checkup.listeners.iter().any(wild);
        World {
            resolvers: args.resolver.map_or_else(system, |one| vec![one]),
            private: args.resolver.is_some(),
            port: args.dns_port,
            zones: checkup.zones.clone(),
            nameservers: checkup.nameservers.clone(),
            known,
            machine: !known && broker.iter().any(|at| at.ip().is_loopback()),
            broker,
        }
    }

    /// The zone that a domain lies in: a configured one, else the domain itself.
    fn zone<'a>(&'a self, domain: &'a str) -> &'a str {
        let inside = |zone: &&String| domain == *zone || domain.ends_with(&format!(".{zone}"));
        self.zones.iter().filter(inside).max_by_key(|z| z.len()).map_or(domain, |z| z.as_str())
    }

    /// What the first resolver says that says anything: records, or that there are none.
    async fn resolve(&self, name: &Name, kind: RecordType) -> Result<Message, String> {
        let mut last = "/etc/resolv.conf names none".to_owned();
        for resolver in &self.resolvers {
            match ask(*resolver, name, kind, true, By::Udp).await {
                Ok(answer) if told(&answer) => return Ok(answer),
                Ok(answer) => last = format!("{resolver} answers {} for {name} {kind}", code(&answer)),
                Err(why) => last = format!("{resolver} does not answer for {name} {kind}: {why}"),
            }
        }
        Err(last)
    }

    /// Addresses of a name, by the resolver.
    ///
    /// # Errors
    /// Why it is not known whether there are any.
    async fn addresses_of(&self, name: &Name) -> Result<Vec<IpAddr>, String> {
        let (mut all, mut failed) = (Vec::new(), None);
        for kind in [RecordType::A, RecordType::AAAA] {
            match self.resolve(name, kind).await {
                Ok(answer) => all.extend(answer.answers.iter().filter_map(|r| r.data.ip_addr())),
                Err(why) => failed = Some(why),
            }
        }
        match failed {
            Some(why) if all.is_empty() => Err(why),
            _ => Ok(all),
        }
    }
}

/// Whether a server said what there is, be it nothing; others could not or would not tell.
fn told(answer: &Message) -> bool {
    matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// What a parent says of a zone.
struct Delegation {
    parent: Name,
    /// Which of its servers said so.
    by: SocketAddr,
    servers: Vec<Name>,
    said: Message,
}

/// Looks at the delegation of each domain's zone, each zone once, some at a time.
pub async fn look(context: &Context, world: World, domains: &[String], findings: &mut Findings) {
    let mut zones: Vec<String> = domains.iter().map(|d| world.zone(d).to_owned()).collect();
    zones.sort_unstable();
    zones.dedup();
    let world = Arc::new(world);
    let mut left = zones.iter();
    let mut looked: BTreeMap<String, Findings> = BTreeMap::new();
    let mut under_way = JoinSet::new();
    // What is not done when the time is over is dropped with the set.
    let all = async {
        loop {
            while under_way.len() < AT_ONCE
                && let Some(zone) = left.next()
            {
                let (client, world, zone) = (context.client.clone(), world.clone(), zone.clone());
                under_way.spawn(async move {
                    let found = look_at(&client, &world, &zone).await;
                    (zone, found)
                });
            }
            match under_way.join_next().await {
                Some(done) => looked.extend(done.ok()),
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(BUDGET, all).await;
    let missing: Vec<&str> =
        zones.iter().filter(|zone| !looked.contains_key(*zone)).map(String::as_str).collect();
    if !missing.is_empty() {
        let message =
            format!("not looked at, for want of time ({} s): {}", BUDGET.as_secs(), missing.join(", "));
        findings.warn("delegation", message, "name some of them with --domain, or a faster --resolver");
    }
    looked.into_values().for_each(|found| findings.0.extend(found.0));
}

async fn look_at(client: &Client, world: &World, zone: &str) -> Findings {
    let mut findings = Findings::default();
    let below = |private: &&&str| zone == **private || zone.ends_with(&format!(".{private}"));
    if let Some(private) = PRIVATE.iter().find(below).filter(|_| !world.private) {
        findings.ok(
            "delegation",
            format!("{zone}: names below {private} are delegated to nobody, which is not looked at"),
        );
        return findings;
    }
    let Ok(name) = Name::from_ascii(format!("{zone}.")) else { return findings };
    if let Some(delegation) = delegated(world, &name, &mut findings).await {
        of_servers(world, &name, &delegation, &mut findings).await;
        of_keys(client, zone, &name, &delegation, &mut findings).await;
    }
    findings
}

/// What is to be put into the parent.
fn wanted(world: &World, zone: &Name) -> String {
    match world.nameservers.as_slice() {
        [] => format!(
            "say dns.nameservers in the broker's configuration, then have whoever runs the parent add NS records \
             of {zone} with these names, and their addresses (glue) where the names lie in {zone}"
        ),
        names => {
            let records: Vec<String> =
                names.iter().map(|n| format!("`{zone} NS {}.`", n.trim_end_matches('.'))).collect();
            format!(
                "have whoever runs the parent (your registrar, or the zone above) hold {}, and A/AAAA records (glue) \
                 where a name lies in {zone}",
                records.join(", ")
            )
        }
    }
}

/// The parent's word; findings where there is none.
async fn delegated(world: &World, zone: &Name, findings: &mut Findings) -> Option<Delegation> {
    let (parent, at) = match parent(world, zone).await {
        Ok(found) => found,
        Err(why) => {
            let fix = "name a resolver that answers with --resolver IP, or leave this out with --offline";
            findings.warn("delegation", format!("{zone}: the resolver did not answer: {why}"), fix);
            return None;
        }
    };
    let mut last = format!("none of the name servers of {parent} has an address");
    for by in at.into_iter().take(PARENT_SERVERS) {
        if let Some(why) = no_way(by) {
            last = format!("{by} is not testable from here: {why}");
            continue;
        }
        let said = match ask(by, zone, RecordType::NS, false, By::Udp).await {
            Ok(said) => said,
            Err(why) => {
                last = format!("{by}: {why}");
                continue;
            }
        };
        if !told(&said) {
            last = format!("{by} answers {}", code(&said));
            continue;
        }
        let servers = servers(said.authorities.iter().chain(&said.answers), zone);
        if servers.is_empty() {
            let message = format!(
                "{zone} is not delegated: {by}, a name server of {parent}, knows no NS records of it"
            );
            findings.fail("delegation", message, wanted(world, zone));
            return None;
        }
        return Some(Delegation { parent, by, servers, said });
    }
    let fix = "try again; if it stays so, queries from here to the parent's name servers are dropped: open udp/53 and \
               tcp/53 outward, or run this elsewhere";
    findings.warn("delegation", format!("{zone}: the parent {parent} does not answer: {last}"), fix);
    None
}

/// The zone above, and addresses of its name servers.
async fn parent(world: &World, zone: &Name) -> Result<(Name, Vec<SocketAddr>), String> {
    let mut above = zone.base_name();
    loop {
        let answer = world.resolve(&above, RecordType::NS).await?;
        let names = servers(&answer.answers, &above);
        if !names.is_empty() {
            let mut at = Vec::new();
            for name in names.iter().take(PARENT_SERVERS) {
                let mut found = addresses(&answer.additionals, name);
                if found.is_empty() {
                    found = world.addresses_of(name).await.unwrap_or_default();
                }
                // What is reached by both families is reached by the first.
                found.sort_by_key(IpAddr::is_ipv6);
                at.extend(found.into_iter().take(1).map(|ip| SocketAddr::new(ip, world.port)));
            }
            return Ok((above, at));
        }
        if above.is_root() {
            return Err(format!("the resolver answers {} for the root's name servers", code(&answer)));
        }
        above = above.base_name();
    }
}

/// Whether each name server answers, alike, and whether this broker is one.
async fn of_servers(world: &World, zone: &Name, delegation: &Delegation, findings: &mut Findings) {
    let mut at: Vec<(Name, SocketAddr)> = Vec::new();
    for name in &delegation.servers {
        let mut found = addresses(&delegation.said.additionals, name);
        if found.is_empty() && zone.zone_of(name) {
            let message = format!(
                "{zone}: {} gives no address (glue) of {name}, which lies in the zone itself",
                delegation.by
            );
            let fix = format!("have whoever runs {} add the A/AAAA records of {name}", delegation.parent);
            findings.fail("delegation", message, fix);
            continue;
        }
        if found.is_empty() {
            found = match world.addresses_of(name).await {
                Ok(found) => found,
                Err(why) => {
                    let message = format!("{zone}: the resolver did not answer for its name server: {why}");
                    findings.warn("delegation", message, "name a resolver that answers with --resolver IP");
                    continue;
                }
            };
        }
        if found.is_empty() {
            let message = format!("{zone}: its name server {name} has no address");
            findings.fail(
                "delegation",
                message,
                format!("add A/AAAA records of {name}, or take it out of the NS records"),
            );
        }
        at.extend(found.into_iter().map(|ip| (name.clone(), SocketAddr::new(ip, world.port))));
    }
    at.truncate(ADDRESSES);
    among(world, zone, &at, findings);
    at.retain(|(name, addr)| match no_way(*addr) {
        None => true,
        Some(why) => {
            let message = format!("{zone}: {name} ({}) is not testable from here: {why}", addr.ip());
            findings.ok("delegation", message);
            false
        }
    });
    let mut serials: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (name, addr) in &at {
        match soa(*addr, zone).await {
            Ok(serial) => serials.entry(serial).or_default().push(format!("{name} ({})", addr.ip())),
            Err(why) => findings.fail(
                "delegation",
                format!("{zone}: its name server {name} ({}) is lame: {why}", addr.ip()),
                format!("bring the broker there up and open udp/{0} and tcp/{0} to it, or take {name} out of the NS records at the parent", world.port),
            ),
        }
    }
    agree(zone, &serials, at.len(), findings);
    let missing = |n: &&String| {
        Name::from_ascii(format!("{}.", n.trim_end_matches('.')))
            .is_ok_and(|n| !delegation.servers.contains(&n.to_lowercase()))
    };
    let missing: Vec<&str> = world.nameservers.iter().filter(missing).map(String::as_str).collect();
    if !missing.is_empty() {
        let message = format!(
            "{zone}: the broker names {} as name server, its parent {} does not",
            missing.join(", "),
            delegation.parent
        );
        findings.warn("delegation", message, wanted(world, zone));
    }
}

async fn soa(at: SocketAddr, zone: &Name) -> Result<u32, String> {
    let answer = ask(at, zone, RecordType::SOA, false, By::Udp).await?;
    match serial(&answer, zone) {
        Some(serial) if authoritative(&answer) => Ok(serial),
        _ => Err(format!("it answers {} for the SOA, not as the authority", code(&answer))),
    }
}

fn agree(zone: &Name, serials: &BTreeMap<u32, Vec<String>>, asked: usize, findings: &mut Findings) {
    let answered: usize = serials.values().map(Vec::len).sum();
    match serials.len() {
        0 => {}
        1 if answered == asked => {
            let message =
                format!("{zone} is delegated to {answered} name server addresses, which answer alike");
            findings.ok("delegation", message);
        }
        1 => {}
        _ => {
            let all: Vec<String> =
                serials.iter().map(|(serial, who)| format!("{serial} at {}", who.join(", "))).collect();
            findings.warn(
                "delegation",
                format!("{zone}: its name servers have different serials: {}", all.join("; ")),
                "brokers of a federation agree within seconds: look again, then `nearmost peer list` shows who is \
                 behind; servers that are no brokers of it do not belong into the NS records",
            );
        }
    }
}

/// Whether this broker is one of the name servers.
fn among(world: &World, zone: &Name, at: &[(Name, SocketAddr)], findings: &mut Findings) {
    if !world.known && !world.machine || at.is_empty() {
        return;
    }
    let here = |(_, addr): &(Name, SocketAddr)| match world.machine {
        true => of_this_machine(addr.ip()),
        false => world.broker.iter().any(|b| b.ip() == addr.ip()),
    };
    if !at.iter().any(here) {
        let ours: Vec<String> = match world.machine {
            true => vec!["any address of this machine".into()],
            false => world.broker.iter().map(|b| b.ip().to_string()).collect(),
        };
        findings.warn(
            "delegation",
            format!("{zone}: this broker ({}) is not among its name servers", ours.join(", ")),
            format!(
                "name the address that users see with --address if it differs (NAT); else {}",
                wanted(world, zone)
            ),
        );
    }
}

/// Whether an address is one of this machine's: nobody may bind another's.
fn of_this_machine(ip: IpAddr) -> bool {
    std::net::UdpSocket::bind((ip, 0)).is_ok()
}

/// Whether the parent's DS belongs to a key of the zone.
async fn of_keys(client: &Client, zone: &str, name: &Name, delegation: &Delegation, findings: &mut Findings) {
    let keys = match client.dnssec(zone, None).await {
        Ok(told) => told.keys,
        // A zone of several domains, and a domain in another zone, have none of their own.
        Err(ClientError::Api { status: 404 | 409, .. }) => Vec::new(),
        // Whether the DS at the parent is right is not known then.
        Err(e) => {
            let message = format!("{zone}: its keys could not be asked for: {e}");
            return findings.warn(
                "dnssec",
                message,
                format!("see what `nearmost domain dnssec {zone}` says"),
            );
        }
    };
    let said = ask(delegation.by, name, RecordType::DS, false, By::Udp).await;
    let said = said.and_then(|said| match told(&said) {
        true => Ok(said),
        false => Err(format!("it answers {}", code(&said))),
    });
    let said = match said {
        Ok(said) => said,
        Err(why) => {
            let fix = "try again";
            return findings.warn("dnssec", format!("{zone}: the parent does not answer for DS: {why}"), fix);
        }
    };
    let parents: Vec<String> =
        said.answers.iter().filter(|r| r.name == *name).filter_map(|r| ds(&r.data)).collect();
    judge_keys(zone, &keys, &parents, &delegation.parent, findings);
}

fn judge_keys(
    zone: &str,
    keys: &[DnssecKeyView],
    parents: &[String],
    parent: &Name,
    findings: &mut Findings,
) {
    let ready: Vec<&str> = keys.iter().map(|k| k.ds.as_str()).filter(|ds| !ds.is_empty()).collect();
    let matches = ready.iter().any(|ds| parents.iter().any(|p| p.eq_ignore_ascii_case(ds)));
    match (keys.is_empty(), parents.is_empty()) {
        (true, true) => {}
        (true, false) => findings.fail(
            "dnssec",
            format!("{zone} is not signed, but {parent} has a DS of it: whoever validates gets no answer"),
            format!("have the DS removed at the parent, or sign it: `nearmost domain dnssec {zone} --enable`"),
        ),
        (false, true) => findings.warn(
            "dnssec",
            format!("{zone} is signed, but {parent} has no DS: nobody validates it"),
            match ready.first() {
                Some(ds) => format!("have `{zone}. DS {ds}` added at the parent, then say `nearmost domain dnssec {zone} --ds-seen`"),
                None => format!("wait until `nearmost domain dnssec {zone}` shows a DS, and have it added at the parent"),
            },
        ),
        (false, false) if matches => findings.ok("dnssec", format!("{zone}: the DS at {parent} belongs to a key in use")),
        (false, false) => findings.fail(
            "dnssec",
            format!("{zone}: no DS at {parent} belongs to a key of it: whoever validates gets no answer"),
            match ready.first() {
                Some(ds) => format!("have `{zone}. DS {ds}` added at the parent now, and remove the others later"),
                None => "have the DS removed at the parent until a key is ready".into(),
            },
        ),
    }
}

/// A DS as the broker writes it: tag, algorithm, kind of digest, digest.
fn ds(data: &RData) -> Option<String> {
    if data.record_type() != RecordType::DS {
        return None;
    }
    // Whether the library knows the type depends on its features; its bytes are the same.
    let bytes = data.to_bytes().ok()?;
    let [t0, t1, algorithm, kind, digest @ ..] = bytes.as_slice() else { return None };
    let hex: String = digest.iter().map(|b| format!("{b:02X}")).collect();
    Some(format!("{} {algorithm} {kind} {hex}", u16::from_be_bytes([*t0, *t1])))
}

#[cfg(test)]
#[path = "delegation_tests.rs"]
mod tests;
