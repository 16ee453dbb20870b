//! Arbitrary bytes to the decoders of what clients and mirrors send one another. Nothing panics, and a
//! datagram that decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearmost_wire::frame;
use nearmost_wire::ingress::control::{ToClient, ToMirror};
use nearmost_wire::ingress::datagram::{FromClient, FromMirror};
use nearmost_wire::ingress::flow::{Open, OpenAnswer};

fuzz_target!(|data: &[u8]| {
    if let Ok(datagram) = FromClient::decode(data) {
        assert_eq!(datagram.encode().as_deref(), Ok(data));
    }
    if let Ok(datagram) = FromMirror::decode(data) {
        assert_eq!(datagram.encode().as_deref(), Ok(data));
    }
    let _ = frame::decode::<ToMirror>(data);
    let _ = frame::decode::<ToClient>(data);
    let _ = frame::decode::<Open>(data);
    let _ = frame::decode::<OpenAnswer>(data);
});
