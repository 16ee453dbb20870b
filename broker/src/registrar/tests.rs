use super::*;
use crate::admin::Actor;
use crate::store::{RedbStore, StoreThread};
use nearmost_replica::{Body, Kind, Record};
use nearmost_wire::registry::{
    BODY_VERSION, Challenge, DomainBody, MirrorBody, NodeBody, PeerBody, ProbeBody,
};
use tempfile::TempDir;

/// A registrar with two domains, as a person made them.
struct World {
    registrar: Registrar,
    seq: u64,
    store: StoreThread,
    _dir: TempDir,
}

const UID: Who = Who { actor: Actor::Socket { uid: 0 }, via: Via::Socket, source: None };

impl World {
    async fn new() -> World {
        let mut world = World::bare(1).await;
        let person = KeyPair::from_seed(Role::Person, &[2; 32]).id().to_string();
        world.person(Kind::PERSON, "", &person, br#"{"name":"p"}"#.to_vec()).await;
        for domain in ["a.example", "b.example"] {
            let body = serde_json::to_vec(&DomainBody::default()).unwrap();
            world.person(Kind::DOMAIN, domain, "", body).await;
        }
        world
    }

    /// A broker with this key and nothing in its registry.
    async fn bare(seed: u8) -> World {
        let dir = tempfile::tempdir().unwrap();
        let (handle, store) = StoreThread::spawn(Box::new(RedbStore::open(dir.path()).unwrap())).unwrap();
        let settings =
            RegistrarSettings { advertise: vec!["b.example:1".into()], ..RegistrarSettings::default() };
        let key = KeyPair::from_seed(Role::Broker, &[seed; 32]);
        let (registrar, _) = Registrar::open(handle, &key, settings).await.unwrap();
        World { registrar, seq: 0, store, _dir: dir }
    }

    /// Has this broker take another for an admin of its federation.
    async fn trust(&mut self, other: &World, name: &str) {
        let id = other.registrar.author.id.to_string();
        let key = nearmost_replica::RecordKey { kind: Kind::PEER, scope: String::new(), id };
        let body = PeerBody { name: name.into(), admin: true, ..PeerBody::default() };
        let change = vec![(key, Some(serde_json::to_vec(&body).unwrap()))];
        self.registrar.write_own(change, String::new(), None, Origin::default()).await.unwrap();
    }

    /// Hands over everything that another broker holds.
    async fn hear(&mut self, other: &World) {
        let records = other.registrar.held.set.lock().statements().cloned().collect();
        let (reply, _stored) = oneshot::channel();
        let peer = other.registrar.author.key.public();
        self.registrar.receive_all(vec![Delivery { peer, records, reply }]).await;
        self.registrar.show();
    }

    fn serial(&self) -> u32 {
        self.registrar.held.built.registry.serial
    }

    /// Static records of the first domain, each as name and text.
    fn texts(&self) -> Vec<String> {
        let registry = &self.registrar.held.built.registry;
        let domain = registry.domain(registry.find_domain("a.example").unwrap());
        domain.records.iter().map(|r| format!("{} {:?}", r.name, r.data)).collect()
    }

    /// A person's change.
    async fn person(&mut self, kind: Kind, scope: &str, id: &str, bytes: Vec<u8>) {
        self.try_person(kind, scope, id, bytes).await.unwrap();
    }

    /// The same, where it may be refused.
    async fn try_person(
        &mut self,
        kind: Kind,
        scope: &str,
        id: &str,
        bytes: Vec<u8>,
    ) -> Result<CommitResponse, AdminError> {
        let key = SigningKey::from_seed(&[2; 32]);
        let record = Record {
            kind,
            scope: scope.into(),
            id: id.into(),
            body: Body::Live { version: BODY_VERSION, bytes },
            hlc: self.registrar.clock.tick(unix_now().0),
            author: key.public(),
            author_epoch: 0,
            author_seq: self.seq,
            grants: Vec::new(),
        };
        self.seq += 1;
        let signed = SignedRecord::sign(record, &key).unwrap();
        self.registrar.commit(&UID, vec![signed], String::new(), None).await
    }

    async fn node(&mut self, name: &str, body: NodeBody) {
        self.person(Kind::NODE, "", name, serde_json::to_vec(&body).unwrap()).await;
    }

    /// A token for a domain; its secret.
    async fn invite(&mut self, domain: &str, name: Option<&str>) -> [u8; 16] {
        let request = InviteRequest { domains: vec![domain.into()], name: name.map(Into::into), ttl_s: 60 };
        let token = self.registrar.invite(&UID, request).await.unwrap().token;
        JoinToken::decode(&token).unwrap().secret
    }

    async fn join(&mut self, key: u8, secret: [u8; 16], name: Option<&str>) -> Result<Joined, Refusal> {
        let joined = self
            .registrar
            .join((node_key(key), std::net::Ipv4Addr::LOCALHOST.into()), secret, name.map(Into::into))
            .await;
        joined.map_err(|r| r.refusal)
    }

    async fn declare(&mut self, key: u8, mirrors: &[&str]) -> Vec<String> {
        let service = |mirror: &&str| ServiceDecl {
            domain: "a.example".into(),
            mirror: (*mirror).into(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            hostname: None,
            port: 443,
            weight: 100,
            probe: ProbeBody::default(),
            url: None,
            ingress: None,
        };
        let services: Vec<_> = mirrors.iter().map(service).collect();
        self.registrar.declare(node_key(key), &services, None).await.unwrap()
    }

    async fn end(self) {
        drop(self.registrar);
        self.store.stop().await.unwrap();
    }
}

/// The public key of a node.
fn node_key(seed: u8) -> [u8; 32] {
    KeyPair::from_seed(Role::Node, &[seed; 32]).id().key
}

fn domains(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[tokio::test]
async fn a_name_that_the_agent_asks_for_must_be_free() {
    let mut world = World::new().await;
    world.node("foo", NodeBody { domains: domains(&["b.example"]), ..NodeBody::default() }).await;
    let secret = world.invite("a.example", None).await;
    assert_eq!(world.join(9, secret, Some("foo")).await, Err(Refusal::BadName));
    assert_eq!(world.join(9, secret, Some("FOO")).await, Err(Refusal::BadName), "in any spelling");
    assert!(world.registrar.held.built.registry.node_by_id.is_empty(), "nothing was taken over");
    let joined = world.join(9, secret, Some("bar")).await.unwrap();
    assert_eq!(joined, Joined { name: "bar".into(), domains: domains(&["a.example"]) });

    // A token that names the record is for it, once.
    let secret = world.invite("a.example", Some("foo")).await;
    assert_eq!(world.join(9, secret, None).await, Err(Refusal::BadName), "not for a key that has a name");
    let joined = world.join(8, secret, Some("other")).await.unwrap();
    assert_eq!(joined, Joined { name: "foo".into(), domains: domains(&["b.example", "a.example"]) });
    let secret = world.invite("a.example", Some("foo")).await;
    assert_eq!(world.join(7, secret, None).await, Err(Refusal::BadName), "it has a key now");
    world.end().await;
}

#[tokio::test]
async fn a_revoked_name_is_refused_and_its_token_not_spent() {
    let mut world = World::new().await;
    world.node("foo", NodeBody { revoked: true, ..NodeBody::default() }).await;
    let secret = world.invite("a.example", Some("foo")).await;
    assert_eq!(world.join(9, secret, None).await, Err(Refusal::Revoked));
    world.node("foo", NodeBody::default()).await;
    assert!(world.join(9, secret, None).await.is_ok());
    world.end().await;
}

#[tokio::test]
async fn a_lost_answer_is_given_again_to_the_same_key_only() {
    let mut world = World::new().await;
    let secret = world.invite("a.example", Some("one")).await;
    let joined = world.join(1, secret, None).await.unwrap();
    let version = world.registrar.held.version;
    assert_eq!(world.join(1, secret, None).await, Ok(joined));
    assert_eq!(world.registrar.held.version, version, "nothing is written again");
    assert_eq!(world.join(2, secret, None).await, Err(Refusal::UsedToken));
    // Another node's used token brings a node nothing, though it is known itself.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let other = world.invite("b.example", Some("two")).await;
    world.join(2, other, None).await.unwrap();
    assert_eq!(world.join(1, other, None).await, Err(Refusal::UsedToken));
    // Nor does its own once it is revoked.
    let id = Id { role: Role::Node, key: node_key(1) }.to_string();
    world.node("one", NodeBody { id: Some(id), revoked: true, ..NodeBody::default() }).await;
    assert_eq!(world.join(1, secret, None).await, Err(Refusal::UsedToken));
    world.end().await;
}

#[tokio::test]
async fn renaming_mirrors_at_each_session_ends_in_a_warning() {
    let mut world = World::new().await;
    let secret = world.invite("a.example", Some("one")).await;
    world.join(1, secret, None).await.unwrap();
    let mut warned = None;
    for i in 0..40 {
        let warnings = world.declare(1, &[&format!("m{i}")]).await;
        if let Some(warning) = warnings.first() {
            warned = Some((i, warning.clone()));
            break;
        }
    }
    let (at, warning) = warned.expect("it is warned");
    assert!(at >= 20 && warning.contains("too often"), "{at}: {warning}");
    let version = world.registrar.held.version;
    assert_eq!(world.declare(1, &["again"]).await.len(), 1);
    assert_eq!(world.registrar.held.version, version, "nothing is written");
    let standing = format!("m{}", at - 1);
    assert!(world.declare(1, &[&standing]).await.is_empty(), "what stands may be declared at any rate");
    world.end().await;
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_done() {
    let mut world = World::new().await;
    let secret = world.invite("a.example", Some("one")).await;
    let (reply, answer) = oneshot::channel();
    drop(answer);
    let (key, source) = (node_key(1), std::net::Ipv4Addr::LOCALHOST.into());
    world.registrar.serve(Command::Join { key, source, secret, name: None, reply }).await;
    assert!(world.registrar.held.built.registry.nodes.is_empty());
    assert!(world.join(2, secret, None).await.is_ok(), "the token was not spent");
    world.end().await;
}

#[tokio::test]
async fn corrected_places_and_policies_are_built_or_refused() {
    let mut world = World::new().await;
    let put = |body: &str| body.as_bytes().to_vec();
    world.person(Kind::OVERRIDE, "", "192.0.2.0/24", put(r#"{"country":"GB"}"#)).await;
    world.person(Kind::OVERRIDE, "", "10.0.0.0/8", put(r#"{"asn":64496}"#)).await;
    world.person(Kind::DOMAIN, "a.example", "", put(r#"{"strategy":"weighted"}"#)).await;
    let registry = world.registrar.held.built.registry.clone();
    let prefixes: Vec<String> = registry.overrides.iter().map(|(p, _)| p.to_string()).collect();
    assert_eq!(prefixes, ["10.0.0.0/8", "192.0.2.0/24"]);
    assert_eq!(registry.domains[0].policy.strategy, nearmost_core::registry::Strategy::Weighted);
    for (kind, scope, id, body, says) in [
        (Kind::OVERRIDE, "", "192.0.2.1/24", r#"{"country":"GB"}"#, "override 192.0.2.1/24: found"),
        (Kind::OVERRIDE, "", "192.0.2.0/24", "{}", "override 192.0.2.0/24: says no place"),
        (
            Kind::DOMAIN,
            "a.example",
            "",
            r#"{"strategy":"failover"}"#,
            "domain a.example: strategy = \"failover\" needs",
        ),
    ] {
        let refused = world.try_person(kind, scope, id, put(body)).await.unwrap_err().to_string();
        assert!(refused.starts_with("the change was refused: ") && refused.contains(says), "{refused}");
    }
    assert_eq!(world.registrar.held.version, registry.version, "nothing was written");
    world.end().await;
}

#[tokio::test]
async fn a_persons_mirror_is_not_counted_as_declared() {
    let mut world = World::new().await;
    let secret = world.invite("a.example", Some("one")).await;
    world.join(1, secret, None).await.unwrap();
    world.declare(1, &["m"]).await;
    let addresses = vec!["192.0.2.9".parse().unwrap()];
    let body = MirrorBody { node: Some("one".into()), addresses, ..MirrorBody::default() };
    world.person(Kind::MIRROR, "a.example", "m", serde_json::to_vec(&body).unwrap()).await;
    let warnings = world.declare(1, &["m"]).await;
    assert!(warnings[0].contains("differs in addresses"), "{warnings:?}");
    assert_eq!(world.registrar.held.declared.of("one").count(), 0);
    world.end().await;
}

#[tokio::test]
async fn serials_are_equal_where_the_records_are_and_grow_with_each_change() {
    let (mut a, mut b) = (World::new().await, World::bare(3).await);
    a.trust(&b, "bob").await;
    b.trust(&a, "ann").await;
    b.hear(&a).await;
    let first = a.serial();
    assert_eq!(b.serial(), first);
    assert_ne!(first, 0);
    assert_ne!(a.registrar.held.version, b.registrar.held.version, "the count of changes is each one's own");

    // A second later, a change at one of them.
    let now = unix_now().0;
    let later = nearmost_replica::Hlc { millis: now + 1000, counter: 0 };
    a.registrar.clock.observe(later, now).unwrap();
    a.person(Kind::DOMAIN, "a.example", "", br#"{"answers":3}"#.to_vec()).await;
    let second = a.serial();
    assert!((1..1 << 31).contains(&second.wrapping_sub(first)), "{first} {second}");
    assert_eq!(b.serial(), first, "it has not heard yet");
    b.hear(&a).await;
    assert_eq!(b.serial(), second);

    // And one at the other, which has seen the first: its clock is beyond.
    let later = nearmost_replica::Hlc { millis: now + 2000, counter: 0 };
    b.registrar.clock.observe(later, now).unwrap();
    let request = ChallengeRequest { value: "v".into(), ttl_s: 60 };
    b.registrar.set_challenge(&UID, "www.a.example", &request).await.unwrap();
    a.hear(&b).await;
    assert_eq!(a.serial(), b.serial());
    assert!((1..1 << 31).contains(&a.serial().wrapping_sub(second)));
    assert_eq!(a.texts(), ["_acme-challenge.www.a.example Txt([\"v\"])"]);
    assert_eq!(a.texts(), b.texts());
    a.end().await;
    b.end().await;
}

#[tokio::test]
async fn several_challenges_stand_side_by_side_and_end_by_themselves() {
    let mut world = World::new().await;
    let ask = |value: &str, ttl_s| ChallengeRequest { value: value.into(), ttl_s };
    let registrar = &mut world.registrar;
    let first = registrar.set_challenge(&UID, "*.a.example", &ask("one", 60)).await.unwrap();
    assert_eq!((&*first.name, &*first.domain), ("_acme-challenge.a.example", "a.example"));
    let second = registrar.set_challenge(&UID, "a.example", &ask("two", 600)).await.unwrap();
    let both = [r#"_acme-challenge.a.example Txt(["one"])"#, r#"_acme-challenge.a.example Txt(["two"])"#];
    assert_eq!(world.texts(), both);
    let registrar = &mut world.registrar;
    assert!(registrar.next_change_ms().is_some_and(|ms| ms <= 60_000));
    assert!(registrar.held.has_ended(first.expires_unix_ms));
    registrar.held.rebuild(first.expires_unix_ms);
    assert_eq!(world.texts(), both[1..]);
    world.registrar.held.rebuild(second.expires_unix_ms);
    assert!(world.texts().is_empty() && world.registrar.held.next_end.is_none());

    // What has ended is removed at last, so that it is forgotten.
    let registrar = &mut world.registrar;
    registrar.held.rebuild(unix_now().0);
    registrar.bury_challenges().await;
    assert_eq!(world.texts(), both, "none has");
    let key = Challenge {
        domain: "a.example".into(),
        below: "_acme-challenge".into(),
        value: "old".into(),
        until_unix_ms: 1,
    }
    .key();
    let registrar = &mut world.registrar;
    let body = br#"{"until_unix_ms":1}"#.to_vec();
    registrar
        .write_own(vec![(key.clone(), Some(body))], String::new(), None, Origin::default())
        .await
        .unwrap();
    assert!(!registrar.held.records[&key].record().is_tombstone());
    registrar.bury_challenges().await;
    assert!(registrar.held.records[&key].record().is_tombstone());
    assert_eq!(world.texts(), both);

    let removed = world.registrar.remove_challenges(&UID, "a.example", None).await.unwrap();
    assert_eq!((&*removed.name, removed.removed), ("_acme-challenge.a.example", 2));
    assert!(world.texts().is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_person_sets_challenges_only_where_it_may_state_them() {
    let mut world = World::new().await;
    let request = ChallengeRequest { value: "v".into(), ttl_s: 60 };
    let person = |seed| Who::from(Actor::Person(KeyPair::from_seed(Role::Person, &[seed; 32]).id()));
    let registrar = &mut world.registrar;
    registrar.set_challenge(&person(2), "a.example", &request).await.unwrap();
    for name in ["a.example", "b.example"] {
        let refused = registrar.set_challenge(&person(9), name, &request).await.unwrap_err();
        assert_eq!((refused.status(), refused.code()), (403, "unauthorised"), "{refused}");
    }
    let refused = registrar.remove_challenges(&person(9), "a.example", None).await.unwrap_err();
    assert_eq!(refused.status(), 403);
    assert_eq!(world.texts().len(), 1);
    // A domain with an owner is the owner's alone: this broker has no say there.
    world.person(Kind::CLAIM, "b.example", "", b"{}".to_vec()).await;
    let registrar = &mut world.registrar;
    let refused = registrar.set_challenge(&UID, "b.example", &request).await.unwrap_err();
    assert!(refused.status() == 403 && refused.to_string().contains("another owner"), "{refused}");
    world.end().await;
}
