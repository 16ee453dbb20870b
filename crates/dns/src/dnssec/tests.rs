//! Every kind of answer of a signed zone, checked by hickory-proto's verifier.

use crate::dnssec::{KeyDerivation, PublicKey, SignTimes, Signer};
use crate::testing::{Ask, Bench, Fixture, Replied, ask};
use crate::{DnsConfig, Transport};
use hickory_proto::dnssec::Verifier;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, RRSIG};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use nearmost_core::registry::{KeyLife, KeyStage, Registry, StaticData, ZoneKey};
use nearmost_core::time::UnixMillis;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ZONE: &str = "play.example.com";
/// When the bench asks.
const NOW_S: u32 = 1_790_000_000;

fn key(site: u8, zone: &str, generation: u32, stage: KeyStage) -> ZoneKey {
    let derivation = KeyDerivation::new(&[site; 32]);
    let public = derivation.key(zone, generation).unwrap().public();
    let hold = Duration::from_secs(u32::MAX.into());
    ZoneKey {
        site: derivation.site().into(),
        generation,
        public: public.dnskey()[4..].try_into().unwrap(),
        life: KeyLife { stage, since: UnixMillis(0), publish_hold: hold, retire_hold: hold },
    }
}

/// A zone with everything in it.
fn fixture() -> Fixture {
    let mut fixture = Fixture::three();
    let host = || "Other.Example.net".to_owned();
    fixture
        .record("play.example.com", StaticData::Mx { preference: 10, exchange: host() })
        .record("play.example.com", StaticData::Txt(vec!["v=spf1 -all".into(), "Second".into()]))
        .record("play.example.com", StaticData::Txt(vec!["another".into()]))
        .record(
            "play.example.com",
            StaticData::Caa { critical: true, tag: "issue".into(), value: "CA.example".into() },
        )
        .record("www.play.example.com", StaticData::Cname("lon.play.example.com".into()))
        .record("out.play.example.com", StaticData::Cname("elsewhere.example.org".into()))
        .record("gone.play.example.com", StaticData::Cname("nothing.play.example.com".into()))
        .record("deep.down.play.example.com", StaticData::A([192, 0, 2, 77].into()))
        .record("sub.play.example.com", StaticData::Ns("ns.sub.play.example.com".into()))
        .record("ns.sub.play.example.com", StaticData::A([192, 0, 2, 99].into()))
        .record(
            "_x._tcp.deep.down.play.example.com",
            StaticData::Srv { priority: 1, weight: 2, port: 3, target: host() },
        );
    fixture
}

struct Zone {
    bench: Bench,
}

impl Zone {
    fn of(fixture: &Fixture, site: u8, keys: Vec<(&str, Vec<ZoneKey>)>) -> Zone {
        let mut bench = Bench::new(fixture, DnsConfig::default());
        let mut registry: Registry = (*bench.snapshot.registry).clone();
        for (zone, keys) in keys {
            registry.zone_keys.insert(registry.domain_by_name[zone], keys);
        }
        bench.snapshot.registry = Arc::new(registry);
        let signer = Signer::new(KeyDerivation::new(&[site; 32]), SignTimes::default());
        bench.responder = bench.responder.with_signer(Arc::new(signer));
        Zone { bench }
    }

    fn signed() -> Zone {
        Zone::of(&fixture(), 1, vec![(ZONE, vec![key(1, ZONE, 1, KeyStage::Active)])])
    }

    fn ask(&self, name: &str, rtype: RecordType) -> Replied {
        self.over(name, rtype, Transport::Tcp)
    }

    fn over(&self, name: &str, rtype: RecordType, transport: Transport) -> Replied {
        self.bench.from("81.2.69.142", &with_do(name, rtype), transport)
    }
}

fn with_do(name: &str, rtype: RecordType) -> Ask {
    let mut ask = ask(name, rtype).edns(1232);
    ask.dnssec_ok = true;
    ask
}

