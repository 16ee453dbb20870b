use super::*;

fn world(zones: &[&str]) -> World {
    World {
        resolvers: Vec::new(),
        private: false,
        port: 53,
        zones: zones.iter().map(|z| (*z).into()).collect(),
        nameservers: vec!["ns1.play.example.com".into()],
        broker: vec!["192.0.2.1:53".parse().unwrap()],
        known: true,
        machine: false,
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
    // It listens on every address of this machine.
    let machine = World { machine: true, ..unknown };
    assert!(levels(|f| among(&machine, &zone, &at("127.0.0.1"), f)).is_empty());
    let said = levels(|f| among(&machine, &zone, &at("192.0.2.9"), f));
    assert!(said[0].0 == "warn" && said[0].1.contains("any address of this machine"), "{said:?}");
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
        levels(|f| judge_keys("a.com", keys, &parents, &parent, f)).first().map(|(level, _)| level.clone())
    };
    assert_eq!(level(&[], &[]), None);
    assert_eq!(level(&[key("7 13 2 AB")], &["7 13 2 ab"]).as_deref(), Some("ok"));
    assert_eq!(level(&[key("7 13 2 AB")], &[]).as_deref(), Some("warn"));
    assert_eq!(level(&[key("7 13 2 AB")], &["8 13 2 CD"]).as_deref(), Some("fail"));
    assert_eq!(level(&[], &["8 13 2 CD"]).as_deref(), Some("fail"));
}

#[tokio::test]
async fn a_resolver_that_does_not_answer_says_nothing_of_the_delegation() {
    let zone = Name::from_ascii("play.example.com.").unwrap();
    let mut findings = Findings::default();
    assert!(delegated(&world(&[]), &zone, &mut findings).await.is_none());
    let one = &findings.0[0];
    assert!(one.level == "warn" && one.message.contains("the resolver did not answer"), "{one:?}");
}
