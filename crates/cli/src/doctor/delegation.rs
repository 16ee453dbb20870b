//! Whether the world finds this broker: the parent's delegation, name servers, their addresses and serials,
//! and the DS of signed zones, each by real queries.
//!
//! ```text
//! resolver ──► the parent's name servers ──► what they say of the zone: NS, glue, DS
//!                                               └──► each name server: does it answer, which serial
//! ```

use super::Findings;
use super::ask::{By, addresses, ask, authoritative, code, serial, servers};
use crate::args::DoctorArgs;
use crate::broker::Context;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use hickory_resolver::system_conf::read_system_conf;
use nearmost_client::api::{CheckupResponse, DnssecKeyView};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Servers of a parent that are asked, and addresses of a zone's name servers.
const PARENT_SERVERS: usize = 3;
const ADDRESSES: usize = 12;
/// Below these nobody is delegated anything (RFC 6761, RFC 6762, RFC 8375, RFC 9476).
const PRIVATE: [&str; 7] = ["test", "example", "invalid", "localhost", "local", "internal", "home.arpa"];

/// Who is asked, and what the broker says of itself.
pub struct World {
    resolver: Option<SocketAddr>,
    /// Whether the resolver was named: private names may be known to it.
    private: bool,
    port: u16,
    zones: Vec<String>,
    nameservers: Vec<String>,
    /// Where the broker answers DNS.
    broker: Vec<SocketAddr>,
    /// Whether those addresses are the ones that the world sees.
    known: bool,
}

impl World {
    /// From the command line and the broker's examination.
    pub fn new(args: &DoctorArgs, checkup: &CheckupResponse, broker: Vec<SocketAddr>) -> World {
        let system = || {
            let (config, _) = read_system_conf().ok()?;
            config.name_servers().first().map(|server| SocketAddr::new(server.ip, 53))
        };
        let wild = |l: &nearmost_client::api::ListenerView| {
            l.kind == "dns" && l.address.parse::<SocketAddr>().is_ok_and(|at| at.ip().is_unspecified())
        };
        World {
            resolver: args.resolver.or_else(system),
            private: args.resolver.is_some(),
            port: args.dns_port,
            zones: checkup.zones.clone(),
            nameservers: checkup.nameservers.clone(),
            known: !args.address.is_empty() || !checkup.listeners.iter().any(wild),
            broker,
        }
    }

    /// The zone that a domain lies in: a configured one, else the domain itself.
    fn zone<'a>(&'a self, domain: &'a str) -> &'a str {
        let inside = |zone: &&String| domain == *zone || domain.ends_with(&format!(".{zone}"));
        self.zones.iter().filter(inside).max_by_key(|z| z.len()).map_or(domain, |z| z.as_str())
    }

    async fn resolve(&self, name: &Name, kind: RecordType) -> Result<Message, String> {
        let Some(resolver) = self.resolver else {
            return Err("no resolver is known: /etc/resolv.conf names none; name one with --resolver".into());
        };
        let answer = ask(resolver, name, kind, true, By::Udp).await;
        answer.map_err(|why| format!("the resolver {resolver} does not answer for {name} {kind}: {why}"))
    }

    /// Addresses of a name, by the resolver.
    async fn addresses_of(&self, name: &Name) -> Vec<IpAddr> {
        let mut all = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            if let Ok(answer) = self.resolve(name, kind).await {
                all.extend(answer.answers.iter().filter_map(|r| r.data.ip_addr()));
            }
        }
        all
    }
}

/// What a parent says of a zone.
struct Delegation {
    parent: Name,
    /// Which of its servers said so.
    by: SocketAddr,
    servers: Vec<Name>,
    said: Message,
}