/// As hickory-proto knows our key.
fn dnskey(key: &ZoneKey) -> DNSKEY {
    let data = PublicKey::new(key.public).dnskey();
    let mut decoder = BinDecoder::new(&data);
    let public = hickory_proto::dnssec::PublicKeyBuf::new(
        data[4..].to_vec(),
        hickory_proto::dnssec::Algorithm::ECDSAP256SHA256,
    );
    assert_eq!(u16::read(&mut decoder).unwrap(), 257);
    DNSKEY::with_flags(257, public)
}

fn rrsig(record: &Record) -> Option<&RRSIG> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => Some(rrsig),
        _ => None,
    }
}

/// Checks that each set bears good signatures of exactly these keys, and tells the sets.
fn verify(section: &[Record], signer: &str, keys: &[&ZoneKey]) -> Vec<String> {
    let mut sets: BTreeMap<(String, RecordType), Vec<&Record>> = BTreeMap::new();
    for record in section.iter().filter(|r| rrsig(r).is_none()) {
        sets.entry((record.name.to_ascii().to_lowercase(), record.record_type())).or_default().push(record);
    }
    let mut signatures = section.iter().filter(|r| rrsig(r).is_some()).count();
    for ((owner, rtype), set) in &sets {
        if *rtype == RecordType::NS && *owner != format!("{signer}.") {
            continue;
        }
        for key in keys {
            let good = section.iter().filter_map(|r| Some((r, rrsig(r)?))).any(|(record, sig)| {
                let input = sig.input();
                let own = record.name.to_ascii().to_lowercase() == *owner && input.type_covered == *rtype;
                if !own || input.key_tag != PublicKey::new(key.public).tag() {
                    return false;
                }
                assert!(input.sig_inception.get() < NOW_S && input.sig_expiration.get() > NOW_S + 86_400);
                assert_eq!(input.signer_name, Name::from_ascii(format!("{signer}.")).unwrap());
                assert!(set.iter().all(|r| r.ttl == input.original_ttl && r.ttl == record.ttl));
                let name = &set[0].name;
                let verified = dnskey(key).verify_rrsig(name, DNSClass::IN, sig, set.iter().copied());
                verified.unwrap_or_else(|e| panic!("{owner} {rtype}: {e}"));
                true
            });
            assert!(good, "{owner} {rtype} is not signed by {}", key.generation);
            signatures -= 1;
        }
    }
    assert_eq!(signatures, 0, "signatures of nothing");
    sets.into_iter().map(|((owner, rtype), set)| format!("{owner} {rtype} {}", set.len())).collect()
}

fn nsec_types(reply: &Replied) -> Vec<String> {
    let mut all = reply.message.authorities.iter().filter_map(|r| match &r.data {
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) => Some((r, nsec)),
        _ => None,
    });
    let (record, nsec) = all.next().expect("an NSEC");
    assert!(all.next().is_none());
    let next = nsec.next_domain_name();
    assert_eq!(next.iter().next(), Some(&[0][..]));
    assert_eq!(next.base_name(), record.name.to_lowercase());
    nsec.type_bit_maps().map(|t| t.to_string()).collect()
}

