//! Where no UDP gets through, sessions go inside TLS over TCP.

use super::mirror::Mirror;
use super::world::{LONG, builder, echoed, soon};
use nearmost_client::identity::{KeyPair, Role};
use nearmost_client::session::Known;
use nearmost_wire::tls;
use nearmost_wire::tunnel::{ALPN_TUNNEL, Tunnels};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;

/// A port at which only tunnels to a mirror are taken.
async fn only_tcp(seed: u8, mirror: &Mirror) -> SocketAddr {
    let key = KeyPair::from_seed(Role::Node, &[seed; 32]);
    assert_eq!(key.id(), mirror.id());
    let tls = Arc::new(tls::stream_server_config(&key, ALPN_TUNNEL).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (at, endpoint, tunnels) = (listener.local_addr().unwrap(), mirror.address, Tunnels::default());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, tunnels) = (tls.clone(), tunnels.clone());
            tokio::spawn(async move { tunnels.serve(stream, tls, endpoint).await });
        }
    });
    at
}

#[tokio::test]
async fn a_session_goes_through_tls_over_tcp() {
    let mirror = Mirror::start(1);
    let at = only_tcp(1, &mirror).await;
    let known = Known { port: at.port(), ..mirror.known() };
    let session = builder(&[]).mirror(known).within(LONG).start().unwrap();
    assert_eq!(soon(session.attached()).await, Some(mirror.id()));
    echoed(&session, 1, b"through").await;
    let large = vec![7; 1100];
    echoed(&session, 1, &large).await;
    session.close().await;
}
