//! A user of a service that echoes datagrams: plays over a session, and tells when it is moved.
//!
//! ```sh
//! cargo run -p nearmost-client --features quic --example follow -- play.example.com nmc1…
//! ```

#![allow(clippy::print_stdout, reason = "an example")]

use nearmost_client::session::{Event, Session};
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let domain = args.next().ok_or("say which domain")?;
    let builder = Session::builder(&domain);
    // Without a token, brokers are looked up in DNS.
    let builder = args.next().into_iter().fold(builder, |builder, token| builder.token(&token));
    let session = builder.connect().await?;
    let mut events = session.events();
    let name = |node| session.name(node).unwrap_or_else(|| format!("{node}"));
    println!("attached to {}", session.primary().map(name).unwrap_or_default());
    let (mut tick, mut number) = (tokio::time::interval(Duration::from_millis(100)), 0u64);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                number += 1;
                // One that finds no room, or no mirror, is lost.
                let _ = session.send(1, format!("{number}").as_bytes());
            }
            answer = session.recv() => match answer {
                Some(packet) if number.is_multiple_of(50) => {
                    println!("heard: {}", String::from_utf8_lossy(&packet.payload));
                }
                Some(_) => {}
                None => return Ok(()),
            },
            event = events.next() => match event {
                Some(Event::Moved { to, gap, .. }) => println!("moved to {}, {gap:?} without a mirror", name(to)),
                Some(other) => println!("{other:?}"),
                None => return Ok(()),
            },
        }
    }
}
