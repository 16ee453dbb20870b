//! What a signed zone answers besides its data: keys at its apex, and what is not there.

use crate::dnssec::{self, PublicKey, TYPE_CDNSKEY, TYPE_CDS, TYPE_DNSKEY, TYPE_DS, denial};
use crate::name::{LookupName, WireName};
use crate::records;
use crate::reply::{Data, ReplyError, Section};
use crate::resolve::Resolver;
use crate::zone::{self, Node, NodeKind, Zone};
use hickory_proto::rr::RecordType;
use nearmost_core::registry::{Domain, KeyStage, Registry, ZoneKey};

/// What the parent is told that shall have no DS any more (RFC 8078 §4).
const NO_CDS: [u8; 5] = [0, 0, 0, 0, 0];
/// The same as a key.
const NO_CDNSKEY: [u8; 5] = [0, 0, 3, 0, 0];

/// The keys of a zone, of all sites. A zone has them if its apex is a registered domain.
pub(crate) fn keys_of<'s>(registry: &'s Registry, zone: &Zone<'_>) -> &'s [ZoneKey] {
    let apex = registry.domain_by_name.get(zone.apex);
    apex.and_then(|i| registry.zone_keys.get(i)).map_or(&[], Vec::as_slice)
}

impl<'a> Resolver<'a, '_> {
    /// DNSKEY, CDS and CDNSKEY of the zone; false when it has none.
    pub(crate) fn keys(&mut self, zone: &Zone<'_>, owner: &WireName) -> Result<bool, ReplyError> {
        let rtype = u16::from(self.qtype);
        let served: Vec<(&ZoneKey, KeyStage)> = self.served_keys(zone).collect();
        // Half of what new keys are held back for: then no resolver misses one that is ready, however short
        // that is.
        let holds = served.iter().map(|(key, _)| records::seconds(key.life.publish_hold) / 2);
        let longest = records::seconds(self.responder.config.infrastructure_ttl);
        let ttl = holds.min().map_or(longest, |half| half.clamp(1, longest.max(1)));
        let mut all: Vec<Vec<u8>> = Vec::new();
        for (key, stage) in &served {
            let public = PublicKey::new(key.public);
            match rtype {
                TYPE_DNSKEY => all.push(public.dnskey().to_vec()),
                TYPE_CDNSKEY if stage.wants_ds() => all.push(public.dnskey().to_vec()),
                TYPE_CDS if stage.wants_ds() => {
                    let ds = public.ds(zone.apex).ok_or(ReplyError::Unanswerable)?;
                    all.push(ds.data().to_vec());
                }
                _ => {}
            }
        }
        // Only where no site wants one.
        if all.is_empty() && served.iter().any(|(_, stage)| stage.wants_no_ds()) {
            let none = if rtype == TYPE_CDS { NO_CDS } else { NO_CDNSKEY };
            all.push(none.to_vec());
        }
        for data in &all {
            self.reply.add(Section::Answer, owner, ttl, Data::Raw { rtype, data })?;
        }
        Ok(!all.is_empty())
    }

    fn served_keys(&self, zone: &Zone<'_>) -> impl Iterator<Item = (&'a ZoneKey, KeyStage)> {
        let now = self.now;
        let keys = keys_of(&self.snapshot.registry, zone).iter().map(move |key| (key, key.life.at(now)));
        keys.filter(|(_, stage)| stage.is_served())
    }

    /// The NSEC of a name, asked for by its type; of one that does not exist, too: that is what proves it.
    pub(crate) fn nsec(
        &mut self,
        zone: &Zone<'_>,
        node: &Node<'a, '_>,
        owner: &WireName,
    ) -> Result<bool, ReplyError> {
        if !self.reply.signs() {
            return Ok(false);
        }
        let (ttl, _) = self.negative_ttls(zone, node.owner);
        self.outcome.account.denial |= node.kind == NodeKind::Missing;
        let data = self.proof(zone, node, owner).ok_or(ReplyError::Unanswerable)?;
        let data = Data::Raw { rtype: dnssec::TYPE_NSEC, data: &data };
        self.reply.add(Section::Answer, owner, ttl, data).map(|()| true)
    }

    /// Proves that a name, or what was asked for at it, is not there. Not for unsigned replies.
    pub(crate) fn deny(
        &mut self,
        zone: &Zone<'_>,
        node: &Node<'a, '_>,
        owner: &WireName,
    ) -> Result<(), ReplyError> {
        if !self.reply.signs() {
            return Ok(());
        }
        let data = self.proof(zone, node, owner);
        self.prove(zone, node.owner, owner, data)
    }

    /// Record data of a name's NSEC.
    fn proof(&self, zone: &Zone<'_>, node: &Node<'a, '_>, owner: &WireName) -> Option<Vec<u8>> {
        match node.kind {
            NodeKind::Missing => denial::nxname(owner),
            _ => denial::nsec(owner, &self.types(zone, node)),
        }
    }

    fn prove(
        &mut self,
        zone: &Zone<'_>,
        domain: Option<&Domain>,
        owner: &WireName,
        data: Option<Vec<u8>>,
    ) -> Result<(), ReplyError> {
        let data = data.ok_or(ReplyError::Unanswerable)?;
        // RFC 9077: as long as the SOA beside it.
        let (ttl, _) = self.negative_ttls(zone, domain);
        let data = Data::Raw { rtype: dnssec::TYPE_NSEC, data: &data };
        self.reply.add(Section::Authority, owner, ttl, data)
    }

    /// In a referral: the proof that the part has no DS, if it has none (RFC 4035 §3.1.4.1).
    pub(crate) fn undelegated(
        &mut self,
        zone: &Zone<'_>,
        node: &Node<'a, '_>,
        cut: &str,
        owner: &WireName,
    ) -> Result<(), ReplyError> {
        let mut at_cut = node.owner.into_iter().flat_map(|d| d.records.iter()).filter(|r| *r.name == *cut);
        if !self.reply.signs() || at_cut.any(|r| records::record_type(&r.data) == RecordType::DS) {
            return Ok(());
        }
        let data = denial::nsec(owner, &[RecordType::NS.into()]);
        self.prove(zone, node.owner, owner, data)
    }

    /// Whether a name in this zone is the apex of another that is ours too.
    pub(crate) fn is_child(&self, zone: &Zone<'_>, name: &LookupName) -> bool {
        let at = zone::find(&self.snapshot.registry, &self.responder.prepared, name, 0);
        at.is_some_and(|at| at.apex == name.as_str() && at.apex != zone.apex)
    }

    /// The DS of a zone below this one that is ours too: of its keys, as the parent that we are.
    pub(crate) fn child_ds(
        &mut self,
        zone: &Zone<'_>,
        node: &Node<'a, '_>,
        owner: &WireName,
    ) -> Result<(), ReplyError> {
        let child = Zone { apex: node.name, domain: None, configured: false };
        let ttl = records::seconds(self.responder.config.infrastructure_ttl);
        let wanted: Vec<&ZoneKey> =
            self.served_keys(&child).filter(|(_, stage)| stage.wants_ds()).map(|(key, _)| key).collect();
        for key in &wanted {
            let ds = PublicKey::new(key.public).ds(node.name).ok_or(ReplyError::Unanswerable)?;
            let data = Data::Raw { rtype: TYPE_DS, data: &ds.data() };
            self.reply.add(Section::Answer, owner, ttl, data)?;
        }
        if !wanted.is_empty() {
            return Ok(());
        }
        self.soa(zone, node.owner, Section::Authority)?;
        match self.reply.signs() {
            true => {
                let data = denial::nsec(owner, &[RecordType::NS.into()]);
                self.prove(zone, node.owner, owner, data)
            }
            false => Ok(()),
        }
    }

    /// The types at a name, what was asked for left out. Those that depend on the client are said to be
    /// there: resolvers may deny to others what is not named (RFC 8198), and those others may have them.
    fn types(&self, zone: &Zone<'_>, node: &Node<'a, '_>) -> Vec<u16> {
        use RecordType::{A, AAAA, HTTPS, NS, SOA, SRV, SVCB};
        let fixed = node.statics().map(|r| records::record_type(&r.data));
        let is_cut = node.cut(&self.snapshot.registry, zone) == Some(node.name);
        let mut all: Vec<RecordType> = match is_cut {
            // What else stands at a delegated name is the child's.
            true => fixed.filter(|t| matches!(t, NS | RecordType::DS)).collect(),
            // NS there would say that the name is delegated: a proof that no resolver takes.
            false => fixed.filter(|t| *t != NS).collect(),
        };
        if !is_cut && node.alias().is_none() {
            match node.kind {
                NodeKind::Domain(i) => {
                    all.extend([A, AAAA, SVCB]);
                    let alpn = !self.snapshot.registry.domain(i).policy.alpn.is_empty();
                    all.extend(alpn.then_some(HTTPS));
                }
                NodeKind::NameServer | NodeKind::Mirror(_) | NodeKind::OneTime(..) => all.extend([A, AAAA]),
                NodeKind::Service(_) => all.push(SRV),
                NodeKind::Plain | NodeKind::Missing => {}
            }
        }
        if node.apex {
            all.extend([SOA, NS]);
        }
        let mut all: Vec<u16> = all.into_iter().map(u16::from).collect();
        if node.apex {
            all.push(TYPE_DNSKEY);
            if self.served_keys(zone).any(|(_, s)| s.wants_ds() || s.wants_no_ds()) {
                all.extend([TYPE_CDS, TYPE_CDNSKEY]);
            }
        }
        all.retain(|t| *t != u16::from(self.qtype));
        all
    }
}
