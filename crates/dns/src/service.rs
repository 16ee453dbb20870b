//! Mirrors as services: what SVCB, HTTPS (RFC 9460) and SRV (RFC 2782) answers name.
//!
//! The nearest eligible mirrors of each family, merged. Those within the tie band of the best share
//! the first priority, so that clients spread over them; one that is only there because the other
//! family has nothing nearer comes second.

use crate::name::WireName;
use crate::reply::Data;
use arrayvec::ArrayVec;
use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::svcb::{Alpn, IpHint, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, SVCB};
use nearmost_core::ranking::{Choice, Chosen, MAX_ANSWERS};
use nearmost_core::registry::{Domain, Mirror, MirrorIndex, Policy};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most mirrors of both families together.
const MAX_SERVICES: usize = 2 * MAX_ANSWERS;

/// One mirror as a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    pub(crate) mirror: MirrorIndex,
    /// Its place in the client's ranking …
    rank: u8,
    /// … and the last place that is as good.
    band_end: u8,
    /// Its address, if it was chosen in that family.
    pub(crate) v4: Option<Ipv4Addr>,
    /// Likewise.
    pub(crate) v6: Option<Ipv6Addr>,
}

/// Mirrors of both families, in order.
pub(crate) type Services = ArrayVec<Service, MAX_SERVICES>;

/// The chosen mirrors of both families, nearest first.
pub(crate) fn merge(v4: &Choice, v6: &Choice) -> Services {
    let mut all = Services::new();
    for (chosen, addr) in pairs(v4).chain(pairs(v6)) {
        let known = all.iter().position(|s| s.mirror == chosen.mirror);
        let service = match known {
            Some(i) => &mut all[i],
            None => {
                let Chosen { mirror, rank, band_end } = chosen;
                let new = Service { mirror, rank, band_end, v4: None, v6: None };
                if all.try_push(new).is_err() {
                    break;
                }
                let last = all.len() - 1;
                &mut all[last]
            }
        };
        match addr {
            IpAddr::V4(a) => service.v4 = Some(a),
            IpAddr::V6(a) => service.v6 = Some(a),
        }
    }
    let firsts = [v4, v6].into_iter().filter_map(|c| c.mirrors.first());
    let equals = firsts.min_by_key(|c| c.rank).map_or(0, |c| c.band_end);
    // Stable: of those that share users, the one that this client was given stays first.
    all.sort_by_key(|s| if s.rank <= equals { 0 } else { s.rank });
    all
}

fn pairs(choice: &Choice) -> impl Iterator<Item = (Chosen, IpAddr)> {
    choice.mirrors.iter().copied().zip(choice.addrs.iter().copied())
}

/// 0 within the tie band of the best, 1 beyond.
pub(crate) fn tier(best: &Service, service: &Service) -> u16 {
    u16::from(service.rank > best.band_end)
}

/// `<mirror>.<domain>`; `None` when that is no name.
pub(crate) fn mirror_name(domain: &Domain, mirror: &Mirror) -> Option<WireName> {
    WireName::from_labels(mirror.name.split('.').chain(domain.name.split('.')).map(str::as_bytes))
}

/// Record data of SVCB and HTTPS. Keys are in increasing order (RFC 9460 §2.2).
pub(crate) fn svcb(policy: &Policy, mirror: &Mirror, service: &Service, target: Name, tier: u16) -> SVCB {
    let mut params = Vec::with_capacity(4);
    if !policy.alpn.is_empty() {
        params.push((SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(policy.alpn.clone()))));
    }
    params.push((SvcParamKey::Port, SvcParamValue::Port(mirror.port)));
    if let Some(a) = service.v4 {
        params.push((SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A(a)]))));
    }
    if let Some(a) = service.v6 {
        params.push((SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(vec![AAAA(a)]))));
    }
    // Priority 0 would be an alias (RFC 9460 §2.4.1).
    SVCB::new(tier + 1, target, params)
}

/// Record data of SRV.
pub(crate) fn srv<'n>(mirror: &Mirror, target: &'n WireName, tier: u16) -> Data<'n> {
    let weight = u16::try_from(mirror.weight).unwrap_or(u16::MAX);
    Data::Server { priority: tier, weight, port: mirror.port, target }
}
