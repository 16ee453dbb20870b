//! Registered records as record data.

use crate::name;
use hickory_proto::rr::rdata::{A, AAAA, CAA, CNAME, MX, NS, SRV, TXT};
use hickory_proto::rr::{RData, RecordType};
use nearmost_core::registry::StaticData;
use std::net::IpAddr;
use std::time::Duration;

/// The type of a static record.
pub(crate) fn record_type(data: &StaticData) -> RecordType {
    match data {
        StaticData::A(_) => RecordType::A,
        StaticData::Aaaa(_) => RecordType::AAAA,
        StaticData::Cname(_) => RecordType::CNAME,
        StaticData::Mx { .. } => RecordType::MX,
        StaticData::Txt(_) => RecordType::TXT,
        StaticData::Ns(_) => RecordType::NS,
        StaticData::Caa { .. } => RecordType::CAA,
        StaticData::Srv { .. } => RecordType::SRV,
    }
}

/// A static record's data; `None` when a name in it is no name.
pub(crate) fn static_data(data: &StaticData) -> Option<RData> {
    Some(match data {
        StaticData::A(a) => RData::A(A(*a)),
        StaticData::Aaaa(a) => RData::AAAA(AAAA(*a)),
        StaticData::Cname(target) => RData::CNAME(CNAME(name::from_text(target)?)),
        StaticData::Mx { preference, exchange } => {
            RData::MX(MX::new(*preference, name::from_text(exchange)?))
        }
        // Record data of TXT is one string at least (RFC 1035 §3.3.14).
        StaticData::Txt(strings) if strings.is_empty() => RData::TXT(TXT::new(vec![String::new()])),
        StaticData::Txt(strings) => RData::TXT(TXT::new(strings.clone())),
        StaticData::Ns(server) => RData::NS(NS(name::from_text(server)?)),
        StaticData::Caa { critical, tag, value } => {
            // The domain name does not matter: tag and value are replaced by what was registered.
            let mut caa = CAA::new_issue(*critical, None, Vec::new());
            caa.tag.clone_from(tag);
            caa.value = value.as_bytes().to_vec();
            RData::CAA(caa)
        }
        StaticData::Srv { priority, weight, port, target } => {
            RData::SRV(SRV::new(*priority, *weight, *port, name::from_text(target)?))
        }
    })
}

/// An address record's data.
pub(crate) fn address(addr: IpAddr) -> RData {
    match addr {
        IpAddr::V4(a) => RData::A(A(a)),
        IpAddr::V6(a) => RData::AAAA(AAAA(a)),
    }
}

/// Seconds as a TTL: RFC 2181 §8 has 31 bits.
pub(crate) fn seconds(d: Duration) -> u32 {
    u32::try_from(d.as_secs()).unwrap_or(u32::MAX).min(i32::MAX as u32)
}
