//! What the demo says: who is there, and what to try.

use crate::cast::{DOMAIN, MIRRORS, Role, USERS};
use nearmost_client::Client;
use nearmost_client::api::EventView;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// A mirror as it runs.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// What it plays.
    pub role: Role,
    /// Where its service is.
    pub service: SocketAddr,
    /// Its process.
    pub pid: u32,
}

/// The table of mirrors.
pub fn mirrors(running: &[Running]) -> String {
    let mut text = format!("{DOMAIN} is served by\n\n");
    for m in running {
        let r = m.role;
        let place = format!("{} ({:.2}, {:.2})", r.city, r.latitude, r.longitude);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {:<10} {place:<28} http://{:<18} pid {}", r.name, m.service, m.pid);
    }
    text
}

/// The lines to try. Where each user is sent is asked of the broker, not assumed.
pub async fn things_to_try(
    client: &Client,
    dns: SocketAddr,
    http: SocketAddr,
    running: &[Running],
) -> String {
    let (ip, port) = (dns.ip(), dns.port());
    let mut text = format!("\nWatch it in a browser: http://{http}/\n");
    text.push_str("\nAsk as users around the world (the answer is the mirror's address):\n\n");
    for (prefix, country) in USERS {
        let nearest = nearest(client, prefix).await;
        let line = format!("dig +short @{ip} -p {port} {DOMAIN} +subnet={prefix}");
        let _ = writeln!(text, "  {line:<74} # {country}: {nearest}");
    }
    let user = first_address(USERS[3].0);
    let _ = write!(
        text,
        "\nOr over HTTP:\n\n  \
         curl -s 'http://{http}/v1/resolve/{DOMAIN}?client={user}'\n  \
         curl -s 'http://{http}/v1/explain?domain={DOMAIN}&client={user}'\n  \
         curl -sL http://{http}/go/{DOMAIN}/hello\n  \
         curl -s http://{http}/v1/fleet\n  \
         curl -sN http://{http}/v1/events\n  \
         curl -s http://{http}/metrics\n  \
         cargo run --release -p nearmost-cli -- --broker http://{http} explain {DOMAIN} --client {user}\n"
    );
    if let Some(sydney) = running.last() {
        let prefix = USERS[4].0;
        let _ = write!(
            text,
            "\nNow kill {}, and ask again as {}: within a second and a half the answer is another mirror.\n\n  \
             kill -9 {}\n  dig +short @{ip} -p {port} {DOMAIN} +subnet={prefix}\n",
            sydney.role.city, USERS[4].1, sydney.pid
        );
    }
    text.push_str("\nWhat happens is printed below. Ctrl-C ends everything.\n\n");
    text
}

/// A transition, on one line.
pub fn event(e: &EventView) -> String {
    let city = MIRRORS.iter().find(|m| m.name == e.mirror).map_or(e.mirror.as_str(), |m| m.city);
    format!("{city}: {} → {} ({}, seen by {})", e.from, e.to, e.reason.replace('_', " "), e.vantage)
}

async fn nearest(client: &Client, prefix: &str) -> String {
    match client.resolve(DOMAIN, Some(first_address(prefix))).await {
        Ok(answer) => match answer.mirrors.first() {
            Some(m) => format!("{} {}", m.mirror, m.addresses.join(" ")),
            None => "no mirror".into(),
        },
        Err(e) => e.to_string(),
    }
}

/// The first host of a prefix of [`USERS`].
fn first_address(prefix: &str) -> IpAddr {
    let text = prefix.split('/').next().unwrap_or(prefix);
    match text.parse() {
        Ok(IpAddr::V4(net)) => IpAddr::V4((u32::from(net) + 1).into()),
        _ => IpAddr::from([127, 0, 0, 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_users_prefix_is_one() {
        for (prefix, _) in USERS {
            assert!(!first_address(prefix).is_loopback(), "{prefix}");
        }
    }
}
