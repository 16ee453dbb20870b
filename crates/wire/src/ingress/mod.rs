//! What a client and a mirror's ingress say to each other.
//!
//! QUIC with TLS 1.3 raw public keys on both sides and the application protocol `nearmost-mirror/1`
//! (`tls::ALPN_MIRROR`). The mirror holds the node's key, which the client pins. The client holds a key of
//! its own, which is who it is: a session may be attached again from elsewhere, as after a change of
//! network, by the same key only.
//!
//! ```text
//! client                                    mirror
//!   | == control stream, opened first ====== |
//!   | -- Attach{domain,session,role} ----->  |
//!   | <-- Accepted{role,udp,tcp,…} --------  |   or Refused{reason,retry_after_ms,go_to}: may attach again
//!   | <-- Refused{…} ----------------------  |   later: not promoted, and still attached as it was
//!   | <-- Drain{go_to,within_ms} ----------  |   leave, in time
//!   | -- Retired ------------------------->  |   new work goes elsewhere; the rest is awaited
//!   |                                        |
//!   | == a stream for each TCP connection == |
//!   | -- Open{kind} ---------------------->  |
//!   | <-- Opened, or Failed{code} ---------  |
//!   | <-- bytes, FIN for FIN, RESET for RST->|
//!   |                                        |
//!   | == datagrams ========================= |
//!   | -- beacon{seq,ask,role,period_ms} -->  |   data{seq,flow,number,payload}
//!   | <-- beacon{seq,ack?} ----------------  |   data{seq,ack?,flow,number,payload}
//! ```
//!
//! | file | its part |
//! |---|---|
//! | [`control`] | the messages of the control stream |
//! | [`flow`] | how a stream for a TCP connection begins and breaks |
//! | [`datagram`] | beacons and the packets of UDP flows |
//! | `varint` | numbers in datagrams |
//! | [`close`] | why a mirror ends a connection |
//!
//! **Numbers.** Either side numbers its datagrams to the other, data and beacons alike, from 0 in each
//! connection; those of a mirror carry an acknowledgement. Besides, the packets of a UDP flow are numbered
//! within their flow, by whoever sends them: a packet that was sent twice, or over two mirrors, has the
//! same number, and its copies are dropped. The client's numbers of a flow go on when the session attaches
//! again or moves. A mirror's are its own, and never go back while a connection lasts.
//!
//! **Bounds.** Control and stream headers are frames (see [`crate::frame`]) of at most
//! [`control::MAX_MESSAGE`] bytes. Whatever cannot be read closes the connection with a
//! [`close::Refusal`] and a sentence, and nothing else.

pub mod close;
pub mod control;
pub mod datagram;
pub mod flow;
mod varint;
