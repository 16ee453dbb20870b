//! The socket of one receive queue.

use crate::error::XdpError;
use crate::frame::MOST_FRAME;
use crate::umem::{Held, Umem};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags, XdpOptionsFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, socket_with, sockopt};
use std::sync::Arc;
use std::time::Duration;

/// Times that the kernel is asked to send what waits before the next turn is left to do it: it sends 32 frames or
/// more each time.
const PUSHES: usize = 16;

/// How often a queue that is taken is tried.
const TRIES: u32 = 50;
/// Pause before it is tried again.
const BETWEEN_TRIES: Duration = Duration::from_millis(20);
/// How long those wait that the kernel did not take to send, or that are on their way when all ends.
const SOON: Duration = Duration::from_millis(1);

/// A queue of an interface, with frames of its own.
pub struct Queue {
    socket: OwnedFd,
    umem: Umem,
    number: u32,
    mtu: usize,
    received: Vec<Held>,
    /// Of each that was received, the length of the reply in its place; 0 for none.
    replies: Vec<u32>,
    /// Some wait to be sent, and may be soon.
    waits: bool,
    waker: Waker,
    /// What was told of losses so far.
    told: Lost,
}

/// Wakes whoever waits for a queue; clones wake the same.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Wakes it, now or the next time that it would wait.
    pub fn wake(&self) {
        // It is full only after 2⁶⁴ - 2 wakings.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// Why waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Frames came, or the time is over, or somebody woke it.
    Look,
    /// The interface went away. That it was set down, or lost its program, is not seen here:
    /// [`crate::Attachment::stands`].
    Gone,
}

/// A frame that came.
#[derive(Debug)]
pub struct Received<'q> {
    /// It and what room there is after it.
    pub buffer: &'q mut [u8],
    /// How many bytes of the buffer it is.
    pub length: usize,
}

/// What was lost, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Queries: nobody had taken those before them in time.
    pub ring_full: u64,
    /// Queries: there was no empty frame for them.
    pub no_frame: u64,
    /// Queries: for other reasons, such as being longer than a frame.
    pub dropped: u64,
    /// Replies: the kernel or the interface did not take them.
    pub unsent: u64,
}

impl Lost {
    /// What was lost since `before`.
    fn since(self, before: Lost) -> Lost {
        Lost {
            ring_full: self.ring_full.saturating_sub(before.ring_full),
            no_frame: self.no_frame.saturating_sub(before.no_frame),
            dropped: self.dropped.saturating_sub(before.dropped),
            unsent: self.unsent.saturating_sub(before.unsent),
        }
    }
}

/// Tries for a second while the queue is taken: the kernel gives it up some time after its socket was closed, and
/// tells nobody when.
fn patiently(mut act: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    for _ in 1..TRIES {
        match act() {
            Err(Errno::BUSY) => std::thread::park_timeout(BETWEEN_TRIES),
            done => return done,
        }
    }
    act()
}

/// Where a queue is.
pub(crate) struct Place<'p> {
    pub(crate) interface: &'p str,
    pub(crate) index: u32,
    pub(crate) queue: u32,
    pub(crate) mtu: usize,
}

