//! An address of DNS, UDP and TCP, behind which servers change.

use crate::tools::free_port;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// An address behind which one broker stands, then another.
pub struct Switch {
    /// Where it is.
    pub at: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
}

impl Switch {
    /// With this broker behind it.
    pub async fn new(first: SocketAddr) -> Switch {
        let at = free_port("127.0.33.3");
        let to = Arc::new(Mutex::new(first));
        let udp = Arc::new(UdpSocket::bind(at).await.expect("bind"));
        let tcp = TcpListener::bind(at).await.expect("bind");
        tokio::spawn(relay_udp(udp, to.clone()));
        let behind = to.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = tcp.accept().await {
                let to = *behind.lock().expect("not poisoned");
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(to).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Switch { at, to }
    }

    /// From now on queries go to another.
    pub fn turn(&self, to: SocketAddr) {
        *self.to.lock().expect("not poisoned") = to;
    }
}

async fn relay_udp(udp: Arc<UdpSocket>, to: Arc<Mutex<SocketAddr>>) {
    let mut buffer = vec![0; 4096];
    while let Ok((n, from)) = udp.recv_from(&mut buffer).await {
        let (query, to, udp) = (buffer[..n].to_vec(), *to.lock().expect("not poisoned"), udp.clone());
        tokio::spawn(async move {
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            socket.send_to(&query, to).await?;
            let mut reply = vec![0; 4096];
            let n = socket.recv(&mut reply).await?;
            udp.send_to(&reply[..n], from).await
        });
    }
}