#[test]
fn positive_answers_of_every_type() {
    use RecordType::{A, AAAA, ANY, CAA, CNAME, HTTPS, MX, NS, NSEC, SOA, SRV, SVCB, TXT};
    let zone = Zone::signed();
    let own = key(1, ZONE, 1, KeyStage::Active);
    for (name, rtype, sets) in [
        (ZONE, A, vec!["play.example.com. A 1"]),
        ("PLAY.Example.com", AAAA, vec!["play.example.com. AAAA 1"]),
        (ZONE, HTTPS, vec!["play.example.com. HTTPS 1"]),
        (ZONE, SVCB, vec!["play.example.com. SVCB 1"]),
        (ZONE, MX, vec!["play.example.com. MX 1"]),
        (ZONE, TXT, vec!["play.example.com. TXT 2"]),
        (ZONE, CAA, vec!["play.example.com. CAA 1"]),
        (ZONE, SOA, vec!["play.example.com. SOA 1"]),
        (ZONE, NS, vec!["play.example.com. NS 1"]),
        (ZONE, NSEC, vec!["play.example.com. NSEC 1"]),
        (ZONE, ANY, vec!["play.example.com. HINFO 1"]),
        ("_https._tcp.play.example.com", SRV, vec!["_https._tcp.play.example.com. SRV 1"]),
        ("_x._tcp.deep.down.play.example.com", SRV, vec!["_x._tcp.deep.down.play.example.com. SRV 1"]),
        ("lon.play.example.com", A, vec!["lon.play.example.com. A 1"]),
        ("ns1.play.example.com", RecordType::A, vec![]),
        ("www.play.example.com", A, vec!["lon.play.example.com. A 1", "www.play.example.com. CNAME 1"]),
        ("www.play.example.com", CNAME, vec!["www.play.example.com. CNAME 1"]),
        ("out.play.example.com", A, vec!["out.play.example.com. CNAME 1"]),
        // An alias has its own, and so does what does not exist (RFC 9824 §3.2).
        ("www.play.example.com", NSEC, vec!["www.play.example.com. NSEC 1"]),
        ("nothing.play.example.com", NSEC, vec!["nothing.play.example.com. NSEC 1"]),
        ("0123456789abcdef.probe.play.example.com", A, vec!["0123456789abcdef.probe.play.example.com. A 1"]),
    ] {
        let reply = zone.ask(name, rtype);
        assert_eq!(reply.rcode(), 0, "{name} {rtype}");
        assert_eq!(verify(&reply.message.answers, ZONE, &[&own]), sets, "{name} {rtype}");
        verify(&reply.message.authorities, ZONE, &[&own]);
    }
}

#[test]
fn the_keys_of_all_sites() {
    let (one, two) = (key(1, ZONE, 1, KeyStage::Active), key(2, ZONE, 7, KeyStage::Active));
    let new = key(2, ZONE, 8, KeyStage::Published);
    let keys = vec![one.clone(), two.clone(), new.clone()];
    for (site, signing) in [(1, vec![&one]), (2, vec![&two, &new])] {
        let zone = Zone::of(&fixture(), site, vec![(ZONE, keys.clone())]);
        for (rtype, set) in [
            (RecordType::DNSKEY, "play.example.com. DNSKEY 3"),
            (RecordType::CDS, "play.example.com. CDS 2"),
            (RecordType::CDNSKEY, "play.example.com. CDNSKEY 2"),
        ] {
            let reply = zone.ask(ZONE, rtype);
            assert_eq!(verify(&reply.message.answers, ZONE, &signing), [set], "site {site}");
        }
        // The rest bears the signature of the key that is farthest.
        let reply = zone.ask(ZONE, RecordType::A);
        verify(&reply.message.answers, ZONE, &signing[..1]);
    }
    // Before the parent has heard of any, a site without a key tells those of the others, and signs nothing.
    let keys = vec![key(1, ZONE, 1, KeyStage::Ready), new];
    let zone = Zone::of(&fixture(), 3, vec![(ZONE, keys)]);
    assert_eq!(verify(&zone.ask(ZONE, RecordType::DNSKEY).message.answers, ZONE, &[]).len(), 1);
    assert_eq!(zone.ask("nothing.play.example.com", RecordType::A).rcode(), 3);
}

/// RFC 8914: the code of the extended error.
fn extended(reply: &Replied) -> Option<u16> {
    let (code, length) = (15u16.to_be_bytes(), |w: &&[u8]| usize::from(w[3]) >= 2 && w[2] == 0);
    let mut all = reply.bytes.windows(6).filter(|w| w[..2] == code).filter(length);
    all.next_back().map(|w| u16::from_be_bytes([w[4], w[5]]))
}

