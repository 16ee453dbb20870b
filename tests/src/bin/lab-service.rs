//! The service of the WAN lab: `lab-service ADDRESS NAME PID_FILE` on UDP and TCP; NAME is `m` and the
//! host's number. Says `ready` when it listens and the pid file is there. Beside that is its ledger, a line
//! for each POST that it carried out.
//!
//! | | asked | answered |
//! |---|---|---|
//! | UDP | a number (8 bytes), anything | the number, the host's number (1 byte) |
//! | TCP, `BLOCKS\n` first | length (4 bytes), number (8), a block, again and again | number, host, SHA-256 of all blocks so far |
//! | HTTP | `GET /page/N`, `POST /buy/ID` | the host's number, and N or ID |

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use nearmost_wire::identity::{KeyPair, Role};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

/// Of plain QUIC.
const QUIC: u16 = 8443;
/// What blocks of a stream begin with.
const BLOCKS: &[u8] = b"BLOCKS\n";
/// The longest block.
const MOST_BLOCK: usize = 65_536;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, name, pid_file] = &args[..] else {
        panic!("lab-service ADDRESS NAME PID_FILE, not {args:?}")
    };
    let host: u8 = name.trim_start_matches('m').parse().expect("a name with the host's number");
    let address: SocketAddr = address.parse().expect("an address");
    let udp = UdpSocket::bind(address).await.expect("bind UDP");
    let tcp = TcpListener::bind(address).await.expect("bind TCP");
    let ledger = std::path::Path::new(pid_file).with_file_name("ledger");
    let ledger = std::fs::File::options().create(true).append(true).open(ledger).expect("open the ledger");
    let (web, requests) = mpsc::channel(64);
    tokio::spawn(echo(udp, host));
    tokio::spawn(accept(tcp, web, host));
    tokio::spawn(quic(address, host));
    std::fs::write(pid_file, std::process::id().to_string()).expect("write the pid file");
    println!("ready");
    let page = move |Path(n): Path<String>| async move { format!("{host} {n}") };
    let router = Router::new()
        .route("/", get(move || async move { format!("m{host}") }))
        .route("/page/{n}", get(page))
        .route("/buy/{id}", post(buy))
        .with_state((host, Arc::new(Mutex::new(ledger))));
    axum::serve(Requests { requests, address }, router).await.expect("serve");
}

type Ledger = Arc<Mutex<std::fs::File>>;

/// In the ledger first, then answered.
async fn buy(State((host, ledger)): State<(u8, Ledger)>, Path(id): Path<String>) -> String {
    let line = format!("{id}\n");
    ledger.lock().expect("nobody panics with it").write_all(line.as_bytes()).expect("write the ledger");
    format!("{host} {id}")
}

async fn echo(socket: UdpSocket, host: u8) {
    let mut heard = [0; 2048];
    while let Ok((n, from)) = socket.recv_from(&mut heard).await {
        if n >= 8 {
            let answer = [&heard[..8], &[host]].concat();
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

/// Plain QUIC with quinn's defaults, beside which nearmost is measured: datagrams as over UDP.
async fn quic(address: SocketAddr, host: u8) {
    let key = KeyPair::from_seed(Role::Node, &[host; 32]);
    let crypto = nearmost_wire::tls::server_config(&key, b"lab").expect("a key");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(config, (address.ip(), QUIC).into()).expect("bind QUIC");
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok(heard) = connection.read_datagram().await {
                let answer = [&heard[..], &[host]].concat();
                let _ = connection.send_datagram(answer.into());
            }
        });
    }
}

/// Sorts connections by what they begin with.
async fn accept(listener: TcpListener, web: mpsc::Sender<(TcpStream, SocketAddr)>, host: u8) {
    while let Ok((stream, from)) = listener.accept().await {
        let web = web.clone();
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let mut first = [0; 1];
            match stream.peek(&mut first).await {
                Ok(1) if first[0] == BLOCKS[0] => drop(blocks(stream, host).await),
                Ok(1) => drop(web.send((stream, from)).await),
                _ => {}
            }
        });
    }
}

async fn blocks(stream: TcpStream, host: u8) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut first = [0; BLOCKS.len()];
    read.read_exact(&mut first).await?;
    let mut all = Sha256::new();
    loop {
        let length = match read.read_u32().await {
            Ok(length) => (length as usize).min(MOST_BLOCK),
            // All was said, and all of it is answered.
            Err(_) => return write.shutdown().await,
        };
        let seq = read.read_u64().await?;
        let mut block = vec![0; length];
        read.read_exact(&mut block).await?;
        all.update(&block);
        let hash = all.clone().finalize();
        write.write_all(&[&seq.to_be_bytes()[..], &[host], &hash[..]].concat()).await?;
    }
}

/// Connections that speak HTTP.
struct Requests {
    requests: mpsc::Receiver<(TcpStream, SocketAddr)>,
    address: SocketAddr,
}

impl axum::serve::Listener for Requests {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match self.requests.recv().await {
            Some(request) => request,
            // The listener failed; there is nobody to serve any more.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}
