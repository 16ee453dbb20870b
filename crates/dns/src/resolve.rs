//! From a name in one of our zones to the records of the reply.

use crate::answer::Responder;
use crate::choosing;
use crate::name::{self, LookupName, WireName};
use crate::outcome::{ChosenFor, Outcome, Rcode};
use crate::records;
use crate::reply::{Data, Reply, ReplyError, Section, Soa};
use crate::service::{self, Service, Services};
use crate::zone::{self, DEFAULT_NS, Node, NodeKind, Zone};
use arrayvec::ArrayVec;
use hickory_proto::rr::rdata::{HINFO, HTTPS};
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::IpNet;
use nearmost_core::health::Family;
use nearmost_core::ranking::{Basis, Choice};
use nearmost_core::registry::{Domain, DomainIndex, Mirror, StaticData, StaticRecord};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use std::net::IpAddr;

/// Most aliases followed for one answer; the resolver goes on from there by itself.
const MAX_ALIASES: usize = 8;

/// One answer in the making.
pub(crate) struct Resolver<'a, 'o> {
    pub(crate) responder: &'a Responder,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) qtype: RecordType,
    /// Whether the query asks for what validation needs (DO, RFC 3225 §3).
    pub(crate) dnssec_ok: bool,
    /// Whether a signed denial may say NXDOMAIN.
    pub(crate) compact_ok: bool,
    /// The address whose place decides.
    pub(crate) client: IpAddr,
    /// When it was asked.
    pub(crate) now: UnixMillis,
    pub(crate) reply: Reply<'o>,
    /// Everyone in it gets this answer; `None` while everyone everywhere does.
    pub(crate) part: Option<IpNet>,
    /// Cleared by a referral.
    pub(crate) authoritative: bool,
    pub(crate) outcome: Outcome,
}

/// What one name came to.
enum Step<'s> {
    Done,
    Follow(&'s str),
}