#[test]
fn a_site_without_a_ds_sends_those_who_validate_to_the_others() {
    use RecordType::{A, CDNSKEY, CDS, DNSKEY, DS, MX, NSEC, RRSIG};
    let active = key(2, ZONE, 1, KeyStage::Active);
    let bare = Bench::new(&fixture(), DnsConfig::default());
    for own in [None, Some(KeyStage::Published), Some(KeyStage::Ready), Some(KeyStage::Left)] {
        let own: Vec<ZoneKey> = own.into_iter().map(|s| key(1, ZONE, 1, s)).collect();
        let keys = [own.clone(), vec![active.clone()]].concat();
        let mut zone = Zone::of(&fixture(), 1, vec![(ZONE, keys)]);
        for signer in [true, false] {
            if !signer {
                // A broker that cannot sign at all is no better.
                zone.bench.responder.signer = None;
            }
            for rtype in [A, MX, NSEC, DS, RRSIG, DNSKEY, CDS, CDNSKEY] {
                for name in [ZONE, "nothing.play.example.com", "x.sub.play.example.com"] {
                    let reply = zone.ask(name, rtype);
                    assert_eq!((reply.rcode(), extended(&reply)), (2, Some(9)), "{own:?} {name} {rtype}");
                    assert!(reply.message.answers.is_empty() && reply.message.authorities.is_empty());
                }
            }
            for rtype in [DNSKEY, CDS, CDNSKEY] {
                assert_eq!(zone.bench.ask(&ask(ZONE, rtype)).rcode(), 2, "{own:?} {rtype}");
            }
            // Who believes everything gets everything.
            for rtype in [A, MX] {
                let plain = ask(ZONE, rtype).edns(1232);
                assert_eq!(zone.bench.ask(&plain).bytes, bare.ask(&plain).bytes, "{own:?} {rtype}");
            }
        }
    }
    // The zone above is another matter.
    let mut fixture = fixture();
    let child = "in.play.example.com";
    fixture.domain(child, vec![]);
    let keys = vec![
        (ZONE, vec![key(1, ZONE, 1, KeyStage::Active)]),
        (child, vec![key(2, child, 1, KeyStage::Active)]),
    ];
    let zone = Zone::of(&fixture, 1, keys);
    assert_eq!(zone.ask(child, DS).message.answers.len(), 2);
    assert_eq!(zone.ask(child, A).rcode(), 2);
}

#[test]
fn ns_at_a_domain_in_a_zone_is_no_delegation_to_those_who_validate() {
    let mut fixture = fixture();
    let inner = fixture.domain("in.play.example.com", vec![]);
    inner.records.push(nearmost_core::registry::StaticRecord {
        name: "in.play.example.com".into(),
        ttl_s: 60,
        data: StaticData::Ns("ns.elsewhere.example".into()),
    });
    let mut zone = Zone::of(&fixture, 1, vec![(ZONE, vec![key(1, ZONE, 1, KeyStage::Active)])]);
    let signer = zone.bench.responder.signer.clone().unwrap();
    let config = DnsConfig { zones: vec![ZONE.into()], ..DnsConfig::default() };
    zone.bench.responder = crate::Responder::new(config).unwrap().with_signer(signer);
    for rtype in [RecordType::MX, RecordType::NS] {
        let types = nsec_types(&zone.ask("in.play.example.com", rtype));
        assert!(!types.contains(&"NS".to_owned()) && types.contains(&"A".to_owned()), "{rtype}: {types:?}");
    }
    assert!(nsec_types(&zone.ask("sub.play.example.com", RecordType::DS)).contains(&"NS".to_owned()));
}

#[test]
fn a_zone_of_ours_below_a_delegated_part_is_behind_the_referral() {
    let mut fixture = fixture();
    fixture.domain("in.sub.play.example.com", vec![]);
    let child = "in.sub.play.example.com";
    let keys = vec![
        (ZONE, vec![key(1, ZONE, 1, KeyStage::Active)]),
        (child, vec![key(1, child, 1, KeyStage::Active)]),
    ];
    let reply = Zone::of(&fixture, 1, keys).ask(child, RecordType::DS);
    assert!(!reply.message.metadata.authoritative && reply.message.answers.is_empty());
    let sets = verify(&reply.message.authorities, ZONE, &[&key(1, ZONE, 1, KeyStage::Active)]);
    assert_eq!(sets, ["sub.play.example.com. NS 1", "sub.play.example.com. NSEC 1"]);
}