impl Queue {
    /// A socket on a queue, with rings of so many frames. Without `zero_copy` frames are copied even where the
    /// driver could do without.
    pub(crate) fn open(place: &Place<'_>, ring: u32, zero_copy: bool) -> Result<Queue, XdpError> {
        let refused = |what| {
            let interface = place.interface.to_owned();
            move |source| XdpError::Refused { interface, what, source }
        };
        let socket = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None);
        let socket = socket.map_err(refused("making an AF_XDP socket"))?;
        let umem = Umem::new(socket.as_fd(), ring).map_err(refused("memory of frames"))?;
        let mut flags = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        flags.set(SocketAddrXdpFlags::XDP_COPY, !zero_copy);
        let address = SocketAddrXdp::new(flags, place.index, place.queue);
        patiently(|| bind(&socket, &address)).map_err(refused("binding an AF_XDP socket"))?;
        let waker =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(refused("an eventfd"))?;
        Ok(Queue {
            socket,
            umem,
            number: place.queue,
            mtu: place.mtu,
            received: Vec::new(),
            replies: Vec::new(),
            waits: false,
            waker: Waker(Arc::new(waker)),
            told: Lost::default(),
        })
    }

    /// Its number at its interface.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The most that its interface carries after Ethernet's header, in bytes.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// What wakes who waits for it.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Whether the driver gives frames over without copying them.
    pub fn zero_copy(&self) -> bool {
        let options = sockopt::xdp_options(&self.socket);
        options.is_ok_and(|o| o.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY))
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits until frames came, at most so long, and only for a moment while replies wait to be sent by
    /// [`Queue::finish`]. That an interface was removed is seen when the time is over.
    ///
    /// # Errors
    /// What the system says.
    pub fn wait(&mut self, most: Duration) -> Result<Woken, Errno> {
        let mut of = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&*self.waker.0, PollFlags::IN)];
        let most = if self.waits { most.min(SOON) } else { most };
        let most = Timespec::try_from(most).map_err(|_| Errno::INVAL)?;
        let nothing = match poll(&mut of, Some(&most)) {
            Ok(ready) => ready == 0,
            Err(Errno::INTR) => false,
            Err(error) => return Err(error),
        };
        let said = of[0].revents();
        if of[1].revents().contains(PollFlags::IN) {
            let _ = rustix::io::read(&*self.waker.0, &mut [0; 8]);
        }
        let gone = said.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
        // Of an interface that was removed poll says nothing; the socket keeps it as its error.
        let gone = gone || nothing && !matches!(sockopt::socket_error(&self.socket), Ok(Ok(())));
        Ok(if gone { Woken::Gone } else { Woken::Look })
    }

    /// Takes up to so many frames that came; how many. Those of the last turn are finished.
    pub fn receive(&mut self, most: usize) -> usize {
        debug_assert!(self.received.is_empty(), "the last turn is not finished");
        self.umem.receive(u32::try_from(most).unwrap_or(u32::MAX), &mut self.received);
        self.replies.clear();
        self.replies.resize(self.received.len(), 0);
        self.received.len()
    }

    /// A frame of this turn by its number.
    pub fn frame(&mut self, at: usize) -> Option<Received<'_>> {
        let held = self.received.get(at)?;
        let (buffer, length) = self.umem.frame(held);
        Some(Received { buffer, length })
    }

    /// Has the frame sent at the turn's end, its first so many bytes. Others are given back.
    pub fn reply(&mut self, at: usize, length: usize) {
        if let Some(reply) = self.replies.get_mut(at) {
            // No frame is longer than its place.
            *reply = u32::try_from(length.min(MOST_FRAME.max(self.mtu))).unwrap_or(0);
        }
    }

    /// Ends a turn: sends the replies and gives the other frames back.
    ///
    /// # Errors
    /// What the system says when it does not send; some or all are lost then.
    pub fn finish(&mut self) -> Result<(), Errno> {
        for (held, length) in self.received.drain(..).zip(&self.replies) {
            match *length {
                0 => self.umem.recycle(held),
                length => self.told.unsent += u64::from(!self.umem.send(held, length)),
            }
        }
        self.umem.submit();
        if self.umem.rx_sleeps() {
            // Nothing is read; it wakes the driver.
            let _ = rustix::net::recv(&self.socket, &mut [0_u8; 0][..], RecvFlags::DONTWAIT);
        }
        self.push()
    }

    /// Waits until all that was sent has left, at most about so long.
    pub fn flush(&mut self, most: Duration) {
        for _ in 0..most.as_millis() {
            self.umem.submit();
            if self.umem.on_their_way() == 0 || self.push().is_err() {
                return;
            }
            // Nobody tells when a frame has left.
            std::thread::park_timeout(SOON);
        }
    }

    /// Has the kernel send what waits.
    fn push(&mut self) -> Result<(), Errno> {
        // Where it fails, as on an interface that is down, trying again soon is of no use.
        self.waits = false;
        for _ in 0..PUSHES {
            if self.umem.unsent() == 0 || !self.umem.tx_sleeps() {
                break;
            }
            match rustix::net::send(&self.socket, &[], SendFlags::DONTWAIT) {
                // Not all at once, or the interface is busy: what waits is sent by and by.
                Ok(_) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.waits = self.umem.unsent() > 0;
        Ok(())
    }

    /// What was lost since this was asked last.
    pub fn lost(&mut self) -> Lost {
        let unsent = std::mem::take(&mut self.told.unsent);
        let Ok(seen) = sockopt::xdp_statistics(&self.socket) else {
            return Lost { unsent, ..Lost::default() };
        };
        let all = Lost {
            ring_full: seen.rx_ring_full.unwrap_or(0),
            no_frame: seen.rx_fill_ring_empty_descs.unwrap_or(0),
            dropped: seen.rx_dropped,
            unsent: seen.tx_invalid_descs,
        };
        let lost = all.since(Lost { unsent: 0, ..self.told });
        self.told = Lost { unsent: 0, ..all };
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_tried_again_and_other_errors_are_told_at_once() {
        let mut answers = vec![Ok(()), Err(Errno::BUSY), Err(Errno::BUSY)];
        assert_eq!(patiently(|| answers.pop().unwrap()), Ok(()));
        let mut answers = vec![Ok(()), Err(Errno::PERM)];
        assert_eq!(patiently(|| answers.pop().unwrap()), Err(Errno::PERM));
        let mut tries = 0;
        let taken = patiently(|| {
            tries += 1;
            Err(Errno::BUSY)
        });
        assert_eq!((taken, tries), (Err(Errno::BUSY), TRIES));
    }
}
