//! What the kernel tells of interfaces.

#![expect(unsafe_code, reason = "ioctl(2) and getifaddrs(3) take and give pointers")]

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Asks how many queues there are (`ETHTOOL_GCHANNELS`).
const GET_CHANNELS: u32 = 0x3c;

/// An interface as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// The kernel's number of it.
    pub(crate) index: u32,
    /// Queues that frames come by.
    pub(crate) queues: u32,
    /// The most that it carries after Ethernet's header, in bytes.
    pub(crate) mtu: usize,
}

/// `struct ethtool_channels`
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// Looks at an interface by its name.
pub(crate) fn look(name: &str) -> Result<Interface, Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let index = rustix::net::netdevice::name_to_index(&socket, name)?;
    let mtu = usize::try_from(mtu(&socket, name)?).map_err(|_| Errno::RANGE)?;
    // Drivers that do not say how many have one.
    let queues = queues(&socket, name).unwrap_or(1).max(1);
    Ok(Interface { index, queues, mtu })
}

/// A request that names an interface.
fn request(name: &str) -> Result<libc::ifreq, Errno> {
    // SAFETY: all-zero bytes are a valid `ifreq`: integers, and a union of such and null pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    if name.len() > room {
        return Err(Errno::NODEV);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(socket: &OwnedFd, number: libc::c_ulong, request: &mut libc::ifreq) -> Result<(), Errno> {
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: these ioctls of sockets read and write one `ifreq`, and what it points at, which our callers see to.
    let done = unsafe { libc::ioctl(socket, number as _, std::ptr::from_mut(request)) };
    if done == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

fn mtu(socket: &OwnedFd, name: &str) -> Result<i32, Errno> {
    let mut request = request(name)?;
    ioctl(socket, libc::SIOCGIFMTU as _, &mut request)?;
    // SAFETY: the kernel has just written this member.
    Ok(unsafe { request.ifr_ifru.ifru_mtu })
}

fn queues(socket: &OwnedFd, name: &str) -> Result<u32, Errno> {
    let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    ioctl(socket, libc::SIOCETHTOOL as _, &mut request)?;
    Ok(channels.rx.saturating_add(channels.combined))
}

/// Addresses that this host has now, without those of loopback.
///
/// # Errors
/// What the system says.
pub fn own_addresses() -> Result<Vec<IpAddr>, Errno> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: it writes one pointer, to a list that is ours to free.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    let (mut found, mut next) = (Vec::new(), first);
    // SAFETY: each entry of the list is whole until the list is freed, below.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: as above: null, or an address of the family that it says.
        found.extend(unsafe { address(entry.ifa_addr) });
        next = entry.ifa_next;
    }
    // SAFETY: the list came from getifaddrs and nothing points into it any more.
    unsafe { libc::freeifaddrs(first) };
    found.retain(|ip: &IpAddr| !ip.is_loopback());
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// # Safety
/// It is null, or points at an address that is as long as its family asks.
unsafe fn address(at: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller's promise.
    let family = unsafe { at.as_ref() }?.sa_family;
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is one; it may lie at any place.
            let v4 = unsafe { at.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { at.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_an_interface_and_has_no_addresses_of_its_own() {
        let lo = look("lo").unwrap();
        assert!(lo.index > 0 && lo.queues == 1 && lo.mtu >= 1500, "{lo:?}");
        assert!(own_addresses().unwrap().iter().all(|ip| !ip.is_loopback()));
    }

    #[test]
    fn what_is_not_there_is_said_not_to_be() {
        assert_eq!(look("nothere0").unwrap_err(), Errno::NODEV);
        assert_eq!(look("a-name-that-is-too-long").unwrap_err(), Errno::NODEV);
    }
}
