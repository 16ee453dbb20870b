//! Sessions whose mirrors brokers tell of.

use super::broker::{Broker, change, delegation, entry, granted, list};
use super::mirror::Mirror;
use super::world::{DOMAIN, LONG, builder, mirrors, moved, place, settled, soon};
use nearmost_client::identity::{KeyPair, Role};
use nearmost_client::session::{Builder, Count, Session, SessionError};
use nearmost_wire::client::ToBroker;
use nearmost_wire::list::{Entry, Signed, Standing, Version, Word};
use std::time::Duration;

fn follows(brokers: &[&Broker]) -> Builder {
    brokers.iter().fold(builder(&[]), |builder, broker| builder.broker(broker.at.clone()))
}

fn entries(mirrors: &[Mirror]) -> Vec<Entry> {
    (0..).zip(mirrors).map(|(at, mirror)| entry(mirror, at)).collect()
}

/// A session on the list of a broker, with a primary and a standby.
async fn attached(broker: &mut Broker, mirrors: &[Mirror]) -> (Session, usize, usize) {
    let session = follows(&[broker]).start().unwrap();
    assert_eq!(broker.asked().await, None);
    broker.say(&Word::List(list(1, entries(mirrors))));
    let (primary, standby) = settled(&session, mirrors).await;
    (session, primary, standby)
}

#[tokio::test]
async fn a_session_follows_what_its_broker_pushes() {
    let mirrors = mirrors(1..4);
    let mut broker = Broker::start(1);
    let (session, primary, _) = attached(&mut broker, &mirrors).await;
    let mut events = session.events();
    let leaving = entry(&mirrors[primary], u32::try_from(primary).unwrap());
    broker.say(&change(2, vec![Entry { standing: Standing::Draining, ..leaving }]));
    let to = moved(&mut events).await;
    assert_ne!(place(&mirrors, to), primary);
    session.close().await;
}

#[tokio::test]
async fn without_any_broker_a_session_moves_among_what_it_knows() {
    let mut mirrors = mirrors(1..4);
    let mut broker = Broker::start(1);
    let (session, primary, _) = attached(&mut broker, &mirrors).await;
    let mut events = session.events();
    broker.kill();
    mirrors[primary].kill();
    let to = moved(&mut events).await;
    assert_ne!(place(&mirrors, to), primary);
    session.close().await;
}

#[tokio::test]
async fn who_was_cut_off_says_what_it_has() {
    let mirrors = mirrors(1..3);
    let (mut one, mut two) = (Broker::start(1), Broker::start(2));
    let session = follows(&[&one, &two]).start().unwrap();
    assert_eq!(one.asked().await, None);
    one.say(&Word::List(list(7, entries(&mirrors))));
    soon(session.attached()).await.expect("a primary");
    one.kill();
    assert_eq!(two.asked().await, Some(Version { source: 1, number: 7 }));
    session.close().await;
}

#[tokio::test]
async fn a_failed_mirror_is_reported_and_round_trips_are_too() {
    let mut mirrors = mirrors(1..4);
    let mut broker = Broker::start(1);
    let (session, primary, _) = attached(&mut broker, &mirrors).await;
    let reported = |broker: &mut Broker| match broker.asked.try_recv() {
        Ok(ToBroker::Rtt(rtt)) => Some(rtt),
        _ => None,
    };
    let first = loop {
        match reported(&mut broker) {
            Some(rtt) => break rtt,
            None => tokio::task::yield_now().await,
        }
    };
    assert!(!first.rtts.is_empty() && first.failed.is_empty(), "{first:?}");
    mirrors[primary].kill();
    let failed = async {
        loop {
            match broker.asked.recv().await {
                Some(ToBroker::Rtt(rtt)) if !rtt.failed.is_empty() => return rtt.failed,
                Some(_) => {}
                None => panic!("the broker is gone"),
            }
        }
    };
    assert_eq!(soon(failed).await, [format!("m{primary}")]);
    session.close().await;
}

