//! Frames, and who has them.
//!
//! ```text
//!  fill:        here ── empty frames ──► kernel        rx:  kernel ── filled frames ──► here
//!  completion:  kernel ── sent frames ─► here          tx:  here ── frames to send ───► kernel
//! ```
//!
//! A frame that is on this side is a [`Held`], which cannot be copied: giving it to a ring gives it up, and only
//! what is held can be looked into. Fill and completion ring have room for all frames there are, so that
//! nothing held is ever stuck.

#![expect(unsafe_code, reason = "memory that the kernel writes, too")]

use crate::rings::{Consumer, Mapping, Producer};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::net::sockopt;
use rustix::net::xdp::{
    XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING,
    XdpUmemReg, XdpUmemRegFlags,
};

/// Bytes of a frame's place. The kernel leaves 256 before what it receives.
pub(crate) const CHUNK: usize = 2048;

/// A frame's place and length (`struct xdp_desc`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Descriptor {
    /// Where it begins, from the start of all frames.
    at: u64,
    length: u32,
    /// Always 0: frames are whole.
    options: u32,
}

/// A frame that is on this side.
#[derive(Debug)]
pub(crate) struct Held {
    at: u64,
    length: u32,
}

/// All frames of a socket, and its rings.
pub(crate) struct Umem {
    fill: Producer<u64>,
    completion: Consumer<u64>,
    rx: Consumer<Descriptor>,
    tx: Producer<Descriptor>,
    /// Frames that were given to be sent and did not come back yet.
    away: u32,
    memory: Mapping,
}

impl Umem {
    /// Gives a socket rings of so many entries each way, a power of two, and twice as many frames, all of them
    /// empty and the kernel's.
    pub(crate) fn new(socket: BorrowedFd<'_>, ring: u32) -> Result<Umem, Errno> {
        let count = ring.checked_mul(2).filter(|c| c.is_power_of_two()).ok_or(Errno::INVAL)?;
        let length = (count as usize).checked_mul(CHUNK).ok_or(Errno::NOMEM)?;
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::POPULATE);
        // SAFETY: new memory, wherever the kernel likes.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), length, protection, flags) }?;
        let memory = Mapping::new(start, length)?;
        let registration = XdpUmemReg {
            addr: memory.start.as_ptr() as u64,
            len: length as u64,
            chunk_size: CHUNK as u32,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        sockopt::set_xdp_umem_reg(socket, registration)?;
        sockopt::set_xdp_umem_fill_ring_size(socket, count)?;
        sockopt::set_xdp_umem_completion_ring_size(socket, count)?;
        sockopt::set_xdp_rx_ring_size(socket, ring)?;
        sockopt::set_xdp_tx_ring_size(socket, ring)?;
        let offsets = sockopt::xdp_mmap_offsets(socket)?;
        let mut umem = Umem {
            fill: Producer::map(socket, XDP_UMEM_PGOFF_FILL_RING, offsets.fr, count)?,
            completion: Consumer::map(socket, XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr, count)?,
            rx: Consumer::map(socket, XDP_PGOFF_RX_RING, offsets.rx, ring)?,
            tx: Producer::map(socket, XDP_PGOFF_TX_RING, offsets.tx, ring)?,
            away: 0,
            memory,
        };
        for frame in 0..u64::from(count) {
            umem.recycle(Held { at: frame * CHUNK as u64, length: 0 });
        }
        umem.fill.submit();
        Ok(umem)
    }

    /// Takes up to so many frames that came.
    pub(crate) fn receive(&mut self, most: u32, into: &mut Vec<Held>) {
        self.rx.take(most, |came| into.push(Held { at: came.at, length: came.length }));
    }

    /// The bytes of a frame that came, from its first to the end of its place, and how many of them came.
    pub(crate) fn frame(&mut self, held: &Held) -> (&mut [u8], usize) {
        let at = usize::try_from(held.at).unwrap_or(usize::MAX);
        let (room, length) = (CHUNK - at % CHUNK, held.length as usize);
        if at >= self.memory.length || length > room {
            // The kernel keeps to its frames.
            return (&mut [], 0);
        }
        // SAFETY: the memory is a whole number of places long, so what begins within it and ends with its place is
        // within it. The frame is held: no ring has it, and the kernel leaves it alone. `self` is borrowed for as
        // long as the slice lives, so there is no other slice.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.memory.start.as_ptr().add(at), room) };
        (bytes, length)
    }

    /// Has a frame sent, which is so long now; false when there are too many on their way, and it is empty again.
    pub(crate) fn send(&mut self, held: Held, length: u32) -> bool {
        let sent = self.tx.put(Descriptor { at: held.at, length, options: 0 });
        match sent {
            true => self.away = self.away.saturating_add(1),
            false => self.recycle(held),
        }
        sent
    }

    /// Has a frame filled anew.
    pub(crate) fn recycle(&mut self, held: Held) {
        // There is room for all frames, so it is not refused.
        let _ = self.fill.put(held.at - held.at % CHUNK as u64);
    }

    /// Shows the kernel all that was sent and recycled, and what was sent before is recycled.
    pub(crate) fn submit(&mut self) {
        let (fill, away) = (&mut self.fill, &mut self.away);
        self.completion.take(u32::MAX, |sent| {
            *away = away.saturating_sub(1);
            let _ = fill.put(sent - sent % CHUNK as u64);
        });
        self.fill.submit();
        self.tx.submit();
    }

    /// Frames that the kernel has not taken to send yet.
    pub(crate) fn unsent(&self) -> u32 {
        self.tx.waiting()
    }

    /// Frames that were sent and have not left yet, as far as [`Umem::submit`] saw last.
    pub(crate) fn on_their_way(&self) -> u32 {
        self.away
    }

    /// Whether the kernel is to be woken to send.
    pub(crate) fn tx_sleeps(&self) -> bool {
        self.tx.wants_waking()
    }

    /// Whether the kernel is to be woken to receive.
    pub(crate) fn rx_sleeps(&self) -> bool {
        self.fill.wants_waking()
    }
}
