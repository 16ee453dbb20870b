//! The system call bpf(2): maps, the program, and the link that it hangs on.

#![expect(unsafe_code, reason = "bpf(2) takes a union whose members point at memory")]

use crate::assembler::Instruction;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

// Commands, types and flags of linux/bpf.h and linux/if_link.h.
const MAP_CREATE: i32 = 0;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const PROG_LOAD: i32 = 5;
const OBJECT_INFO: i32 = 15;
const LINK_CREATE: i32 = 28;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const FLAG_GENERIC: u32 = 1 << 1;
const FLAG_NATIVE: u32 = 1 << 2;
/// Not that it calls anything that asks for it.
const LICENSE: &[u8] = b"Dual MIT/GPL\0";
/// Names of maps and the program, for tools that list them.
const NAME: [u8; 16] = *b"nearmost\0\0\0\0\0\0\0\0";

/// Kinds of maps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MapKind {
    /// Of keys.
    Hash = 1,
    /// Of AF_XDP sockets, by queue.
    Sockets = 17,
}

/// Attributes of `MAP_CREATE`.
#[repr(C)]
#[derive(Default)]
struct Create {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; 16],
}

/// Attributes of commands on elements.
#[repr(C)]
struct Element {
    map: u32,
    _gap: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Attributes of `PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
}

/// Attributes of `LINK_CREATE`.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
}

/// Attributes of `OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Asked {
    object: u32,
    length: u32,
    info: u64,
}

/// `struct bpf_link_info`, as far as it is of use for XDP.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    _gap: u32,
    /// 0 once it is detached.
    interface: u32,
    _rest: u32,
}

/// # Safety
/// `T` is the attributes of the command as linux/bpf.h has them, without gaps, and what they point at is as the
/// command asks.
unsafe fn call<T>(command: i32, attributes: &mut T) -> Result<i32, Errno> {
    let (at, size) = (std::ptr::from_mut(attributes), size_of::<T>());
    // SAFETY: the caller's promise; the kernel reads and writes `size` bytes at `at`.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, at, size) };
    // File descriptors and zero fit; errors are negative.
    i32::try_from(done).ok().filter(|done| *done >= 0).ok_or_else(last_error)
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn fd(of: impl AsFd) -> u32 {
    // Open files have no negative numbers.
    of.as_fd().as_raw_fd().unsigned_abs()
}

fn owned(descriptor: i32) -> OwnedFd {
    // SAFETY: the kernel has just made it and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// A map with keys and values of so many bytes.
pub(crate) fn create_map(kind: MapKind, key: usize, value: usize, entries: u32) -> Result<OwnedFd, Errno> {
    let (key, value) = (key as u32, value as u32);
    let mut attributes = Create { kind: kind as u32, key, value, entries, name: NAME, ..Create::default() };
    // SAFETY: these attributes point at nothing.
    unsafe { call(MAP_CREATE, &mut attributes) }.map(owned)
}

/// Puts an entry in a map of such keys and values, made with these sizes.
pub(crate) fn put<const K: usize, const V: usize>(
    map: impl AsFd,
    key: [u8; K],
    value: [u8; V],
) -> Result<(), Errno> {
    let (key, value) = (&raw const key as u64, &raw const value as u64);
    let mut element = Element { map: fd(map), _gap: 0, key, value, flags: 0 };
    // SAFETY: key and value live during the call and have the sizes that the map was made with.
    unsafe { call(MAP_UPDATE, &mut element) }.map(|_| ())
}

/// Removes an entry from a map of such keys.
pub(crate) fn remove<const K: usize>(map: impl AsFd, key: [u8; K]) -> Result<(), Errno> {
    let mut element = Element { map: fd(map), _gap: 0, key: &raw const key as u64, value: 0, flags: 0 };
    // SAFETY: the key lives during the call and has the size that the map was made with.
    unsafe { call(MAP_DELETE, &mut element) }.map(|_| ())
}

/// Has the kernel verify and take a program of XDP.
pub(crate) fn load(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let mut attributes = Load {
        kind: PROG_TYPE_XDP,
        instructions: program.len() as u32,
        program: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel: 0,
        flags: 0,
        name: NAME,
    };
    // SAFETY: the instructions are as many as is said, the license ends with a zero, and both live during the call.
    unsafe { call(PROG_LOAD, &mut attributes) }.map(owned)
}

/// Hangs a program on an interface until the link is closed.
pub(crate) fn link(program: impl AsFd, interface: u32, native: bool) -> Result<OwnedFd, Errno> {
    let flags = if native { FLAG_NATIVE } else { FLAG_GENERIC };
    let mut attributes = Link { program: fd(program), interface, attach: ATTACH_XDP, flags };
    // SAFETY: these attributes point at nothing.
    unsafe { call(LINK_CREATE, &mut attributes) }.map(owned)
}

/// The number of the interface that a link's program is on; 0 where that was removed, or somebody detached it.
pub(crate) fn linked(link: impl AsFd) -> Result<u32, Errno> {
    let mut info = LinkInfo::default();
    let length = size_of::<LinkInfo>() as u32;
    let mut attributes = Asked { object: fd(link), length, info: &raw mut info as u64 };
    // SAFETY: the kernel writes at most `length` bytes of `info`, which lives during the call; all are integers.
    unsafe { call(OBJECT_INFO, &mut attributes) }.map(|_| info.interface)
}