impl<'a> Resolver<'a, '_> {
    /// Answers for a name, following aliases within its zone.
    pub(crate) fn run(
        &mut self,
        question: &WireName,
        name: &LookupName,
        skip: usize,
    ) -> Result<(), ReplyError> {
        let (responder, snapshot) = (self.responder, self.snapshot);
        let (registry, config) = (&snapshot.registry, &responder.prepared);
        let Some(zone) = zone::find(registry, config, name, skip) else {
            return Err(ReplyError::Unanswerable);
        };
        self.outcome.domain = zone.domain;
        let mut owner = question.clone();
        let mut next = match self.step(&zone, &owner, name)? {
            Step::Done => return Ok(()),
            Step::Follow(target) => target,
        };
        let mut followed: ArrayVec<&str, MAX_ALIASES> = ArrayVec::new();
        while followed.len() < MAX_ALIASES {
            let target = LookupName::from_text(next).ok_or(ReplyError::Unanswerable)?;
            let known =
                |name: &str| name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case(target.as_str());
            if target.as_str() == name.as_str() || followed.iter().any(|name| known(name)) {
                // In circles.
                return Err(ReplyError::Unanswerable);
            }
            followed.push(next);
            let here = match zone::find(registry, config, &target, 0) {
                Some(here) if here.apex == zone.apex => here,
                // The resolver goes on from here by itself.
                _ => return Ok(()),
            };
            owner = WireName::from_text(next).ok_or(ReplyError::Unanswerable)?;
            next = match self.step(&here, &owner, &target)? {
                Step::Done => return Ok(()),
                Step::Follow(target) => target,
            };
        }
        Ok(())
    }

    fn step(&mut self, zone: &Zone<'_>, owner: &WireName, name: &LookupName) -> Result<Step<'a>, ReplyError> {
        let node = zone::node(&self.snapshot.registry, &self.responder.prepared, zone, name);
        // DS stands on the parent's side of a cut (RFC 4035 §3.1.4.1).
        let parent_side = |cut: &str| self.qtype == RecordType::DS && cut == node.name;
        if let Some(cut) = node.cut(&self.snapshot.registry, zone)
            && !parent_side(cut)
        {
            return self.referral(zone, &node, cut).map(|()| Step::Done);
        }
        // What people wrote down of the zone below wins, as everywhere.
        let written = || node.statics().any(|r| matches!(r.data, StaticData::Ds { .. }));
        if self.qtype == RecordType::DS && self.is_child(zone, name) && !written() {
            return self.child_ds(zone, &node, owner).map(|()| Step::Done);
        }
        // An alias has an NSEC of its own (RFC 4035 §2.3).
        let of_alias = self.qtype == RecordType::NSEC && self.reply.signs();
        if let Some((target, ttl)) = node.alias()
            && self.qtype != RecordType::CNAME
            && !of_alias
        {
            let to = WireName::from_text(target).ok_or(ReplyError::Unanswerable)?;
            self.reply.add(Section::Answer, owner, ttl, Data::Alias(&to))?;
            // To ANY the alias itself is the whole answer: nothing else may stand beside it.
            return Ok(if self.qtype == RecordType::ANY { Step::Done } else { Step::Follow(target) });
        }
        if !self.records(zone, &node, owner)? {
            self.negative(zone, &node, owner)?;
        }
        Ok(Step::Done)
    }

    /// Writes what the node has of the type asked for; false when that is nothing.
    fn records(
        &mut self,
        zone: &Zone<'_>,
        node: &Node<'a, '_>,
        owner: &WireName,
    ) -> Result<bool, ReplyError> {
        if self.qtype == RecordType::ANY {
            return self.minimal_any(node, owner);
        }
        if self.statics(node, owner)? {
            return Ok(true);
        }
        match (self.qtype, node.kind) {
            (RecordType::SOA, _) if node.apex => self.soa(zone, node.owner, Section::Answer).map(|()| true),
            (RecordType::NS, _) if node.apex => self.nameservers(zone, owner).map(|()| true),
            (RecordType::DNSKEY | RecordType::CDS | RecordType::CDNSKEY, _) if node.apex => {
                self.keys(zone, owner)
            }
            (RecordType::NSEC, _) => self.nsec(zone, node, owner),
            (RecordType::A | RecordType::AAAA, NodeKind::Domain(i)) => self.addresses(i, owner),
            (RecordType::HTTPS | RecordType::SVCB, NodeKind::Domain(i)) => self.services(i, owner),
            (RecordType::SRV, NodeKind::Service(i)) => self.locations(i, owner),
            (RecordType::A | RecordType::AAAA, NodeKind::OneTime(i, n)) => self.one_time(i, n, owner),
            (RecordType::A | RecordType::AAAA, NodeKind::Mirror(i)) => {
                let addr = self.snapshot.live.mirrors.get(i.0 as usize).and_then(|m| m.addr(self.family()));
                let ttl = node.owner.map_or(0, |d| records::seconds(d.policy.ttl));
                self.outcome.mirrors.clear();
                self.outcome.mirrors.push(i);
                self.each(Section::Answer, owner, ttl, addr)
            }
            (RecordType::A | RecordType::AAAA, NodeKind::NameServer) => {
                let (responder, wanted) = (self.responder, self.family() == Family::V4);
                let addrs = responder.config.nameserver_addresses.iter().copied();
                let ttl = records::seconds(responder.config.infrastructure_ttl);
                self.each(Section::Answer, owner, ttl, addrs.filter(|a| a.is_ipv4() == wanted))
            }
            _ => Ok(false),
        }
    }

    pub(crate) fn family(&self) -> Family {
        if self.qtype == RecordType::AAAA { Family::V6 } else { Family::V4 }
    }

    pub(crate) fn each(
        &mut self,
        section: Section,
        owner: &WireName,
        ttl: u32,
        addrs: impl IntoIterator<Item = IpAddr>,
    ) -> Result<bool, ReplyError> {
        let mut any = false;
        for addr in addrs {
            self.reply.add(section, owner, ttl, Data::Address(addr))?;
            any = true;
        }
        Ok(any)
    }

    /// The static records of the type; they win over what is derived. Their TTLs are made equal, as a
    /// set of records must have (RFC 2181 §5.2).
    fn statics(&mut self, node: &Node<'a, '_>, owner: &WireName) -> Result<bool, ReplyError> {
        let of_type = || node.statics().filter(|r| records::record_type(&r.data) == self.qtype);
        // NS below an apex would be a delegation, and what is delegated never comes here: these stand at a
        // domain that is part of a configured zone, and has no servers of its own.
        if self.qtype == RecordType::NS && !node.apex {
            return Ok(false);
        }
        let Some(ttl) = of_type().map(|r| r.ttl_s).min() else { return Ok(false) };
        let qtype = self.qtype;
        for record in node.statics().filter(|r| records::record_type(&r.data) == qtype) {
            records::add_static(&mut self.reply, Section::Answer, owner, ttl, &record.data)?;
        }
        Ok(true)
    }

    /// The smallest true answer to ANY (RFC 8482 §4.2).
    fn minimal_any(&mut self, node: &Node<'a, '_>, owner: &WireName) -> Result<bool, ReplyError> {
        let bare = node.kind == NodeKind::Plain && !node.apex && node.statics().next().is_none();
        if node.kind == NodeKind::Missing || bare {
            return Ok(false);
        }
        let ttl = records::seconds(self.responder.config.infrastructure_ttl);
        let data = Data::Other(RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new())));
        self.reply.add(Section::Answer, owner, ttl, data).map(|()| true)
    }

    /// The mirrors for this client in one family; `None` for a domain that the map does not know yet.
    pub(crate) fn choose(&mut self, domain: DomainIndex, family: Family) -> Option<Choice> {
        let (choice, depends) = choosing::choose(self.snapshot, domain, self.client, family)?;
        if depends {
            self.depends_on(&choice);
        }
        if self.outcome.chosen.is_none_or(|c| c.basis == Basis::Empty) {
            self.outcome.chosen = Some(ChosenFor { basis: choice.basis, client: self.client });
        }
        for chosen in &choice.mirrors {
            if !self.outcome.mirrors.contains(&chosen.mirror) {
                // Both families together can be more than an outcome holds.
                let _ = self.outcome.mirrors.try_push(chosen.mirror);
            }
        }
        Some(choice)
    }

    /// Notes that the answer is that of the choice's part. Parts of one client lie in one another.
    fn depends_on(&mut self, choice: &Choice) {
        let part = choice.part.cell;
        if self.part.is_none_or(|known| part.prefix_len() > known.prefix_len()) {
            self.part = Some(part);
        }
    }

    fn addresses(&mut self, domain: DomainIndex, owner: &WireName) -> Result<bool, ReplyError> {
        let Some(choice) = self.choose(domain, self.family()) else { return Ok(false) };
        let ttl = self.ttl(domain, &[(self.family(), &choice)]);
        self.each(Section::Answer, owner, ttl, choice.addrs)
    }

    fn ttl(&self, domain: DomainIndex, choices: &[(Family, &Choice)]) -> u32 {
        choosing::ttl(self.snapshot, domain, choices)
    }

    /// The mirrors of both families as services, and the choices they come from.
    fn chosen_services(&mut self, domain: DomainIndex) -> Option<([Choice; 2], Services)> {
        let choices = [self.choose(domain, Family::V4)?, self.choose(domain, Family::V6)?];
        let services = service::merge(&choices[0], &choices[1]);
        // Where both families are answered together, the order among them depends on the client even
        // if each family has one mirror only: it decides priorities, and which are cut.
        if services.len() > 1 {
            choices.iter().filter(|c| !c.for_everyone).for_each(|c| self.depends_on(c));
        }
        Some((choices, services))
    }

    /// HTTPS and SVCB. An HTTPS record tells browsers to use TLS (RFC 9460 §9.5), so a domain has
    /// them only if its policy names protocols.
    fn services(&mut self, index: DomainIndex, owner: &WireName) -> Result<bool, ReplyError> {
        let registry = &self.snapshot.registry;
        let domain = registry.domain(index);
        if self.qtype == RecordType::HTTPS && domain.policy.alpn.is_empty() {
            return Ok(false);
        }
        let Some(([v4, v6], mut services)) = self.chosen_services(index) else { return Ok(false) };
        // The owner's own addresses are the mirror's when it is the only one chosen, and no family's
        // fallback was.
        let own = services.len() == 1 && ![v4.basis, v6.basis].contains(&Basis::AllDownFallback);
        services.truncate(usize::from(domain.policy.answers.max(1)));
        let Some(best) = services.first().copied() else { return Ok(false) };
        let ttl = self.ttl(index, &[(Family::V4, &v4), (Family::V6, &v6)]);
        for s in &services {
            let mirror = registry.mirror(s.mirror);
            let target = match own {
                true => Name::root(),
                false => target(domain, mirror)?,
            };
            let tier = service::tier(&best, s);
            let data = service::svcb(&domain.policy, mirror, s, target, tier);
            let data =
                if self.qtype == RecordType::HTTPS { RData::HTTPS(HTTPS(data)) } else { RData::SVCB(data) };
            self.reply.add(Section::Answer, owner, ttl, Data::Other(data))?;
        }
        Ok(true)
    }

    fn locations(&mut self, index: DomainIndex, owner: &WireName) -> Result<bool, ReplyError> {
        let registry = &self.snapshot.registry;
        let domain = registry.domain(index);
        let Some(([v4, v6], mut services)) = self.chosen_services(index) else { return Ok(false) };
        services.truncate(usize::from(domain.policy.answers.max(1)));
        let Some(best) = services.first().copied() else { return Ok(false) };
        let ttl = self.ttl(index, &[(Family::V4, &v4), (Family::V6, &v6)]);
        for s in &services {
            let mirror = registry.mirror(s.mirror);
            let tier = service::tier(&best, s);
            let target = service::mirror_name(domain, mirror).ok_or(ReplyError::Unanswerable)?;
            self.reply.add(Section::Answer, owner, ttl, service::srv(mirror, &target, tier))?;
        }
        self.targets(domain, &services, ttl);
        Ok(true)
    }

    /// Addresses of the targets save the client a second question; they may be missing, and are where they
    /// would have to be signed too (RFC 4035 §3.1.1): resolvers believe them only with their signatures.
    fn targets(&mut self, domain: &Domain, services: &[Service], ttl: u32) {
        if self.reply.signs() {
            return;
        }
        for s in services {
            let Some(name) = service::mirror_name(domain, self.snapshot.registry.mirror(s.mirror)) else {
                continue;
            };
            let addrs = [s.v4.map(IpAddr::V4), s.v6.map(IpAddr::V6)].into_iter().flatten();
            if self.each(Section::Additional, &name, ttl, addrs).is_err() {
                return;
            }
        }
    }

    /// NXDOMAIN, or NODATA for a name that exists, with the SOA that says for how long (RFC 2308). Signed,
    /// a name that does not exist is one that has no types (RFC 9824 §3.1), but to those who say that they know of
    /// that and believe NXDOMAIN all the same (§5.1).
    fn negative(&mut self, zone: &Zone<'_>, node: &Node<'a, '_>, owner: &WireName) -> Result<(), ReplyError> {
        if node.kind == NodeKind::Missing {
            self.outcome.account.denial = true;
            if !self.reply.signs() || self.compact_ok {
                self.outcome.rcode = Rcode::NxDomain;
            }
        }
        // Absence is everyone's, except where rules keep all mirrors from this client: then `part` is set.
        self.soa(zone, node.owner, Section::Authority)?;
        self.deny(zone, node, owner)
    }

    pub(crate) fn soa(
        &mut self,
        zone: &Zone<'_>,
        owner: Option<&Domain>,
        section: Section,
    ) -> Result<(), ReplyError> {
        let config = &self.responder.config;
        let apex = WireName::from_text(zone.apex).ok_or(ReplyError::Unanswerable)?;
        // Below the longest names there is no room for a label; absence is told there all the same.
        let in_apex = |label: &str| apex.below(label).unwrap_or_else(|| apex.clone());
        let (first, second);
        let primary = match self.responder.prepared.nameservers.first() {
            Some((_, name)) => name,
            None => {
                first = in_apex(DEFAULT_NS);
                &first
            }
        };
        let hostmaster = match &self.responder.prepared.hostmaster {
            Some(name) => name,
            None => {
                second = in_apex("hostmaster");
                &second
            }
        };
        let (negative_ttl, minimum) = self.negative_ttls(zone, owner);
        let ttl = match section {
            Section::Answer => records::seconds(config.infrastructure_ttl),
            _ => negative_ttl,
        };
        let soa = Soa {
            primary,
            hostmaster,
            serial: self.snapshot.registry.serial,
            refresh: records::seconds(config.soa.refresh),
            retry: records::seconds(config.soa.retry),
            expire: records::seconds(config.soa.expire),
            minimum,
        };
        self.reply.add(section, &apex, ttl, Data::Soa(soa))
    }

    /// How long it may be kept that something is not there, and what the SOA says of that.
    pub(crate) fn negative_ttls(&self, zone: &Zone<'_>, owner: Option<&Domain>) -> (u32, u32) {
        let own = owner.map(|d| records::seconds(d.policy.negative_ttl));
        let shared = records::seconds(self.responder.config.soa.negative_ttl);
        // All records of one SOA are alike, whichever domain of the zone asked.
        let minimum = if zone.configured { shared } else { own.unwrap_or(shared) };
        (own.unwrap_or(shared).min(minimum), minimum)
    }

    /// The zone's name servers, with the addresses of those inside it where those need no signatures.
    fn nameservers(&mut self, zone: &Zone<'_>, owner: &WireName) -> Result<(), ReplyError> {
        let responder = self.responder;
        let ttl = records::seconds(responder.config.infrastructure_ttl);
        let apex = WireName::from_text(zone.apex).ok_or(ReplyError::Unanswerable)?;
        let default = [apex.below(DEFAULT_NS).ok_or(ReplyError::Unanswerable)?];
        let configured = &responder.prepared.nameservers;
        let names =
            || configured.iter().map(|(_, n)| n).chain(default.iter().filter(|_| configured.is_empty()));
        for name in names() {
            self.reply.add(Section::Answer, owner, ttl, Data::NameServer(name))?;
        }
        if self.reply.signs() {
            return Ok(());
        }
        for name in names() {
            let text = LookupName::from_wire(name.wire());
            if name::below(text.as_str(), zone.apex).is_none() {
                continue;
            }
            for (addr, ttl) in self.server_addresses(zone, &text) {
                if self.reply.add(Section::Additional, name, ttl, Data::Address(addr)).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The addresses of a name server within a zone and their TTLs: what its name is answered with, or
    /// would be if it did not lie in a part that is delegated (glue). A server elsewhere has none here.
    fn server_addresses(&self, zone: &Zone<'_>, name: &LookupName) -> Vec<(IpAddr, u32)> {
        let (snapshot, prepared) = (self.snapshot, &self.responder.prepared);
        let here = zone::find(&snapshot.registry, prepared, name, 0).filter(|z| z.apex == zone.apex);
        let Some(here) = here else { return Vec::new() };
        let node = zone::node(&snapshot.registry, prepared, &here, name);
        // Wildcards below a cut are as hidden as everything there, and nobody meant them as glue.
        if node.wildcard.is_some() && node.cut(&snapshot.registry, &here).is_some() {
            return Vec::new();
        }
        let config = &self.responder.config;
        let of = |family: Family| -> Vec<(IpAddr, u32)> {
            let of_family = |a: &IpAddr| a.is_ipv4() == (family == Family::V4);
            let fixed = || node.statics().filter_map(|r| Some((address_of(&r.data)?, r.ttl_s)));
            let fixed = || fixed().filter(|(a, _)| of_family(a));
            if let Some(ttl) = fixed().map(|(_, ttl)| ttl).min() {
                return fixed().map(|(a, _)| (a, ttl)).collect();
            }
            match node.kind {
                NodeKind::Mirror(i) => {
                    let ttl = node.owner.map_or(0, |d| records::seconds(d.policy.ttl));
                    let addr = snapshot.live.mirrors.get(i.0 as usize).and_then(|m| m.addr(family));
                    addr.into_iter().map(|a| (a, ttl)).collect()
                }
                NodeKind::NameServer => {
                    let ttl = records::seconds(config.infrastructure_ttl);
                    let all = config.nameserver_addresses.iter().copied().filter(of_family);
                    all.map(|a| (a, ttl)).collect()
                }
                _ => Vec::new(),
            }
        };
        Family::ALL.into_iter().flat_map(of).collect()
    }

    /// Points to the servers of a part of the zone that was delegated by static NS records.
    fn referral(&mut self, zone: &Zone<'_>, node: &Node<'a, '_>, cut: &str) -> Result<(), ReplyError> {
        // After an alias, AA speaks of the alias (RFC 1035 §4.1.1).
        self.authoritative = self.reply.counts()[Section::Answer as usize] > 0;
        let owner = WireName::from_text(cut).ok_or(ReplyError::Unanswerable)?;
        let at_cut = || {
            let all = node.owner.into_iter().flat_map(|d| d.records.iter());
            all.filter(|r| *r.name == *cut)
        };
        self.set(&owner, RecordType::NS, at_cut)?;
        if self.dnssec_ok {
            // What says whether the part is signed (RFC 4035 §3.1.4).
            self.set(&owner, RecordType::DS, at_cut)?;
        }
        let servers = || {
            at_cut().filter_map(|r| match &r.data {
                StaticData::Ns(server) => LookupName::from_text(server),
                _ => None,
            })
        };
        self.undelegated(zone, node, cut, &owner)?;
        // Servers inside the part cannot be found without their addresses: if one does not fit, the
        // reply is truncated (RFC 9471 §3.1). The others' may be missing, so they come last.
        for inside in [true, false] {
            for server in servers().filter(|s| name::below(s.as_str(), cut).is_some() == inside) {
                let name = WireName::from_text(server.as_str()).ok_or(ReplyError::Unanswerable)?;
                for (addr, ttl) in self.server_addresses(zone, &server) {
                    if self.reply.add(Section::Additional, &name, ttl, Data::Address(addr)).is_err() {
                        self.outcome.truncated |= inside;
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds the records of one type among some to the authority section, with one TTL (RFC 2181 §5.2).
    fn set<'r, I: Iterator<Item = &'r StaticRecord>>(
        &mut self,
        owner: &WireName,
        wanted: RecordType,
        records: impl Fn() -> I,
    ) -> Result<(), ReplyError> {
        let of_type = || records().filter(|r| records::record_type(&r.data) == wanted);
        let Some(ttl) = of_type().map(|r| r.ttl_s).min() else { return Ok(()) };
        for record in of_type() {
            records::add_static(&mut self.reply, Section::Authority, owner, ttl, &record.data)?;
        }
        Ok(())
    }
}

/// The name of a mirror as record data has it.
fn target(domain: &Domain, mirror: &Mirror) -> Result<Name, ReplyError> {
    service::mirror_name(domain, mirror).and_then(|n| n.to_name()).ok_or(ReplyError::Unanswerable)
}

/// The address of an address record.
fn address_of(data: &StaticData) -> Option<IpAddr> {
    match data {
        StaticData::A(a) => Some(IpAddr::V4(*a)),
        StaticData::Aaaa(a) => Some(IpAddr::V6(*a)),
        _ => None,
    }
}
