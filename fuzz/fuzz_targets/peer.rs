//! Arbitrary bytes to the decoders of what brokers say to each other, of records and of their tokens. Nothing
//! panics, a message within its bounds stays so, and a record has one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearmost_replica::SignedRecord;
use nearmost_replica::digest::{DigestTree, differences};
use nearmost_replica::message::{MAX_BATCH, Message};
use nearmost_wire::facts::FactMessage;
use nearmost_wire::frame;
use nearmost_wire::peer::Hello;
use nearmost_wire::token::PeerToken;

fuzz_target!(|data: &[u8]| {
    let _ = frame::decode::<Hello>(data);
    if let Ok(FactMessage::Facts(set)) = frame::decode::<FactMessage>(data) {
        let _ = set.read();
    }
    if let Ok(message) = frame::decode::<Message>(data)
        && message.check_bounds().is_ok()
    {
        assert!(message.records() <= MAX_BATCH);
        if let Message::Told { part, view, .. } = &message {
            let _ = differences(&DigestTree::default(), *part, view);
        }
        let _ = message.check();
    }
    if let Ok(record) = SignedRecord::decode(data) {
        assert_eq!(record.bytes(), data);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = PeerToken::decode(text);
    }
});