#[test]
fn signed_denials_are_counted_as_denials_and_all_alike() {
    let zone = Zone::signed();
    let account = |name: &str, rtype, transport| zone.over(name, rtype, transport).outcome.account;
    let plain = zone.bench.ask(&ask("nothing.play.example.com", RecordType::A)).outcome.account;
    assert!(plain.denial);
    let long = format!("{}.play.example.com", ["x".repeat(60).as_str(); 3].join("."));
    for transport in [Transport::Tcp, Transport::Udp] {
        for (name, rtype) in [
            ("other.play.example.com", RecordType::A),
            ("b.other.play.example.com", RecordType::NSEC),
            ("gone.play.example.com", RecordType::A),
            (&long, RecordType::TXT),
        ] {
            let account = account(name, rtype, transport);
            assert!(account.denial, "{name}");
            assert_eq!(account.alike, plain.alike, "{name}");
        }
    }
    let mut small = with_do(&long, RecordType::TXT);
    small.payload = Some(512);
    let small = zone.bench.ask(&small);
    assert!(small.outcome.truncated && small.outcome.account.denial);
    assert_eq!(small.outcome.account.alike, plain.alike);
    for (name, rtype) in
        [(ZONE, RecordType::A), (ZONE, RecordType::SRV), ("down.play.example.com", RecordType::A)]
    {
        assert!(!account(name, rtype, Transport::Udp).denial, "{name} {rtype}");
    }
}

#[test]
fn key_sets_live_shorter_than_new_keys_are_held_back() {
    let mut own = key(1, ZONE, 1, KeyStage::Active);
    for (hold_s, ttl) in [(7200, 3600), (100_000, 3600), (10, 5), (1, 1)] {
        own.life.publish_hold = Duration::from_secs(hold_s);
        let zone = Zone::of(&fixture(), 1, vec![(ZONE, vec![own.clone()])]);
        assert_eq!(zone.ask(ZONE, RecordType::DNSKEY).message.answers[0].ttl, ttl, "{hold_s}");
    }
}

#[test]
fn a_zone_that_leaves_asks_for_no_ds() {
    let leaving = key(1, ZONE, 1, KeyStage::Leaving);
    let zone = Zone::of(&fixture(), 1, vec![(ZONE, vec![leaving.clone()])]);
    let reply = zone.ask(ZONE, RecordType::CDS);
    assert_eq!(verify(&reply.message.answers, ZONE, &[&leaving]), ["play.example.com. CDS 1"]);
    assert_eq!(reply.bytes.windows(7).filter(|w| *w == [0, 5, 0, 0, 0, 0, 0]).count(), 1);
    assert_eq!(zone.ask(ZONE, RecordType::CDNSKEY).message.answers.len(), 2);
    // Unless another site stays.
    let stays = key(2, ZONE, 1, KeyStage::Active);
    let zone = Zone::of(&fixture(), 1, vec![(ZONE, vec![leaving, stays.clone()])]);
    let reply = zone.ask(ZONE, RecordType::CDS);
    let digest = PublicKey::new(stays.public).ds(ZONE).unwrap().data();
    assert_eq!(reply.bytes.windows(36).filter(|w| *w == digest).count(), 1);
}

