//! Datagrams taken from an interface's queues before the kernel's network stack sees them, and answered in
//! place: AF_XDP, with the program that diverts them and the frames around them. It knows nothing of DNS.
//!
//! ```text
//!  interface ─ rx queue 0 ─► program ─ ours? ─ yes ─► socket of the queue ─► frame ─► parse ─► payload
//!             rx queue 1 ─►   (XDP)     │                  ▲                             │
//!                                       no                 └── the same frame, ◄── reply ┘
//!                                       ▼                      turned round
//!                             the kernel, as without it
//! ```
//!
//! **The program** ([`program`]) is a few dozen instructions of BPF, put together by [`assembler`] and loaded through
//! bpf(2): neither a compiler nor libbpf is needed. It diverts UDP over Ethernet whose destination is in a map
//! of addresses and ports, and only in its plainest form: IPv4 without options and fragments, IPv6 without
//! extension headers, no VLAN tag in the frame, to this host's own hardware address or at least to no group, no
//! longer than a frame can hold. Everything else, ARP, neighbour discovery, ICMP and TCP among it, goes on to the kernel.
//! So does everything on a queue that has no socket.
//!
//! **The fallback** is that ordinary sockets stay bound beside it. The program hangs on a link of this process
//! (`BPF_LINK_CREATE`): when the process ends, however it does, the link is closed, the program is gone from the
//! interface, and the kernel delivers to sockets again.
//!
//! **Memory.** Each queue has frames of its own (`umem`): some are the kernel's to fill, some wait to be sent,
//! some are here. Ownership goes to and fro over four rings. A reply is written into the frame of its query, so
//! nothing is allocated and no reply waits for room.
//!
//! **Addresses on the way.** A reply goes to the hardware address that its query came from, and leaves by the
//! queue that it came by; there is no routing table and no neighbour cache here. Where answers take another way
//! than questions (asymmetric routes, VRFs, a bond's or bridge's member), use sockets. Nor are VLANs
//! told apart: most cards take the tag out of the frame before the program sees it, so that what was tagged is
//! answered without. Addresses of VLAN devices on the interface ([`vlans_on`]) must not be diverted. Packet filters and
//! connection tracking do not see what is diverted.
//!
//! **Checksums.** The header checksum of IPv4 is verified. That of UDP is, too, unless the sender left it to
//! hardware that never saw the frame, as the other end of a veth does: then the field holds the sum of the
//! pseudo header, which is told apart from a wrong checksum. Replies have full ones.

pub mod assembler;
mod attachment;
mod bpf;
mod checksum;
mod error;
pub mod frame;
mod interface;
pub mod program;
mod queue;
mod rings;
mod umem;

pub use attachment::{Attachment, Mode, Settings};
pub use error::XdpError;
pub use interface::{own_addresses, vlans_on};
pub use queue::{Lost, Queue, Received, Waker, Woken};
