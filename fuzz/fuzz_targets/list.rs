//! Arbitrary bytes signed by a broker, and arbitrary texts, to the decoders of lists, grants and tokens. Nothing
//! panics, and whatever opens was within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearmost_wire::client::{ToBroker, ToClient};
use nearmost_wire::frame;
use nearmost_wire::grant::Delegation;
use nearmost_wire::list::{MAX_DELEGATIONS, Word};
use nearmost_wire::token::ClientToken;

fuzz_target!(|data: &[u8]| {
    let _ = frame::decode::<ToBroker>(data);
    let _ = frame::decode::<ToClient>(data);
    match Word::decode(data) {
        Ok(Word::List(list)) => assert!(list.delegations.len() <= MAX_DELEGATIONS && list.mirrors.len() <= 64),
        Ok(Word::Change(change)) => assert!(change.put.len() <= 64 && change.removed.len() <= 64),
        Err(_) => {}
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Delegation::decode(text);
        let _ = ClientToken::decode(text);
    }
});
