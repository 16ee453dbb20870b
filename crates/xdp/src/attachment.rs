//! The program on an interface, with a socket for each of its queues.

use crate::bpf::{self, MapKind};
use crate::error::XdpError;
use crate::interface::{self, Interface};
use crate::program::{KEY, MOST_ADDRESSES, key, program};
use crate::queue::{Place, Queue};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Where the program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In the driver, else in the kernel.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the kernel, once it has made a packet of the frame: it works everywhere, and is of less use.
    Generic,
}

impl Mode {
    /// In settings and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Native => "native",
            Mode::Generic => "generic",
        }
    }
}

/// How to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the program may run.
    pub mode: Mode,
    /// Frames that may wait in each queue, each way: a power of two, 64 to 16 384. A queue has twice as many
    /// frames, of 2 KiB each.
    pub ring: u32,
}

/// A program that is attached. When this is dropped the interface is as it was before.
pub struct Attachment {
    interface: String,
    /// Where the program runs: not [`Mode::Auto`].
    mode: Mode,
    addresses: OwnedFd,
    served: BTreeSet<[u8; KEY]>,
    /// Keeps the program attached.
    _link: OwnedFd,
    /// The map keeps the program's sockets only as long as they are open; the program keeps the map.
    _sockets: OwnedFd,
}

impl Attachment {
    /// Attaches to an interface. Nothing is diverted before [`Attachment::serve`]. Of the queues, each is
    /// for a thread of its own; the kernel has those that are dropped.
    ///
    /// # Errors
    /// When there is no such interface or the kernel refuses; the interface is as it was then.
    pub fn attach(name: &str, settings: Settings) -> Result<(Attachment, Vec<Queue>), XdpError> {
        let found = interface::look(name).map_err(|source| match source {
            Errno::NODEV => XdpError::NoInterface { interface: name.into() },
            source => refused(name, "looking at the interface")(source),
        })?;
        match settings.mode {
            Mode::Native | Mode::Generic => attach_by(name, found, settings),
            Mode::Auto => {
                let native = Settings { mode: Mode::Native, ..settings };
                let generic = Settings { mode: Mode::Generic, ..settings };
                attach_by(name, found, native).or_else(|first| {
                    // What keeps both from working is better told by the first.
                    attach_by(name, found, generic).map_err(|_| first)
                })
            }
        }
    }

    /// The interface's name.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Where the program runs: [`Mode::Native`] or [`Mode::Generic`].
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Diverts what is for these addresses and ports, and nothing else from now on.
    ///
    /// # Errors
    /// When the kernel refuses, or they are more than [`MOST_ADDRESSES`]; some may be diverted then.
    pub fn serve(&mut self, addresses: &BTreeSet<SocketAddr>) -> Result<(), XdpError> {
        let wanted: BTreeSet<_> = addresses.iter().map(|a| key(*a)).collect();
        if wanted.len() > MOST_ADDRESSES as usize {
            return Err(XdpError::TooMany { interface: self.interface.clone(), most: MOST_ADDRESSES });
        }
        for key in self.served.difference(&wanted) {
            bpf::remove(&self.addresses, *key).map_err(refused(&self.interface, "the map of addresses"))?;
        }
        for key in wanted.difference(&self.served) {
            bpf::put(&self.addresses, *key, [1]).map_err(refused(&self.interface, "the map of addresses"))?;
        }
        self.served = wanted;
        Ok(())
    }
}

fn refused(name: &str, what: &'static str) -> impl Fn(Errno) -> XdpError {
    let interface = name.to_owned();
    move |source| XdpError::Refused { interface: interface.clone(), what, source }
}

/// Attaches in one mode.
fn attach_by(name: &str, found: Interface, settings: Settings) -> Result<(Attachment, Vec<Queue>), XdpError> {
    let native = settings.mode == Mode::Native;
    let create = |kind, key, value, entries| {
        bpf::create_map(kind, key, value, entries).map_err(refused(name, "making a map of BPF"))
    };
    let addresses = create(MapKind::Hash, KEY, 1, MOST_ADDRESSES)?;
    let sockets = create(MapKind::Sockets, 4, 4, found.queues)?;
    // Its labels are all there, as its test says.
    let program = program(addresses.as_raw_fd(), sockets.as_raw_fd()).unwrap_or_default();
    let program = bpf::load(&program).map_err(refused(name, "loading the program"))?;
    let mut queues = Vec::new();
    for queue in 0..found.queues {
        let place = Place { interface: name, index: found.index, queue, mtu: found.mtu };
        let queue = Queue::open(&place, settings.ring, native)?;
        let socket = queue.socket().as_raw_fd();
        bpf::put(&sockets, queue.number().to_ne_bytes(), socket.to_ne_bytes())
            .map_err(refused(name, "the map of sockets"))?;
        queues.push(queue);
    }
    let link = bpf::link(&program, found.index, native).map_err(refused(name, "attaching the program"))?;
    let attachment = Attachment {
        interface: name.into(),
        mode: settings.mode,
        addresses,
        served: BTreeSet::new(),
        _link: link,
        _sockets: sockets,
    };
    Ok((attachment, queues))
}
