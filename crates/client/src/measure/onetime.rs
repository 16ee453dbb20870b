//! Looking up a name that nobody else asks for.

use crate::http::random;
use data_encoding::BASE32_NOPAD;
use std::net::ToSocketAddrs;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long it may take. The broker has noted the query long before a slow resolver gives up.
const WITHIN: Duration = Duration::from_secs(2);
/// Longest name that can be looked up, without the final dot (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// Looks up a one-time name of a domain by the system's resolver, and gives its nonce. What the answer
/// is does not matter, nor whether there is one: the broker tells whether it saw the question.
pub(super) async fn look_up(domain: &str) -> Option<String> {
    let nonce = BASE32_NOPAD.encode(&random::<15>().ok()?).to_ascii_lowercase();
    let name = format!("{nonce}.probe.{domain}.");
    if name.len() > MAX_NAME + 1 {
        return None;
    }
    let (done, answered) = oneshot::channel();
    // A thread of its own: the runtime waits at its end for those that it has lent, and a resolver
    // that is not reached keeps one for many seconds.
    let asking = std::thread::Builder::new().name("one-time name".into()).spawn(move || {
        let _ = (name.as_str(), 0u16).to_socket_addrs();
        // Whoever waited has waited long enough.
        let _ = done.send(());
    });
    asking.ok()?;
    let _ = tokio::time::timeout(WITHIN, answered).await;
    Some(nonce)
}