#[test]
fn what_is_not_there_is_proven() {
    use RecordType::{A, AAAA, ANY, CNAME, DS, MX, NS, SRV, TXT};
    let zone = Zone::signed();
    let own = key(1, ZONE, 1, KeyStage::Active);
    let apex = "A NS SOA MX TXT RRSIG NSEC DNSKEY CDS CDNSKEY SVCB HTTPS CAA AAAA";
    for (name, rtype, types) in [
        ("nothing.play.example.com", A, "RRSIG NSEC Unknown"),
        ("Nothing.Play.example.com", ANY, "RRSIG NSEC Unknown"),
        ("a.b.c.play.example.com", TXT, "RRSIG NSEC Unknown"),
        ("*.play.example.com", A, "RRSIG NSEC Unknown"),
        // An empty non-terminal.
        ("down.play.example.com", A, "RRSIG NSEC"),
        ("_tcp.play.example.com", SRV, "RRSIG NSEC"),
        ("probe.play.example.com", A, "RRSIG NSEC"),
        (ZONE, SRV, apex),
        (ZONE, DS, apex),
        ("lon.play.example.com", MX, "A AAAA RRSIG NSEC"),
        ("syd.play.example.com", AAAA, "A RRSIG NSEC"),
        ("_https._tcp.play.example.com", TXT, "SRV RRSIG NSEC"),
        ("deep.down.play.example.com", TXT, "A RRSIG NSEC"),
        ("www.play.example.com", DS, "RRSIG NSEC Unknown"),
        ("lon.play.example.com", CNAME, "A AAAA RRSIG NSEC"),
        ("lon.play.example.com", NS, "A AAAA RRSIG NSEC"),
        // Delegated, and not signed there.
        ("sub.play.example.com", DS, "NS RRSIG NSEC"),
        // After an alias.
        ("gone.play.example.com", A, "RRSIG NSEC Unknown"),
    ] {
        let reply = zone.ask(name, rtype);
        let sorted = |text: &str| {
            let mut all: Vec<String> = text.split(' ').map(str::to_owned).collect();
            all.sort();
            all
        };
        assert_eq!(reply.rcode(), 0, "{name} {rtype}");
        assert!(reply.message.metadata.authoritative);
        let sets = verify(&reply.message.authorities, ZONE, &[&own]);
        assert_eq!(sets.len(), 2, "{name} {rtype}: {sets:?}");
        let mut types_there = nsec_types(&reply);
        types_there.sort();
        if name == "www.play.example.com" {
            // An alias is followed for DS too.
            assert_eq!(types_there, sorted("A AAAA RRSIG NSEC"));
        } else {
            assert_eq!(types_there, sorted(types), "{name} {rtype}");
        }
        let ttls: Vec<u32> = reply.message.authorities.iter().map(|r| r.ttl).collect();
        assert_eq!(ttls, [7; 4], "{name} {rtype}");
    }
}

#[test]
fn who_knows_compact_answers_is_told_nxdomain_with_the_proof() {
    let zone = Zone::signed();
    let own = key(1, ZONE, 1, KeyStage::Active);
    let told = |name: &str, rtype, signed| {
        let question = Ask { dnssec_ok: signed, compact_ok: true, ..with_do(name, rtype) };
        zone.bench.from("81.2.69.142", &question, Transport::Tcp)
    };
    let compact = |reply: &Replied| reply.message.edns.as_ref().unwrap().flags().z & 0x4000 != 0;
    for name in ["nothing.play.example.com", "gone.play.example.com"] {
        let reply = told(name, RecordType::A, true);
        assert_eq!((reply.rcode(), compact(&reply)), (3, true), "{name}");
        assert_eq!(verify(&reply.message.authorities, ZONE, &[&own]).len(), 2, "{name}");
        let plain = zone.ask(name, RecordType::A);
        assert_eq!((plain.rcode(), compact(&plain)), (0, false), "{name}");
        assert_eq!(plain.outcome.account, crate::Account { ..reply.outcome.account }, "{name}");
    }
    // What is there, if only in part, is no NXDOMAIN; without DO the bit means nothing.
    for (name, signed, rcode) in
        [("down.play.example.com", true, 0), (ZONE, true, 0), ("nothing.play.example.com", false, 3)]
    {
        let reply = told(name, RecordType::SRV, signed);
        assert_eq!((reply.rcode(), compact(&reply)), (rcode, signed), "{name}");
    }
}

#[test]
fn a_referral_proves_that_the_part_is_not_signed() {
    let zone = Zone::signed();
    let own = key(1, ZONE, 1, KeyStage::Active);
    for name in ["sub.play.example.com", "x.sub.play.example.com"] {
        let reply = zone.ask(name, RecordType::A);
        assert!(!reply.message.metadata.authoritative && reply.message.answers.is_empty());
        let sets = verify(&reply.message.authorities, ZONE, &[&own]);
        assert_eq!(sets, ["sub.play.example.com. NS 1", "sub.play.example.com. NSEC 1"]);
        assert_eq!(nsec_types(&reply), ["NS", "RRSIG", "NSEC"]);
        assert_eq!(reply.message.additionals.len(), 1);
    }
}

