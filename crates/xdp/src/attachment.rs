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
    /// The kernel's number of it.
    index: u32,
    /// Where the program runs: not [`Mode::Auto`].
    mode: Mode,
    addresses: OwnedFd,
    served: BTreeSet<[u8; KEY]>,
    /// Keeps the program attached.
    link: OwnedFd,
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
        if !found.up {
            return Err(refused(name, "looking at the interface")(Errno::NETDOWN));
        }
        match settings.mode {
            Mode::Native | Mode::Generic => attach_by(name, found, settings),
            Mode::Auto => {
                let native = Settings { mode: Mode::Native, ..settings };
                let generic = Settings { mode: Mode::Generic, ..settings };
                attach_by(name, found, native).or_else(|first| match first {
                    // Whoever has it has it either way.
                    XdpError::Refused { source: Errno::BUSY, .. } => Err(first),
                    // What keeps both from working is better told by the first.
                    first => attach_by(name, found, generic).map_err(|_| first),
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

    /// Whether frames can still come: the interface is there and up, and the program is on it.
    pub fn stands(&self) -> bool {
        let there = match interface::look(&self.interface) {
            Ok(now) => now.up && now.index == self.index,
            // A kernel that does not say has not said that it is gone.
            Err(error) => error != Errno::NODEV,
        };
        there && bpf::linked(&self.link).ok().is_none_or(|index| index == self.index)
    }

    /// Diverts what is for these addresses and ports, and nothing else from now on; how many it has no room for
    /// beyond [`MOST_ADDRESSES`], which are left to the kernel.
    ///
    /// # Errors
    /// When the kernel refuses; some are diverted then, and what is missing is made up for the next time.
    pub fn serve(&mut self, addresses: &BTreeSet<SocketAddr>) -> Result<usize, XdpError> {
        let (wanted, left) = fitting(addresses);
        let refused = refused(&self.interface, "the map of addresses");
        // First of all those that go, which makes room.
        let gone: Vec<_> = self.served.difference(&wanted).copied().collect();
        for key in gone {
            match bpf::remove(&self.addresses, key) {
                // Somebody else may have removed it.
                Ok(()) | Err(Errno::NOENT) => self.served.remove(&key),
                Err(error) => return Err(refused(error)),
            };
        }
        for key in wanted {
            if !self.served.contains(&key) {
                bpf::put(&self.addresses, key, [1]).map_err(&refused)?;
                self.served.insert(key);
            }
        }
        Ok(left)
    }
}

/// Keys of as many addresses as there is room for, always the same of the same, and how many are left over.
fn fitting(addresses: &BTreeSet<SocketAddr>) -> (BTreeSet<[u8; KEY]>, usize) {
    let mut keys: BTreeSet<_> = addresses.iter().map(|a| key(*a)).collect();
    let mut left = 0;
    while keys.len() > MOST_ADDRESSES as usize {
        keys.pop_last();
        left += 1;
    }
    (keys, left)
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
    // Before there is a socket, so that it passes everything on: a link that is refused then leaves no socket
    // behind, whose queue the kernel would keep for a moment.
    let link = bpf::link(&program, found.index, native).map_err(refused(name, "attaching the program"))?;
    let mut queues = Vec::new();
    for queue in 0..found.queues {
        let place = Place { interface: name, index: found.index, queue, mtu: found.mtu };
        let queue = Queue::open(&place, settings.ring, native)?;
        let socket = queue.socket().as_raw_fd();
        bpf::put(&sockets, queue.number().to_ne_bytes(), socket.to_ne_bytes())
            .map_err(refused(name, "the map of sockets"))?;
        queues.push(queue);
    }
    let attachment = Attachment {
        interface: name.into(),
        index: found.index,
        mode: settings.mode,
        addresses,
        served: BTreeSet::new(),
        link,
        _sockets: sockets,
    };
    Ok((attachment, queues))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn of_too_many_addresses_as_many_as_fit_are_diverted_and_the_others_told() {
        let all = |count: u32| -> BTreeSet<SocketAddr> {
            (0..count).map(|n| (Ipv4Addr::from(0x0a00_0000 + n), 53).into()).collect()
        };
        let (few, left) = fitting(&all(MOST_ADDRESSES));
        assert_eq!((few.len(), left), (MOST_ADDRESSES as usize, 0));
        let (keys, left) = fitting(&all(MOST_ADDRESSES + 3));
        assert_eq!((keys, left), (few, 3));
    }
}
