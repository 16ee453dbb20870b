//! What the kernel, other agents and the services that are probed answer.

use nearmost_agent::fuzzing as agent;
use nearmost_agent::load::{CpuTicks, established_port, memory_share};
use nearmost_agent::paths::message;
use nearmost_core::check::{DnsCheck, RecordType, ResponseCode};
use nearmost_probe::{fuzzing as probe, harmless};
use std::net::IpAddr;

/// A datagram of `INET_DIAG`, files of `/proc`, and what an agent shows of itself.
pub fn kernel(data: &[u8]) {
    let mut seen = 0;
    let read = message::read(data, 1, |connection| {
        seen += 1;
        assert_eq!(connection.peer, connection.peer.to_canonical());
    });
    // Each has a head of 16 bytes and a body of 72.
    assert!(seen * 88 <= data.len());
    drop(read);
    let text = String::from_utf8_lossy(data);
    if let Some(ticks) = CpuTicks::parse(&text) {
        assert!((0.0..=1.0).contains(&ticks.share_since(CpuTicks::default())));
        assert_eq!(ticks.share_since(ticks), 0.0);
    }
    assert!(memory_share(&text).is_none_or(|share| (0.0..=1.0).contains(&share)));
    text.lines().for_each(|line| {
        let _ = established_port(line);
    });
    let _ = agent::process_stat(&text);
    if let Ok((status, alive)) = agent::status(data) {
        let (lines, json) = agent::shown(&status, alive).expect("it is shown");
        // Others' texts reach no terminal as they are.
        let obeyed = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
        assert!(!obeyed(&lines) && !obeyed(&json), "{lines:?} {json:?}");
    }
}

/// What came as the answer to a check's query.
pub fn answer(data: &[u8]) {
    let check = |answer: Option<&str>| DnsCheck {
        name: "a.b".into(),
        record_type: RecordType::A,
        rcode: ResponseCode::NOERROR,
        answer: answer.map(str::to_owned),
    };
    let any = probe::dns_answer(&check(None), crate::seeds::ID, data);
    let address = IpAddr::from([192, 0, 2, 1]).to_string();
    let that = probe::dns_answer(&check(Some(&address)), crate::seeds::ID, data);
    // Whoever asks for more is not content with less.
    assert!(that.is_err() || any.is_ok());
    // It answers one query, not two.
    assert!(any.is_err() || probe::dns_answer(&check(None), crate::seeds::ID ^ 1, data).is_err());
    if let Err(why) = that {
        // As it reaches logs and terminals.
        let why = harmless(&why);
        assert!(!why.is_empty() && !why.chars().any(char::is_control), "{why:?}");
    }
}
