//! Networks of one length as sorted numbers: found by binary search, walked in order.

use super::observation::Coarseness;
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

    /// The row of an address's network.
    pub(super) fn find(&self, addr: IpAddr) -> Option<&T> {
        match self.coarse.network(addr) {
            IpNet::V4(n) => self.rows_v4.get(self.v4.binary_search(&n.addr().to_bits()).ok()?),
            IpNet::V6(n) => self.rows_v6.get(self.v6.binary_search(&n.addr().to_bits()).ok()?),
        }
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
    }
}
