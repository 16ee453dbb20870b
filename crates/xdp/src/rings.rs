//! Rings that are shared with the kernel.
//!
//! Each ring has one producer and one consumer, who each write their own index and read the other's. An entry is
//! written before the producer's index is stored with release order, and read after it was loaded with acquire
//! order; the same holds the other way round for the consumer's.

#![expect(unsafe_code, reason = "memory that the kernel writes, too")]

use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::xdp::XdpRingOffset;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// "The kernel waits to be woken" (`XDP_RING_NEED_WAKEUP`).
const NEED_WAKEUP: u32 = 1;

/// Memory that is unmapped at the end.
pub(crate) struct Mapping {
    pub(crate) start: NonNull<u8>,
    pub(crate) length: usize,
}

// SAFETY: it is memory of the process, tied to no thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Of memory that was just mapped and that nobody else unmaps.
    pub(crate) fn new(start: *mut std::ffi::c_void, length: usize) -> Result<Mapping, Errno> {
        Ok(Mapping { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and whoever points into it owns it and ends with it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// One of the rings, mapped.
struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    /// Entries less one; they are a power of two.
    mask: u32,
    /// Owns all of these.
    _memory: Mapping,
}

// SAFETY: as its mapping, which all its pointers point into.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    /// Maps a ring of so many entries, a power of two, which the socket was told to have.
    fn map(socket: BorrowedFd<'_>, page: u64, offsets: XdpRingOffset, count: u32) -> Result<Ring<T>, Errno> {
        let place = |offset: u64| usize::try_from(offset).map_err(|_| Errno::INVAL);
        let (producer, consumer) = (place(offsets.producer)?, place(offsets.consumer)?);
        // Linux 5.4 has it.
        let (flags, entries) = (place(offsets.flags.ok_or(Errno::NOSYS)?)?, place(offsets.desc)?);
        let length = entries + count as usize * size_of::<T>();
        let (protection, how) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: new memory, wherever the kernel likes.
        let start = unsafe { mmap(std::ptr::null_mut(), length, protection, how, socket, page) }?;
        let memory = Mapping::new(start, length)?;
        let start = memory.start;
        // SAFETY: the kernel says where in the mapping each is, aligned, and that entries come last; the mapping is as
        // long as that and lives as long as the ring.
        let ring = unsafe {
            Ring {
                producer: start.add(producer).cast(),
                consumer: start.add(consumer).cast(),
                flags: start.add(flags).cast(),
                entries: start.add(entries).cast(),
                mask: count - 1,
                _memory: memory,
            }
        };
        Ok(ring)
    }

    fn index(&self, which: NonNull<AtomicU32>) -> &AtomicU32 {
        // SAFETY: it points into the mapping, which lives as long as `self`, at a number that both sides access
        // atomically.
        unsafe { which.as_ref() }
    }

    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: the mask keeps it among the entries, which are in the mapping.
        unsafe { self.entries.add((index & self.mask) as usize) }
    }

    fn wants_waking(&self) -> bool {
        self.index(self.flags).load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

/// The side that puts in.
pub(crate) struct Producer<T> {
    ring: Ring<T>,
    next: u32,
}

impl<T: Copy> Producer<T> {
    /// See [`Ring::map`]; entries of type `T` are what this ring has.
    pub(crate) fn map(
        socket: BorrowedFd<'_>,
        page: u64,
        offsets: XdpRingOffset,
        count: u32,
    ) -> Result<Producer<T>, Errno> {
        Ok(Producer { ring: Ring::map(socket, page, offsets, count)?, next: 0 })
    }

    /// Puts in an entry, which the other side sees after [`Producer::submit`]; false when the ring is full.
    pub(crate) fn put(&mut self, entry: T) -> bool {
        let taken = self.ring.index(self.ring.consumer).load(Ordering::Acquire);
        if self.next.wrapping_sub(taken) > self.ring.mask {
            return false;
        }
        // SAFETY: this entry is ours: the consumer is done with it, and learns of it only by the index.
        unsafe { self.ring.entry(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Shows the other side what was put in.
    pub(crate) fn submit(&self) {
        self.ring.index(self.ring.producer).store(self.next, Ordering::Release);
    }

    /// Entries that the other side has not taken yet.
    pub(crate) fn waiting(&self) -> u32 {
        self.next.wrapping_sub(self.ring.index(self.ring.consumer).load(Ordering::Acquire))
    }

    /// Whether the kernel is to be woken to look.
    pub(crate) fn wants_waking(&self) -> bool {
        self.ring.wants_waking()
    }
}

/// The side that takes out.
pub(crate) struct Consumer<T> {
    ring: Ring<T>,
    next: u32,
}

impl<T: Copy> Consumer<T> {
    /// See [`Ring::map`].
    pub(crate) fn map(
        socket: BorrowedFd<'_>,
        page: u64,
        offsets: XdpRingOffset,
        count: u32,
    ) -> Result<Consumer<T>, Errno> {
        Ok(Consumer { ring: Ring::map(socket, page, offsets, count)?, next: 0 })
    }

    /// Takes up to so many entries out, each into `each`.
    pub(crate) fn take(&mut self, most: u32, mut each: impl FnMut(T)) {
        let there = self.ring.index(self.ring.producer).load(Ordering::Acquire).wrapping_sub(self.next);
        // A producer that says more than fit is not believed.
        let count = there.min(most).min(self.ring.mask + 1);
        for _ in 0..count {
            // SAFETY: the producer has shown it, and leaves it alone until our index passes it.
            each(unsafe { self.ring.entry(self.next).read() });
            self.next = self.next.wrapping_add(1);
        }
        if count > 0 {
            self.ring.index(self.ring.consumer).store(self.next, Ordering::Release);
        }
    }
}
