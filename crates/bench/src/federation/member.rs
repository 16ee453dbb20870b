//! Brokers that know each other.

use crate::broker::{self, Broker};
use anyhow::{Context, Result, bail};
use nearmost_client::Client;
use nearmost_wire::api::PeersResponse;
use std::fmt::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks at what a broker tells of its peers.
pub const LOOK: Duration = Duration::from_millis(20);
/// No tables of the world for brokers that nobody asks about it: they would only fill the machine.
const WITHOUT_GEO: &str = "geo.embedded=false";

/// A broker of the federation, whether it runs or not.
pub struct Member {
    /// Where it keeps what it holds.
    pub dir: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where others reach it.
    pub reached: SocketAddr,
    name: String,
    id: String,
    with_geo: bool,
}

impl Member {
    /// So many, with their keys made; the first is called `b0`.
    pub async fn several(root: &Path, count: usize) -> Result<Vec<Member>> {
        // All are bound before any is let go, so that no port is given twice.
        let sockets: Vec<UdpSocket> =
            (0..count).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let mut members = Vec::with_capacity(count);
        for (n, socket) in sockets.iter().enumerate() {
            let (name, listen) = (format!("b{n}"), socket.local_addr()?);
            let dir = root.join(&name);
            let id = broker::init(&dir).await.with_context(|| format!("the key of {name}"))?;
            members.push(Member { dir, listen, reached: listen, name, id, with_geo: n == 0 });
        }
        Ok(members)
    }

    /// With geo tables, as in production.
    pub fn with_geo(&mut self) {
        self.with_geo = true;
    }

    /// Starts it; it knows the others.
    pub async fn start<'m>(&self, others: impl IntoIterator<Item = &'m Member>) -> Result<Broker> {
        let mut peers = String::new();
        for other in others {
            writeln!(
                peers,
                "[[peers.peer]]\nid = {:?}\nname = {:?}\naddresses = [\"{}\"]\nadmin = true",
                other.id, other.name, other.reached
            )?;
        }
        std::fs::write(broker::config(&self.dir), peers).context("a broker's configuration")?;
        let mut settings = vec![
            format!("peers.listen=[\"{}\"]", self.listen),
            format!("peers.advertise=[\"{}\"]", self.reached),
            format!("peers.name={:?}", self.name),
        ];
        if !self.with_geo {
            settings.push(WITHOUT_GEO.into());
        }
        Broker::start(&self.dir, &settings).await.with_context(|| format!("broker {}", self.name))
    }

    /// Has it forget all that it holds but its keys, while it is stopped.
    pub fn forget(&self) -> Result<()> {
        std::fs::remove_file(self.dir.join("broker/registry.redb")).context("the broker's registry")
    }
}

/// How many peers a broker is connected with.
pub fn up(told: &PeersResponse) -> usize {
    told.peers.iter().filter(|peer| peer.state == "up").count()
}

/// What a broker holds, as two hashes.
pub fn digests(told: &PeersResponse) -> (&str, &str) {
    (&told.rights_digest, &told.digest)
}

/// Waits until each is connected with at least so many peers and all hold the same.
pub async fn settled(clients: &[Client], peers: usize, patience: Duration) -> Result<()> {
    let wait = async {
        loop {
            let mut told = Vec::with_capacity(clients.len());
            for client in clients {
                told.push(client.peers().await?);
            }
            let first = told.first().map(digests);
            if told.iter().all(|one| up(one) >= peers && Some(digests(one)) == first) {
                return Ok(());
            }
            tokio::time::sleep(10 * LOOK).await;
        }
    };
    match tokio::time::timeout(patience, wait).await {
        Ok(done) => done,
        Err(_) => {
            let mut states = String::new();
            for client in clients {
                let told = client.peers().await?;
                write!(states, " {}/{}", up(&told), told.statements)?;
            }
            bail!("not all brokers are connected and equal; peers up/statements:{states}")
        }
    }
}
