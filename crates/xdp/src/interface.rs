//! What the kernel tells of interfaces.

#![expect(unsafe_code, reason = "ioctl(2) and getifaddrs(3) take and give pointers")]

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

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
    /// Somebody has set it up; whether its link is, too, is not asked.
    pub(crate) up: bool,
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
    Ok(Interface { index, queues, mtu, up: is_up(&socket, name)? })
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

fn is_up(socket: &OwnedFd, name: &str) -> Result<bool, Errno> {
    let mut request = request(name)?;
    ioctl(socket, libc::SIOCGIFFLAGS as _, &mut request)?;
    // SAFETY: the kernel has just written this member.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(i32::from(flags) & libc::IFF_UP != 0)
}

fn queues(socket: &OwnedFd, name: &str) -> Result<u32, Errno> {
    let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut channels).cast();
    ioctl(socket, libc::SIOCETHTOOL as _, &mut request)?;
    Ok(channels.rx.saturating_add(channels.combined))
}

/// Addresses that an interface has now.
///
/// # Errors
/// What the system says.
pub fn own_addresses(name: &str) -> Result<Vec<IpAddr>, Errno> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: it writes one pointer, to a list that is ours to free.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    let (mut found, mut next) = (Vec::new(), first);
    // SAFETY: each entry of the list is whole until the list is freed, below.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: as above: a string that ends.
        let label = unsafe { CStr::from_ptr(entry.ifa_name) };
        if is_of(label.to_bytes(), name) {
            // SAFETY: as above: null, or an address of the family that it says.
            found.extend(unsafe { address(entry.ifa_addr) });
        }
        next = entry.ifa_next;
    }
    // SAFETY: the list came from getifaddrs and nothing points into it any more.
    unsafe { libc::freeifaddrs(first) };
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Whether an address with this label is of the interface: `eth0:1` is a label of `eth0`, in whose own name there
/// can be no colon.
fn is_of(label: &[u8], name: &str) -> bool {
    label.split(|b| *b == b':').next() == Some(name.as_bytes())
}

/// VLAN devices that stand on an interface, by name. None is known where the kernel tells of none.
pub fn vlans_on(name: &str) -> Vec<String> {
    // Of this process's network namespace, but for root alone.
    match std::fs::read_to_string("/proc/self/net/vlan/config") {
        Ok(told) => vlans(&told, name),
        Err(_) => vlans_above(Path::new("/sys/class/net"), name),
    }
}

/// By what stands on it, as sysfs has it for everybody.
fn vlans_above(devices: &Path, name: &str) -> Vec<String> {
    let is_vlan = |device: &String| {
        let told = std::fs::read_to_string(devices.join(device).join("uevent"));
        told.is_ok_and(|told| told.lines().any(|line| line == "DEVTYPE=vlan"))
    };
    let above = std::fs::read_dir(devices.join(name)).into_iter().flatten().flatten();
    let above = above.filter_map(|link| Some(link.file_name().to_str()?.strip_prefix("upper_")?.to_owned()));
    let mut found: Vec<_> = above.filter(is_vlan).collect();
    // Directories have no order, and what is said of them should not change with it.
    found.sort_unstable();
    found
}

/// Of lines such as `eth0.100  | 100  | eth0`, after two of headings.
fn vlans(told: &str, name: &str) -> Vec<String> {
    let one = |line: &str| {
        let mut parts = line.split('|').map(str::trim);
        let (device, _, under) = (parts.next()?, parts.next()?, parts.next()?);
        (under == name).then(|| device.to_owned())
    };
    told.lines().filter_map(one).collect()
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
    fn loopback_is_an_interface_and_has_its_address_when_it_is_up() {
        let lo = look("lo").unwrap();
        assert!(lo.index > 0 && lo.queues == 1 && lo.mtu >= 1500, "{lo:?}");
        assert!(!lo.up || own_addresses("lo").unwrap().contains(&Ipv4Addr::LOCALHOST.into()));
        assert!(own_addresses("l").unwrap().is_empty());
    }

    #[test]
    fn labels_are_of_their_interface_and_vlans_are_interfaces_of_their_own() {
        assert!(is_of(b"eth0", "eth0") && is_of(b"eth0:1", "eth0"));
        assert!(!is_of(b"eth0.100", "eth0") && !is_of(b"eth01", "eth0") && !is_of(b"eth0.100:1", "eth0"));
    }

    #[test]
    fn vlans_are_those_on_the_interface() {
        let told = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                    eth0.100       | 100  | eth0\ndmz            | 7  | eth1\ninner  | 8  | eth0.100\n";
        assert_eq!(vlans(told, "eth0"), ["eth0.100"]);
        assert_eq!(vlans(told, "eth1"), ["dmz"]);
        assert!(vlans("", "eth0").is_empty());
    }

    #[test]
    fn vlans_are_told_from_bridges_by_sysfs() {
        let devices = tempfile::tempdir().unwrap();
        for (device, kind) in [("eth0", ""), ("eth0.9", "DEVTYPE=vlan\n"), ("br0", "DEVTYPE=bridge\n")] {
            std::fs::create_dir(devices.path().join(device)).unwrap();
            let told = format!("{kind}INTERFACE={device}\n");
            std::fs::write(devices.path().join(device).join("uevent"), told).unwrap();
        }
        for above in ["upper_br0", "upper_eth0.9", "queues"] {
            std::fs::create_dir(devices.path().join("eth0").join(above)).unwrap();
        }
        assert_eq!(vlans_above(devices.path(), "eth0"), ["eth0.9"]);
        assert!(vlans_above(devices.path(), "eth1").is_empty());
    }

    #[test]
    fn what_is_not_there_is_said_not_to_be() {
        assert_eq!(look("nothere0").unwrap_err(), Errno::NODEV);
        assert_eq!(look("a-name-that-is-too-long").unwrap_err(), Errno::NODEV);
    }
}
