//! UDP checks: one datagram out, a matching one back.

use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::{any_address, reason};
use std::net::SocketAddr;
use tokio::net::UdpSocket;

/// Larger than any datagram, so that none is cut.
const BUFFER_BYTES: usize = 65_536;

/// Sends `send` and waits for a reply that contains `expect`; other replies are waited past, since
/// a late answer to an earlier check may come first. A refusal (ICMP port unreachable) ends it.
pub async fn run(deadline: &Deadline, target: SocketAddr, send: &[u8], expect: &[u8]) -> Result<(), Failure> {
    let expected = match expect {
        [] => "expected a UDP reply".to_string(),
        _ => format!("expected a UDP reply with {}", reason::quote(expect, 60)),
    };
    let mut wrong: Option<Vec<u8>> = None;
    let talk = talk(target, send, expect, &mut wrong);
    match tokio::time::timeout_at(deadline.at(), talk).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(Failure::io(&format!("{expected} from {target}"), &e)),
        Err(_) => Err(match wrong {
            None => Failure::silence(deadline.missed(&format!("{expected} from {target}"))),
            Some(reply) => Failure::answer(format!("{expected}, found {}", reason::quote(&reply, 60))),
        }),
    }
}

async fn talk(
    target: SocketAddr,
    send: &[u8],
    expect: &[u8],
    wrong: &mut Option<Vec<u8>>,
) -> std::io::Result<()> {
    let socket = UdpSocket::bind(any_address(target)).await?;
    // Connected: only the target's datagrams arrive, and its refusals too.
    socket.connect(target).await?;
    socket.send(send).await?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let n = socket.recv(&mut buffer).await?;
        if reason::contains(&buffer[..n], expect) {
            return Ok(());
        }
        *wrong = Some(buffer[..n].to_vec());
    }
}
