//! Identities, tokens, names, prefixes, settings; what DNS tells.

use nearmost_broker::fuzzing as broker;
use nearmost_client::registry::EntryKey;
use nearmost_client::registry::app::AppKind;
use nearmost_client::session::{BrokerAt, MOST_BROKERS, dns_text as text_of};
use nearmost_client::text::{is_harmful, printable};
use nearmost_client::{Endpoint, fuzzing, moment};
use nearmost_config::{LogLevel, TargetLevel, parse_setting};
use nearmost_core::check::{RecordType, ResponseCode};
use nearmost_dns::Nonce;
use nearmost_replica::PublicKey;
use nearmost_wire::auth::{Signable, SignedRequest};
use nearmost_wire::grant::Delegation;
use nearmost_wire::identity::Id;
use nearmost_wire::registry::challenge_owner;
use nearmost_wire::token::{ClientToken, JoinToken, PeerToken};
use nearmost_wire::{name, prefix, tls};
use std::fmt::{Debug, Display};
use std::str::FromStr;

/// What is shown of a value reads as the same value.
fn shown<T: FromStr<Err: Display> + Display + Debug + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string().parse::<T>().ok().as_ref(), Some(&value)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A reader's own canonical text is what it makes of that, too.
fn canonical<E: Debug>(text: &str, read: impl Fn(&str) -> Result<String, E>) {
    if let Ok(once) = read(text) {
        assert_eq!(read(&once).as_deref().ok(), Some(once.as_str()));
    }
}

/// Whatever people and headers write.
pub fn text(data: &[u8]) {
    key(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    shown::<Id>(text);
    shown::<PublicKey>(text);
    shown::<Endpoint>(text);
    shown::<AppKind>(text);
    tokens(text);
    canonical(text, name::domain);
    canonical(text, name::short);
    canonical(text, challenge_owner);
    canonical(text, |text| prefix::parse(text).map(|net| net.to_string()));
    for key in [EntryKey::domain, EntryKey::node, EntryKey::mirror, EntryKey::place_override] {
        canonical(text, |text| key(text).map(|key| key.name()));
    }
    if let Some(nonce) = Nonce::parse(text) {
        assert_eq!(Nonce::parse(nonce.as_str()), Some(nonce));
    }
    let _ = (text.parse::<LogLevel>(), text.parse::<TargetLevel>(), parse_setting(text));
    let _ = (RecordType::parse(text), ResponseCode::parse(text));
    if let Ok(millis) = moment::parse(text) {
        // `2026-11-21 02:14:56 UTC`, as it is written to be read again.
        let again = moment::show(millis).replacen(' ', "T", 1).replace(" UTC", "Z");
        assert_eq!(moment::parse(&again), Ok(millis), "{again}");
    }
    assert!(!printable(text).chars().any(is_harmful));
    signed(text);
}

fn tokens(text: &str) {
    if let Ok(token) = JoinToken::decode(text) {
        assert_eq!(JoinToken::decode(&token.encode()), Ok(token));
    }
    if let Ok(token) = ClientToken::decode(text) {
        assert_eq!(ClientToken::decode(&token.encode()), Ok(token));
    }
    if let Ok(token) = PeerToken::decode(text) {
        assert_eq!(PeerToken::decode(&token.encode()), Ok(token));
    }
    if let Ok(delegation) = Delegation::decode(text) {
        assert_eq!(Delegation::decode(&delegation.encode()), Ok(delegation));
    }
}

/// A header by which a request is signed: nobody signed this one.
fn signed(text: &str) {
    let Ok(request) = SignedRequest::parse(text) else { return };
    let broker = crate::seeds::broker().id();
    let about = Signable { broker: &broker, method: "GET", path_and_query: "/v1/other", body: b"" };
    assert!(request.check(&about, request.time_ms).is_err());
}

/// Keys of the other side, as TLS hands them over: one spelling.
fn key(data: &[u8]) {
    if let Some(key) = tls::key_of_spki(data) {
        assert_eq!(tls::spki(&key), data);
    }
}

/// TXT records that name brokers: to clients, a line each, and to other brokers.
pub fn dns_text(data: &[u8]) {
    if let Ok((_, endpoint)) = broker::broker_in_dns(data) {
        assert!(endpoint.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()));
    }
    let text = String::from_utf8_lossy(data);
    shown_broker(&text);
    let Ok(found) = fuzzing::brokers_in_dns(text.lines().map(str::to_owned)) else { return };
    assert!(found.brokers.len() <= MOST_BROKERS);
    let written = found.brokers.iter().map(|broker| text_of(broker, found.owner.as_ref()));
    let again = fuzzing::brokers_in_dns(written).expect("what was written reads");
    assert_eq!(again.brokers, found.brokers);
}

fn shown_broker(text: &str) {
    if let Ok(broker) = text.parse::<BrokerAt>() {
        assert_eq!(format!("{}@{}", broker.id, broker.at).parse::<BrokerAt>().ok(), Some(broker));
    }
}