#[test]
fn a_zone_of_ours_below_another_is_vouched_for() {
    let mut fixture = fixture();
    fixture.domain("in.play.example.com", vec![]);
    fixture.domain("bare.play.example.com", vec![]);
    let child = "in.play.example.com";
    let parent = key(1, ZONE, 1, KeyStage::Active);
    let keys = vec![
        (ZONE, vec![parent.clone()]),
        (child, vec![key(1, child, 1, KeyStage::Active), key(2, child, 1, KeyStage::Published)]),
    ];
    let zone = Zone::of(&fixture, 1, keys);
    let reply = zone.ask(child, RecordType::DS);
    assert_eq!(verify(&reply.message.answers, ZONE, &[&parent]), ["in.play.example.com. DS 1"]);
    let reply = zone.ask("bare.play.example.com", RecordType::DS);
    assert_eq!(reply.rcode(), 0);
    verify(&reply.message.authorities, ZONE, &[&parent]);
    assert_eq!(nsec_types(&reply), ["NS", "RRSIG", "NSEC"]);
    // The child's own answers are the child's.
    let reply = zone.ask("x.in.play.example.com", RecordType::A);
    verify(&reply.message.authorities, child, &[&key(1, child, 1, KeyStage::Active)]);
}

#[test]
fn who_does_not_ask_for_signatures_gets_none() {
    let (signed, bare) = (Zone::signed(), Bench::new(&fixture(), DnsConfig::default()));
    for rtype in
        [RecordType::A, RecordType::MX, RecordType::SOA, RecordType::NS, RecordType::SRV, RecordType::ANY]
    {
        for name in [ZONE, "nothing.play.example.com", "x.sub.play.example.com", "www.play.example.com"] {
            for plain in [ask(name, rtype), ask(name, rtype).edns(1232)] {
                assert_eq!(signed.bench.ask(&plain).bytes, bare.ask(&plain).bytes, "{name} {rtype}");
            }
            // And where there are no keys, nobody does.
            let bare_signer = Zone::of(&fixture(), 1, vec![]);
            let with = with_do(name, rtype);
            assert_eq!(bare_signer.bench.ask(&with).bytes, bare.ask(&with).bytes, "{name} {rtype}");
        }
    }
    let reply = signed.bench.ask(&ask(ZONE, RecordType::DNSKEY));
    assert_eq!(reply.message.answers.len(), 1);
}

#[test]
fn what_does_not_fit_with_its_signatures_is_truncated() {
    let mut fixture = fixture();
    for n in 0..11 {
        fixture.record("big.play.example.com", StaticData::Txt(vec![format!("{n}{}", "x".repeat(90))]));
    }
    let zone = Zone::of(&fixture, 1, vec![(ZONE, vec![key(1, ZONE, 1, KeyStage::Active)])]);
    let udp = zone.over("big.play.example.com", RecordType::TXT, Transport::Udp);
    assert!(udp.message.metadata.truncation && udp.message.answers.is_empty() && udp.outcome.truncated);
    // Without signatures it would have fitted.
    assert!(
        !zone.bench.ask(&ask("big.play.example.com", RecordType::TXT).edns(1232)).message.metadata.truncation
    );
    let tcp = zone.ask("big.play.example.com", RecordType::TXT);
    assert_eq!(verify(&tcp.message.answers, ZONE, &[&key(1, ZONE, 1, KeyStage::Active)]).len(), 1);
    assert!(!tcp.message.metadata.truncation);
}

#[test]
fn signatures_are_not_asked_for_alone_and_nxname_not_at_all() {
    let zone = Zone::signed();
    assert_eq!(zone.ask(ZONE, RecordType::RRSIG).rcode(), 5);
    assert_eq!(zone.ask(ZONE, RecordType::Unknown(128)).rcode(), 1);
}

#[test]
fn brokers_of_one_site_give_the_same_bytes_and_make_them_once() {
    let (a, b) = (Zone::signed(), Zone::signed());
    let first = a.ask(ZONE, RecordType::MX).bytes;
    assert_eq!(first, b.ask(ZONE, RecordType::MX).bytes);
    let signer = a.bench.responder.signer.clone().unwrap();
    let made = signer.cached();
    assert_eq!(a.ask(ZONE, RecordType::MX).bytes, first);
    assert_eq!(signer.cached(), made);
    a.ask(ZONE, RecordType::TXT);
    assert_eq!(signer.cached(), made + 1);
}
