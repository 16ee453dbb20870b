//! Registered records as record data.

use crate::name::WireName;
use crate::reply::{Data, Reply, ReplyError, Section};
use hickory_proto::rr::rdata::{CAA, TXT};
use hickory_proto::rr::{RData, RecordType};
use nearmost_core::registry::StaticData;
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

/// Adds a static record to a reply.
///
/// # Errors
/// [`ReplyError::Unanswerable`] when a name in it is no name.
pub(crate) fn add_static(
    reply: &mut Reply<'_>,
    section: Section,
    owner: &WireName,
    ttl: u32,
    data: &StaticData,
) -> Result<(), ReplyError> {
    let name = |text: &str| WireName::from_text(text).ok_or(ReplyError::Unanswerable);
    let mut add = |data: Data<'_>| reply.add(section, owner, ttl, data);
    match data {
        StaticData::A(a) => add(Data::Address((*a).into())),
        StaticData::Aaaa(a) => add(Data::Address((*a).into())),
        StaticData::Cname(target) => add(Data::Alias(&name(target)?)),
        StaticData::Ns(server) => add(Data::NameServer(&name(server)?)),
        StaticData::Mx { preference, exchange } => {
            add(Data::Exchange { preference: *preference, host: &name(exchange)? })
        }
        StaticData::Srv { priority, weight, port, target } => {
            let target = &name(target)?;
            add(Data::Server { priority: *priority, weight: *weight, port: *port, target })
        }
        other => add(Data::Other(rare(other).ok_or(ReplyError::Unanswerable)?)),
    }
}

/// Data of the types that hickory-proto encodes; `None` for others.
fn rare(data: &StaticData) -> Option<RData> {
    Some(match data {
        // Record data of TXT is one string at least (RFC 1035 §3.3.14).
        StaticData::Txt(strings) if strings.is_empty() => RData::TXT(TXT::new(vec![String::new()])),
        StaticData::Txt(strings) => RData::TXT(TXT::new(strings.clone())),
        StaticData::Caa { critical, tag, value } => {
            // The domain name does not matter: tag and value are replaced by what was registered.
            let mut caa = CAA::new_issue(*critical, None, Vec::new());
            caa.tag.clone_from(tag);
            caa.value = value.as_bytes().to_vec();
            RData::CAA(caa)
        }
        _ => return None,
    })
}

/// Seconds as a TTL: RFC 2181 §8 has 31 bits.
pub(crate) fn seconds(d: Duration) -> u32 {
    u32::try_from(d.as_secs()).unwrap_or(u32::MAX).min(i32::MAX as u32)
}
