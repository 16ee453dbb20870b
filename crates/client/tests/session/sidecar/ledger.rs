//! Requests at random while mirrors and services die at every point of them: each service keeps a ledger of
//! what it carried out, and nothing unsafe is ever in it twice.

use super::http::{settings, sidecar};
use super::site::{Answered, Site, half, whole};
use super::{Running, streams};
use crate::mirror::Mirror;
use crate::world::{settled, soon};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nearmost_client::session::Session;
use nearmost_client::sidecar::Count;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::StreamExt;

/// Enough that some have not died of late: who did is shunned for longer each time.
const MIRRORS: usize = 8;

/// How long one looks at a primary that may be left.
const CALM: Duration = Duration::from_secs(2);

/// What happens to a request when it first comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Its head was read.
    Before(By),
    /// It was carried out, and not answered.
    After(By),
    /// Its answer began.
    MidBody(By),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Mirror,
    Service,
}

#[derive(Default)]
struct Ledger {
    /// At which mirrors a request was carried out.
    carried: Mutex<HashMap<u64, Vec<usize>>>,
    faults: Mutex<HashMap<u64, Fault>>,
}

impl Ledger {
    fn times(&self, id: u64) -> usize {
        self.carried.lock().unwrap().get(&id).map_or(0, Vec::len)
    }
}

/// The service of one mirror, which kills it by telling its number.
fn site(n: usize, ledger: Arc<Ledger>, kills: mpsc::UnboundedSender<usize>) -> Arc<Site> {
    Site::new(move |request| carry_out(n, request, ledger.clone(), kills.clone()))
}

async fn carry_out(
    n: usize,
    request: Request<Incoming>,
    ledger: Arc<Ledger>,
    kills: mpsc::UnboundedSender<usize>,
) -> Answered {
    let id: u64 = request.uri().path()[1..].parse().unwrap();
    let fault = ledger.faults.lock().unwrap().remove(&id);
    let dies = async |by| match by {
        By::Mirror => {
            let _ = kills.send(n);
            std::future::pending().await
        }
        By::Service => io::Error::other("closed"),
    };
    if let Some(Fault::Before(by)) = fault {
        return Err(dies(by).await);
    }
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    ledger.carried.lock().unwrap().entry(id).or_default().push(n);
    match fault {
        Some(Fault::After(by)) => Err(dies(by).await),
        Some(Fault::MidBody(By::Service)) => half(true),
        Some(Fault::MidBody(By::Mirror)) => {
            let _ = kills.send(n);
            half(false)
        }
        Some(Fault::Before(_)) | None => whole([&b"did "[..], &body].concat()),
    }
}

/// What a program saw.
#[derive(Debug)]
enum Saw {
    Whole(StatusCode, String, Bytes),
    /// An answer that began and broke off. A reset may overtake what came before it.
    Cut,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u64,
    method: &'static str,
    key: bool,
    /// The body's length is not said, so that it is handed on as it comes.
    flows: bool,
    h2: bool,
}

type Sent = BoxBody<Bytes, Infallible>;

impl Asked {
    fn is_repeatable(self) -> bool {
        !self.flows && (self.key || !self.has_body())
    }

    fn has_body(self) -> bool {
        !["GET", "HEAD", "OPTIONS"].contains(&self.method)
    }

    fn request(self) -> Request<Sent> {
        let request = Request::builder().method(self.method).uri(format!("http://a/{}", self.id));
        let request = request.header("host", "a");
        let request = if self.key { request.header("idempotency-key", self.id) } else { request };
        let body = if self.has_body() { Full::from(self.id.to_string()) } else { Full::default() };
        request
            .body(if self.flows {
                StreamBody::new(body.into_data_stream().map(|data| data.map(Frame::data))).boxed()
            } else {
                body.boxed()
            })
            .unwrap()
    }

    async fn send(self, sidecar: std::net::SocketAddr) -> hyper::Result<Response<Incoming>> {
        let io = TokioIo::new(TcpStream::connect(sidecar).await.unwrap());
        if self.h2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            return sender.send_request(self.request()).await;
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        sender.send_request(self.request()).await
    }

    async fn ask(self, sidecar: std::net::SocketAddr) -> Saw {
        let response = match self.send(sidecar).await {
            Ok(response) => response,
            Err(_) => return Saw::Cut,
        };
        let status = response.status();
        let known = response.headers().get("proxy-status").map(|v| v.to_str().unwrap().to_owned());
        match response.into_body().collect().await {
            Ok(body) => Saw::Whole(status, known.unwrap_or_default(), body.to_bytes()),
            Err(_) => Saw::Cut,
        }
    }

