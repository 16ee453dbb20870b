//! Messages, datagrams and frames of agents, clients, mirrors and brokers.

use nearmost_core::id::NodeId;
use nearmost_replica::digest::{DigestTree, Prefix, Slot, differences};
use nearmost_replica::message::{MAX_BATCH, Message};
use nearmost_wire::beacon::{Beacon, LEN, SiteKey, authenticate};
use nearmost_wire::facts::FactMessage;
use nearmost_wire::fare::Fare;
use nearmost_wire::frame::{self, FrameError, MAX_FRAME};
use nearmost_wire::ingress::datagram::{FromClient, FromMirror};
use nearmost_wire::ingress::{control, flow};
use nearmost_wire::list::{MAX_DELEGATIONS, Signed, Word};
use nearmost_wire::peer::Hello;
use nearmost_wire::standing::{MAX_STANDING, Standing};
use nearmost_wire::{agent, client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A message of these bytes. What it encodes to decodes to what encodes to the same: the first spelling may
/// have been a longer one.
pub(crate) fn framed<M: Serialize + DeserializeOwned>(data: &[u8]) -> Option<M> {
    let message: M = frame::decode(data).ok()?;
    let bytes = frame::encode(&message).expect("what was decoded encodes");
    let again: M = frame::decode(&bytes[4..]).expect("what was encoded decodes");
    assert_eq!(frame::encode(&again).expect("it did before"), bytes);
    Some(message)
}

/// Between agents and brokers.
pub fn agent(data: &[u8]) {
    if let Some(agent::ToBroker::Witnessed { results }) = framed(data) {
        assert!(results.len() <= nearmost_wire::witness::MAX_ORDERS);
    }
    if let Some(agent::ToAgent::Witness { orders }) = framed(data) {
        assert!(orders.len() <= nearmost_wire::witness::MAX_ORDERS);
        for order in &orders {
            assert!(order.attempts_ms.len() <= nearmost_wire::witness::MAX_ATTEMPTS);
            let _ = order.check();
        }
    }
    if let Some(standing) = framed::<Standing>(data) {
        assert!(standing.verdicts.len() <= MAX_STANDING);
    }
}

/// Between clients and brokers.
pub fn client(data: &[u8]) {
    let _ = framed::<client::ToBroker>(data);
    if let Some(client::ToClient::List(signed)) = framed(data) {
        // Nobody signed it.
        assert!(signed.open(&[1; 32]).is_err());
    }
}

/// What brokers sign for clients, behind the signature.
pub fn list(data: &[u8]) {
    let Ok(word) = Word::decode(data) else { return };
    match &word {
        Word::List(list) => assert!(list.delegations.len() <= MAX_DELEGATIONS && list.mirrors.len() <= 64),
        Word::Change(change) => assert!(change.put.len() <= 64 && change.removed.len() <= 64),
    }
    let key = crate::seeds::broker();
    let signed = Signed::sign(&key, &word);
    assert_eq!(signed.open(&key.id().key), Ok(word.clone()));
    let Word::List(list) = word else { return };
    let owner = crate::seeds::person().id();
    for delegation in &list.delegations {
        let _ = delegation.verify(&owner, &list.domain, list.issued_ms);
    }
    for entry in &list.mirrors {
        let granted = entry.granted(&list.domain);
        let _ = entry.grant.as_ref().map(|grant| grant.verify(granted, &list.delegations, list.issued_ms));
    }
}

/// Between clients and mirrors: a datagram has one spelling.
pub fn ingress(data: &[u8]) {
    if let Ok(datagram) = FromClient::decode(data) {
        assert_eq!(datagram.encode().as_deref(), Ok(data));
    }
    if let Ok(datagram) = FromMirror::decode(data) {
        assert_eq!(datagram.encode().as_deref(), Ok(data));
    }
    let _ = framed::<control::ToMirror>(data);
    let _ = framed::<control::ToClient>(data);
    let _ = framed::<flow::Open>(data);
    let _ = framed::<flow::OpenAnswer>(data);
    if let Some(fare) = framed::<Fare>(data) {
        let _ = fare.check();
    }
}

/// Between brokers.
pub fn peer(data: &[u8]) {
    let _ = framed::<Hello>(data);
    if let Some(FactMessage::Facts(set)) = framed(data) {
        let told = set.facts.len();
        let (good, bad) = set.read();
        assert_eq!(good.len() + bad.len(), told);
    }
    let Some(message) = framed::<Message>(data) else { return };
    if message.check_bounds().is_err() {
        return;
    }
    assert!(message.records() <= MAX_BATCH);
    if let Message::Told { part, view, .. } = &message {
        told(*part, view);
    }
    // Signatures are looked at here.
    let _ = message.check();
}

/// A comparison asks only about what is within the part, and ends where both hold the same.
fn told(part: Prefix, view: &nearmost_replica::digest::View) {
    let mut ours = DigestTree::default();
    let _ = differences(&ours, part, view);
    for n in 0..4 {
        ours.insert(Slot([n; 16]), crate::seeds::version(n));
    }
    ours.refresh();
    if let Some(found) = differences(&ours, part, view) {
        assert!(found.fetch.iter().chain(&found.offer).all(|slot| part.contains(*slot)));
    }
    if part.is_valid() {
        let same = differences(&ours, part, &ours.view(part)).expect("our own words make sense");
        assert!(same.ask.is_empty() && same.fetch.is_empty() && same.offer.is_empty(), "{same:?}");
    }
}

/// Frames on a stream: reading from it says what decoding the frame says, and sets no more aside than allowed.
pub fn frame(data: &[u8]) {
    for most in [256, MAX_FRAME] {
        let mut stream = data;
        let read = ready(frame::read_at_most::<control::ToMirror>(&mut stream, most));
        let Some((head, rest)) = data.split_first_chunk::<4>() else {
            assert!(matches!(read, Err(FrameError::Ended | FrameError::Truncated { .. })));
            continue;
        };
        let length = u32::from_be_bytes(*head) as usize;
        match read {
            Err(FrameError::TooLarge { have, .. }) => assert!(have == length && length > most),
            Err(FrameError::Truncated { .. }) => assert!(rest.len() < length),
            Err(FrameError::Empty) => assert_eq!(length, 0),
            Ok(message) => {
                assert_eq!(frame::decode::<control::ToMirror>(&rest[..length]).ok(), Some(message));
                assert_eq!(stream, &rest[length..]);
            }
            Err(_) => assert!(frame::decode::<control::ToMirror>(&rest[..length]).is_err()),
        }
    }
}

/// What a future that waits for nothing says.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(out) => out,
        Poll::Pending => panic!("bytes in memory are always there"),
    }
}

/// Beacons: one spelling, and none that the key did not make.
pub fn beacon(data: &[u8]) {
    let key = SiteKey::new(&[1; 32]).beacon_secret(&NodeId([2; 32]), 1).prepare();
    let genuine = authenticate(data, &key).is_ok();
    let Ok(beacon) = Beacon::decode(data) else { return };
    let bytes = beacon.encode(&key);
    assert_eq!(genuine, bytes == data);
    assert_eq!(Beacon::decode(&bytes), Ok(beacon));
    assert_eq!(bytes[..LEN - 16], data[..LEN - 16]);
}