/// Looks at the delegation of each domain's zone, each zone once.
pub async fn look(context: &Context, world: &World, domains: &[String], findings: &mut Findings) {
    let mut zones: Vec<&str> = domains.iter().map(|d| world.zone(d)).collect();
    zones.sort_unstable();
    zones.dedup();
    for zone in zones {
        let below = |private: &&&str| zone == **private || zone.ends_with(&format!(".{private}"));
        if let Some(private) = PRIVATE.iter().find(below).filter(|_| !world.private) {
            findings.ok(
                "delegation",
                format!("{zone}: names below {private} are delegated to nobody, which is not looked at"),
            );
            continue;
        }
        let Ok(name) = Name::from_ascii(format!("{zone}.")) else { continue };
        if let Some(delegation) = delegated(world, &name, findings).await {
            of_servers(world, &name, &delegation, findings).await;
            of_keys(context, zone, &name, &delegation, findings).await;
        }
    }
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
            findings.warn("delegation", format!("{zone}: its parent was not found: {why}"), fix);
            return None;
        }
    };
    let mut last = format!("none of the name servers of {parent} has an address");
    for by in at.into_iter().take(PARENT_SERVERS) {
        let said = match ask(by, zone, RecordType::NS, false, By::Udp).await {
            Ok(said) => said,
            Err(why) => {
                last = format!("{by}: {why}");
                continue;
            }
        };
        let code_of = said.metadata.response_code;
        if !matches!(code_of, ResponseCode::NoError | ResponseCode::NXDomain) {
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
                    found = world.addresses_of(name).await;
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
            found = world.addresses_of(name).await;
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
    among(world, zone, &at, findings);
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
    if !world.known || at.is_empty() {
        return;
    }
    let here = |(_, addr): &(Name, SocketAddr)| world.broker.iter().any(|b| b.ip() == addr.ip());
    if !at.iter().any(here) {
        let ours: Vec<String> = world.broker.iter().map(|b| b.ip().to_string()).collect();
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

/// Whether the parent's DS belongs to a key of the zone.
async fn of_keys(
    context: &Context,
    zone: &str,
    name: &Name,
    delegation: &Delegation,
    findings: &mut Findings,
) {
    // A zone of several domains, and a domain that is not signed, have none of their own.
    let keys = context.client.dnssec(zone, None).await.map(|told| told.keys).unwrap_or_default();
    let said = match ask(delegation.by, name, RecordType::DS, false, By::Udp).await {
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
mod tests {
    use super::*;

    fn world(zones: &[&str]) -> World {
        World {
            resolver: None,
            private: false,
            port: 53,
            zones: zones.iter().map(|z| (*z).into()).collect(),
            nameservers: vec!["ns1.play.example.com".into()],
            broker: vec!["192.0.2.1:53".parse().unwrap()],
            known: true,
        }
    }

    #[test]
    fn a_domain_lies_in_the_longest_zone_that_is_configured() {
        let world = world(&["example.com", "eu.example.com"]);
        assert_eq!(world.zone("play.eu.example.com"), "eu.example.com");
        assert_eq!(world.zone("example.com"), "example.com");
        assert_eq!(world.zone("playexample.com"), "playexample.com");
    }

    fn levels(look: impl Fn(&mut Findings)) -> Vec<(String, String)> {
        let mut findings = Findings::default();
        look(&mut findings);
        findings.0.into_iter().map(|f| (f.level, f.message)).collect()
    }

    #[test]
    fn name_servers_must_agree_and_this_broker_be_one() {
        let zone = Name::from_ascii("play.example.com.").unwrap();
        let serials = |all: &[(u32, &str)]| {
            let mut map: BTreeMap<u32, Vec<String>> = BTreeMap::new();
            all.iter().for_each(|(serial, who)| map.entry(*serial).or_default().push((*who).into()));
            map
        };
        let said = levels(|f| agree(&zone, &serials(&[(7, "a"), (7, "b")]), 2, f));
        assert!(said[0].0 == "ok" && said[0].1.contains("2 name server addresses"), "{said:?}");
        let said = levels(|f| agree(&zone, &serials(&[(7, "a"), (8, "b")]), 2, f));
        assert!(said[0].0 == "warn" && said[0].1.contains("7 at a; 8 at b"), "{said:?}");
        let at = |ip: &str| vec![(zone.clone(), SocketAddr::new(ip.parse().unwrap(), 53))];
        assert!(levels(|f| among(&world(&[]), &zone, &at("192.0.2.1"), f)).is_empty());
        assert_eq!(levels(|f| among(&world(&[]), &zone, &at("192.0.2.9"), f))[0].0, "warn");
        let unknown = World { known: false, ..world(&[]) };
        assert!(levels(|f| among(&unknown, &zone, &at("192.0.2.9"), f)).is_empty());
    }

    #[test]
    fn a_ds_is_written_as_the_broker_writes_it() {
        let rdata = hickory_proto::rr::rdata::NULL::with(vec![0x12, 0x34, 13, 2, 0xab, 0x01]);
        let data = RData::Unknown { code: RecordType::DS, rdata: rdata.clone() };
        assert_eq!(ds(&data).as_deref(), Some("4660 13 2 AB01"));
        assert_eq!(ds(&RData::Unknown { code: RecordType::CDS, rdata }), None);
    }

    #[test]
    fn a_ds_that_belongs_to_no_key_is_the_worst() {
        let key = |ds: &str| DnssecKeyView {
            id: "s-1".into(),
            site: "s".into(),
            own: true,
            tag: 7,
            stage: "active".into(),
            until_unix_ms: None,
            next_stage: None,
            dnskey: String::new(),
            ds: ds.into(),
        };
        let parent = Name::from_ascii("com.").unwrap();
        let level = |keys: &[DnssecKeyView], parents: &[&str]| {
            let parents: Vec<String> = parents.iter().map(|p| (*p).into()).collect();
            levels(|f| judge_keys("a.com", keys, &parents, &parent, f))
                .first()
                .map(|(level, _)| level.clone())
        };
        assert_eq!(level(&[], &[]), None);
        assert_eq!(level(&[key("7 13 2 AB")], &["7 13 2 ab"]).as_deref(), Some("ok"));
        assert_eq!(level(&[key("7 13 2 AB")], &[]).as_deref(), Some("warn"));
        assert_eq!(level(&[key("7 13 2 AB")], &["8 13 2 CD"]).as_deref(), Some("fail"));
        assert_eq!(level(&[], &["8 13 2 CD"]).as_deref(), Some("fail"));
    }
}
