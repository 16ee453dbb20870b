//! Networks of one length as sorted numbers: found by binary search, walked in order.

use super::observation::Coarseness;
use crate::geo::table::Key;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Rows by network: of each family all of one prefix length.
#[derive(Clone, Debug)]
pub(super) struct NetworkTable<T> {
    coarse: Coarseness,
    v4: Vec<u32>,
    v6: Vec<u128>,
    rows_v4: Vec<T>,
    rows_v6: Vec<T>,
}

impl<T> Default for NetworkTable<T> {
    fn default() -> Self {
        NetworkTable::new(Coarseness::default(), Vec::new())
    }
}

impl<T> NetworkTable<T> {
    /// Of networks with their rows; those of other lengths are left out, of equal ones the first counts.
    pub(super) fn new(coarse: Coarseness, mut rows: Vec<(IpNet, T)>) -> NetworkTable<T> {
        rows.sort_by_key(|(net, _)| *net);
        rows.dedup_by_key(|(net, _)| *net);
        let mut table =
            NetworkTable { coarse, v4: Vec::new(), v6: Vec::new(), rows_v4: Vec::new(), rows_v6: Vec::new() };
        for (net, row) in rows {
            match net {
                IpNet::V4(n) if n.prefix_len() == coarse.v4 => {
                    table.v4.push(n.network().to_bits());
                    table.rows_v4.push(row);
                }
                IpNet::V6(n) if n.prefix_len() == coarse.v6 => {
                    table.v6.push(n.network().to_bits());
                    table.rows_v6.push(row);
                }
                _ => {}
            }
        }
        table
    }

    /// The network that an address would have in the table.
    pub(super) fn network(&self, addr: IpAddr) -> IpNet {
        self.coarse.network(addr)
    }

    /// The row of an address's network.
    pub(super) fn find(&self, addr: IpAddr) -> Option<&T> {
        match self.coarse.network(addr) {
            IpNet::V4(n) => self.rows_v4.get(self.v4.binary_search(&n.addr().to_bits()).ok()?),
            IpNet::V6(n) => self.rows_v6.get(self.v6.binary_search(&n.addr().to_bits()).ok()?),
        }
    }

    /// The borders around an IPv4 address: of its network, or of the networks beside it.
    pub(super) fn borders_v4(&self, addr: u32) -> (Option<u32>, Option<u32>) {
        borders(&self.v4, addr, u32::MAX.checked_shr(self.coarse.v4.into()).unwrap_or(0))
    }

    /// The same of an IPv6 address.
    pub(super) fn borders_v6(&self, addr: u128) -> (Option<u128>, Option<u128>) {
        borders(&self.v6, addr, u128::MAX.checked_shr(self.coarse.v6.into()).unwrap_or(0))
    }

    /// First addresses of all IPv4 networks, and of what follows each.
    pub(super) fn cuts_v4(&self) -> impl Iterator<Item = u32> + '_ {
        let host = u32::MAX.checked_shr(self.coarse.v4.into()).unwrap_or(0);
        self.v4.iter().flat_map(move |n| [Some(*n), (n | host).checked_add(1)]).flatten()
    }

    /// The same of IPv6.
    pub(super) fn cuts_v6(&self) -> impl Iterator<Item = u128> + '_ {
        let host = u128::MAX.checked_shr(self.coarse.v6.into()).unwrap_or(0);
        self.v6.iter().flat_map(move |n| [Some(*n), (n | host).checked_add(1)]).flatten()
    }

    /// Number of networks.
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// The networks in ascending order, IPv4 first.
    pub(super) fn networks(&self) -> impl Iterator<Item = IpNet> {
        let v4 = self.v4.iter().filter_map(|n| Ipv4Net::new(Ipv4Addr::from_bits(*n), self.coarse.v4).ok());
        let v6 = self.v6.iter().filter_map(|n| Ipv6Net::new(Ipv6Addr::from_bits(*n), self.coarse.v6).ok());
        v4.map(IpNet::V4).chain(v6.map(IpNet::V6))
    }
}

/// The last address before, and the first after, what surrounds an address.
fn borders<K: Key + std::ops::BitOr<Output = K>>(starts: &[K], addr: K, host: K) -> (Option<K>, Option<K>) {
    let next = starts.partition_point(|s| *s <= addr);
    let after = starts.get(next).copied();
    match next.checked_sub(1).map(|at| starts[at]) {
        Some(start) if (start | host) >= addr => (start.previous(), (start | host).next()),
        Some(start) => (Some(start | host), after),
        None => (None, after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_find_their_network_s_row() {
        let rows = ["10.0.1.0/24", "10.0.0.0/24", "2001:db8::/48", "10.0.0.0/16"];
        let rows = rows.iter().map(|n| (n.parse().unwrap(), *n)).collect();
        let table = NetworkTable::new(Coarseness::default(), rows);
        let find = |a: &str| table.find(a.parse().unwrap()).copied();
        assert_eq!(find("10.0.1.77"), Some("10.0.1.0/24"));
        assert_eq!(find("::ffff:10.0.0.1"), Some("10.0.0.0/24"));
        assert_eq!(find("2001:db8:0:9::1"), Some("2001:db8::/48"));
        assert_eq!((find("10.0.2.1"), find("2001:db8:1::")), (None, None));
        assert_eq!(table.len(), 3, "of another length");
        let networks: Vec<String> = table.networks().map(|n| n.to_string()).collect();
        assert_eq!(networks, ["10.0.0.0/24", "10.0.1.0/24", "2001:db8::/48"]);
        let at = |a: &str| table.borders_v4(a.parse::<Ipv4Addr>().unwrap().to_bits());
        let bits = |a: &str| Some(a.parse::<Ipv4Addr>().unwrap().to_bits());
        assert_eq!(at("10.0.1.9"), (bits("10.0.0.255"), bits("10.0.2.0")));
        assert_eq!(at("10.0.2.9"), (bits("10.0.1.255"), None));
        assert_eq!(at("9.0.0.0"), (None, bits("10.0.0.0")));
        assert_eq!(table.cuts_v4().count(), 4);
    }
}