#[tokio::test]
async fn a_list_that_is_not_its_brokers_is_not_taken_and_the_next_is_asked() {
    let mirrors = mirrors(1..3);
    let (mut forger, mut honest) = (Broker::start(1), Broker::start(2));
    let other =
        Word::List(nearmost_wire::list::List { domain: "b.example".into(), ..list(1, entries(&mirrors)) });
    let broken = Signed { word: vec![9; 40], ..Signed::sign(&forger.key, &other) };
    let stolen = Signed::sign(&honest.key, &Word::List(list(1, entries(&mirrors))));
    for (bad, signed) in (1..).zip([Signed::sign(&forger.key, &other), broken, stolen]) {
        let session = follows(&[&forger, &honest]).start().unwrap();
        assert_eq!(forger.asked().await, None);
        forger.say_signed(signed);
        assert_eq!(honest.asked().await, None, "{bad}");
        assert_eq!(session.count(Count::BadList), 1, "{bad}");
        assert!(session.primary().is_none() && session.problems()[0].0 == forger.key.id());
        honest.say(&Word::List(list(1, entries(&mirrors))));
        soon(session.attached()).await.expect("a primary");
        session.close().await;
    }
}

#[tokio::test]
async fn with_an_owner_only_granted_mirrors_count() {
    let mirrors = mirrors(1..4);
    let owner = KeyPair::from_seed(Role::Person, &[8; 32]);
    let (mut stranger, mut chosen) = (Broker::start(1), Broker::start(2));
    let session = follows(&[&stranger, &chosen]).owner(owner.id()).start().unwrap();
    // Its own grants, and a delegation that the owner did not sign.
    assert_eq!(stranger.asked().await, None);
    let mut own = list(1, entries(&mirrors).into_iter().map(|e| granted(&stranger.key, e)).collect());
    own.delegations = vec![delegation(&KeyPair::from_seed(Role::Person, &[9; 32]), &stranger.key)];
    stranger.say(&Word::List(own));

    assert_eq!(chosen.asked().await, None);
    assert_eq!(session.count(Count::BadList), 1);
    let mut all = entries(&mirrors);
    all[0] = granted(&stranger.key, all[0].clone());
    all[1] = granted(&chosen.key, all[1].clone());
    let mut some = list(1, all);
    some.delegations = vec![delegation(&owner, &chosen.key)];
    chosen.say(&Word::List(some));
    let primary = place(&mirrors, soon(session.attached()).await.expect("a primary"));
    assert_eq!(primary, 1, "the only one that is granted");
    assert_eq!(session.count(Count::Ungranted), 2);
    session.close().await;
}

#[tokio::test]
async fn a_list_past_its_day_is_not_used() {
    let mirrors = mirrors(1..3);
    let mut broker = Broker::start(1);
    let session = follows(&[&broker]).start().unwrap();
    assert_eq!(broker.asked().await, None);
    let mut old = list(5, entries(&mirrors[..1]));
    old.issued_ms -= 24 * 3_600_000 + 1000;
    broker.say(&Word::List(old));
    // Had the old one counted, this would be older than what is held.
    broker.say(&Word::List(list(3, entries(&mirrors[1..]))));
    assert_eq!(place(&mirrors, soon(session.attached()).await.expect("a primary")), 1);
    session.close().await;
}

#[tokio::test]
async fn where_no_broker_answers_it_says_so() {
    let broker = Broker::start(1);
    let at = broker.at.clone();
    broker.kill();
    let refused = Session::builder(DOMAIN).broker(at).within(Duration::from_millis(200)).connect().await;
    let Err(SessionError::NotAttached { within, .. }) = refused else { panic!("attached") };
    assert!(within < LONG);
    let unread = Session::builder(DOMAIN).token("nmc1").start();
    assert!(matches!(unread, Err(SessionError::NotFound)));
    let nobody = Session::builder(DOMAIN).start();
    assert!(matches!(nobody, Err(SessionError::NoMirrors(_))));
}