    /// What must be true of what was seen, beside the ledger.
    fn check(self, saw: &Saw, fault: Option<Fault>, killed: bool, ledger: &Ledger) {
        let times = ledger.times(self.id);
        let story =
            format!("{self:?} {fault:?}, a mirror died: {killed}, carried out {times} times: {saw:?}");
        assert!(times <= 1 || self.is_repeatable(), "twice: {story}");
        match saw {
            Saw::Whole(StatusCode::OK, _, body) => {
                let did = if self.has_body() { self.id.to_string() } else { String::new() };
                let right = self.method == "HEAD" || body[..] == *format!("did {did}").as_bytes();
                assert!(times >= 1 && right, "{story}");
            }
            Saw::Whole(StatusCode::BAD_GATEWAY, known, body) => {
                assert!(!self.is_repeatable(), "a mirror lives: {story}");
                let text = String::from_utf8_lossy(body);
                match known.contains("destination_unavailable") {
                    true => assert!(times == 0 && text.contains("was not carried out"), "{text} {story}"),
                    false => assert!(text.contains("may have been carried out"), "{text} {story}"),
                }
            }
            Saw::Cut => assert!(killed || matches!(fault, Some(Fault::MidBody(_))), "{story}"),
            Saw::Whole(..) => panic!("{story}"),
        }
    }
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn ask(&mut self, id: u64) -> Asked {
        const METHODS: [&str; 8] = ["GET", "GET", "HEAD", "OPTIONS", "POST", "POST", "PUT", "DELETE"];
        let method = METHODS[self.below(8) as usize];
        let has_body = !["GET", "HEAD", "OPTIONS"].contains(&method);
        let key = has_body && self.below(3) == 0;
        let flows = has_body && self.below(4) == 0;
        Asked { id, method, key, flows, h2: self.below(3) == 0 }
    }

    fn fault(&mut self, by: By) -> Fault {
        match self.below(3) {
            0 => Fault::Before(by),
            1 => Fault::After(by),
            _ => Fault::MidBody(by),
        }
    }
}

struct Scene {
    mirrors: Vec<Mirror>,
    sites: Vec<Arc<Site>>,
    ledger: Arc<Ledger>,
    killed: mpsc::UnboundedReceiver<usize>,
    /// Answers that broke off.
    cuts: u64,
}

impl Scene {
    /// Four requests at once; at most one mirror dies of them. How many did.
    async fn batch(&mut self, dice: &mut Dice, first: u64, sidecar: &Running, session: &Session) -> usize {
        let kills = dice.below(4) == 0;
        let mut asked = Vec::new();
        for id in first..first + 4 {
            let fault = match (id == first && kills, dice.below(4)) {
                (true, _) => Some(dice.fault(By::Mirror)),
                (false, 0) => Some(dice.fault(By::Service)),
                (false, _) => None,
            };
            fault.map(|fault| self.ledger.faults.lock().unwrap().insert(id, fault));
            asked.push((dice.ask(id), fault));
        }
        if dice.below(4) == 0 {
            self.sites[dice.below(MIRRORS as u64) as usize].refuses.store(1, Ordering::SeqCst);
        }
        let mut asking = JoinSet::new();
        for (ask, fault) in asked {
            let address = sidecar.address;
            asking.spawn(async move { (ask, fault, ask.ask(address).await) });
        }
        let (mut dead, mut saw) = (Vec::new(), Vec::new());
        let all = async {
            while saw.len() < 4 {
                tokio::select! {
                    done = asking.join_next() => saw.push(done.unwrap().unwrap()),
                    Some(n) = self.killed.recv() => {
                        self.mirrors[n].kill();
                        dead.push(n);
                    }
                }
            }
        };
        soon(all).await;
        for (ask, fault, saw) in saw {
            self.cuts += u64::from(matches!(saw, Saw::Cut));
            ask.check(&saw, fault, kills, &self.ledger);
        }
        self.sites.iter().for_each(|site| site.refuses.store(0, Ordering::SeqCst));
        for n in &dead {
            self.mirrors[*n] = soon(self.mirrors[*n].again()).await;
        }
        // A mirror may just be left, and then it is the primary no longer.
        soon(async { while timeout(CALM, settled(session, &self.mirrors)).await.is_err() {} }).await;
        dead.len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_unsafe_is_carried_out_twice_and_all_that_is_safe_succeeds() {
    let (kills, killed) = mpsc::unbounded_channel();
    let ledger = Arc::<Ledger>::default();
    let sites: Vec<_> = (0..MIRRORS).map(|n| site(n, ledger.clone(), kills.clone())).collect();
    let mirrors: Vec<_> = (1..).zip(&sites).map(|(seed, site)| Mirror::serving(seed, site.clone())).collect();
    let (session, ..) = streams(&mirrors).await;
    let mut with = settings();
    with.idempotency_keys = true;
    let sidecar = sidecar(&session, with).await;
    let mut scene = Scene { mirrors, sites, ledger, killed, cuts: 0 };
    let mut dice = Dice(20_261_129);
    let mut deaths = 0;
    for batch in 0..40 {
        deaths += scene.batch(&mut dice, batch * 4, &sidecar, &session).await;
    }
    let counted: Vec<_> = sidecar.counters.named().collect();
    println!("160 requests, {deaths} deaths of mirrors: {counted:?}");
    assert!(deaths >= 5 && sidecar.counters.get(Count::Retried) > 10);
    assert!(sidecar.counters.get(Count::Unknown) > 0 && scene.cuts > 0);
    // Nothing else breaks a connection.
    assert_eq!(sidecar.counters.get(Count::Cut), scene.cuts);
    sidecar.stop().await;
}
