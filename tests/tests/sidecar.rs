//! Programs that know nothing of nearmost, through `nearmost connect` and real agents: what each mode keeps when
//! the agent of their mirror is killed.

use axum::Router;
use axum::http::Method;
use axum::routing::any;
use nearmost_tests::process::{Agent, Broker, binary, directory, service_config, terminate};
use nearmost_tests::service::game;
use nearmost_tests::{PATIENCE, Stopwatch};
use serde_json::Value;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;

const DOMAIN: &str = "play.example.com";
const INGRESS: u16 = 7850;

/// A web service that says who it is. Requests for `/held` are answered once it holds none.
struct Web {
    at: SocketAddr,
    holds: Arc<AtomicBool>,
    /// GETs and POSTs of `/held`.
    held: watch::Receiver<(usize, usize)>,
}

impl Web {
    async fn start(ip: &str, name: &'static str) -> Web {
        let listener = TcpListener::bind((ip, 0)).await.expect("bind");
        let at = listener.local_addr().expect("bound");
        let holds = Arc::<AtomicBool>::default();
        let (came, held) = watch::channel((0, 0));
        let holding = holds.clone();
        let answer = async move |method: Method| {
            came.send_modify(|(gets, posts)| match method {
                Method::POST => *posts += 1,
                _ => *gets += 1,
            });
            if holding.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            name
        };
        let router = Router::new().route("/held", any(answer)).fallback(async move || name);
        tokio::spawn(async move { axum::serve(listener, router).await.expect("serve") });
        Web { at, holds, held }
    }
}

/// An agent that takes clients in for a web service and a game beside it.
async fn mirror(broker: &Broker, dir: &Path, name: &'static str, ip: &str) -> (Agent, Web) {
    let service = Web::start(ip, name).await;
    let udp = game(service.at.ip(), name).await;
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", name]).await;
    assert!(Agent::join(dir, token.trim()).await.status.success());
    let mut settings = service_config(dir, DOMAIN, service.at);
    let with = format!("ingress = {{ udp = \"{ip}:{udp}\" }}, checks = [");
    settings.iter_mut().for_each(|s| *s = s.replace("checks = [", &with));
    settings.push("ingress.enabled=true".into());
    settings.push(format!("ingress.listen=[\"{ip}:{INGRESS}\"]"));
    (Agent::run(dir, &settings).await, service)
}

/// `nearmost connect`, and the lines of JSON that it says.
struct Sidecar {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    at: SocketAddr,
    /// To which mirror it attached.
    to: String,
}

impl Sidecar {
    async fn start(mode: &str, mirrors: &[String]) -> Sidecar {
        let mut command = Command::new(binary("nearmost"));
        command.args(["connect", DOMAIN, "--listen", "127.0.0.1:0", "--json", "--mode", mode]);
        for mirror in mirrors {
            command.args(["--mirror", mirror]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("start nearmost");
        let said = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut sidecar = Sidecar { child, said, at: ([0, 0, 0, 0], 0).into(), to: String::new() };
        sidecar.to = text(&sidecar.until("attached").await["to"]);
        sidecar.at = text(&sidecar.until("ready").await["listen"]).parse().expect("an address");
        sidecar
    }

    /// One that attached to this mirror. All are as near, so that it takes a few to find it.
    async fn at(to: &str, mode: &str, mirrors: &[String]) -> Sidecar {
        for _ in 0..30 {
            let sidecar = Sidecar::start(mode, mirrors).await;
            if sidecar.to == to {
                return sidecar;
            }
            sidecar.stop().await;
        }
        panic!("none of 30 sidecars went to {to}");
    }

    /// The next line about something; those before are read over.
    async fn until(&mut self, event: &str) -> Value {
        let read = async {
            loop {
                let line = self.said.next_line().await.expect("read").expect("it goes on");
                let value: Value = serde_json::from_str(&line).expect("a line of JSON");
                if value["event"] == event {
                    return value;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{event} in time"))
    }

    /// SIGTERM; what it counted.
    async fn stop(mut self) -> Value {
        terminate(&self.child);
        let ended = self.until("ended").await;
        let status =
            tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it stops").expect("wait");
        assert!(status.success(), "{status}");
        ended["counters"].clone()
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// What a browser would get.
async fn get(at: SocketAddr) -> String {
    let curl = Command::new("curl").args(["-sSf", "--max-time", "20", &format!("http://{at}/")]).output();
    let output = curl.await.expect("curl; `cargo xtask test` installs it");
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A request that a service may hold: all that is heard until the end.
async fn asked(at: SocketAddr, method: &str) -> String {
    let mut program = TcpStream::connect(at).await.expect("connect");
    let request = format!(
        "{method} /held HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    program.write_all(request.as_bytes()).await.expect("written");
    let mut heard = String::new();
    program.read_to_string(&mut heard).await.expect("an end in order");
    heard
}

/// Who answers over UDP; asked again while nothing comes.
async fn played(game: &UdpSocket) -> String {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let mut heard = [0; 1500];
    let asked = async {
        loop {
            tokio::select! {
                _ = again.tick() => drop(game.send(b"move").await),
                n = game.recv(&mut heard) => if let Ok(n) = n {
                    let said = String::from_utf8(heard[..n].to_vec()).expect("UTF-8");
                    return said.strip_suffix(" move").expect("what was said").to_owned();
                },
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("an answer")
}

#[tokio::test]
async fn programs_go_on_when_the_agent_of_their_mirror_is_killed() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
    let (one, first) = mirror(&broker, &dir.path().join("one"), "one", "127.0.51.1").await;
    let (two, second) = mirror(&broker, &dir.path().join("two"), "two", "127.0.51.2").await;
    broker.until("one", "up").await;
    broker.until("two", "up").await;
    let nodes = broker.fleet().await.nodes;
    let named = |(name, ip): (&str, &str)| {
        let node = nodes.iter().find(|n| n.name == name).expect("it joined");
        format!("{name}={}@{ip}", node.id.as_deref().expect("its key is known"))
    };
    let mirrors = [("one", "127.0.51.1"), ("two", "127.0.51.2")].map(named);
    let mut http = Sidecar::start("http", &mirrors).await;
    let udp = Sidecar::at(&http.to, "udp", &mirrors).await;
    let mut tcp = Sidecar::at(&http.to, "tcp", &mirrors).await;

    // All go to the one that will die.
    assert_eq!(get(http.at).await, http.to);
    let game = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    game.connect(udp.at).await.expect("connect");
    assert_eq!(played(&game).await, udp.to);
    let mut held = TcpStream::connect(tcp.at).await.expect("connect");
    let request = format!("GET / HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n");
    held.write_all(request.as_bytes()).await.expect("written");
    let mut heard = Vec::new();
    while !heard.ends_with(tcp.to.as_bytes()) {
        assert!(held.read_buf(&mut heard).await.expect("read") > 0, "it ended");
    }

    let (dies, lives, mut web, other) =
        if tcp.to == "one" { (one, "two", first, second) } else { (two, "one", second, first) };
    web.holds.store(true, Ordering::SeqCst);
    let asking = ["GET", "POST"].map(|method| tokio::spawn(asked(http.at, method)));
    let both = web.held.wait_for(|held| *held == (1, 1));
    tokio::time::timeout(PATIENCE, both).await.expect("in time").expect("it serves");
    let watch = Stopwatch::start();
    dies.kill().await;
    let end = tokio::time::timeout(PATIENCE, held.read(&mut [0; 10])).await.expect("in time");
    assert_eq!(end.expect_err("no end").kind(), ErrorKind::ConnectionReset);
    println!("reset {:?} after the kill", watch.elapsed());
    assert!(watch.elapsed() < Duration::from_secs(2));
    for sidecar in [&mut tcp, &mut http] {
        let moved = sidecar.until("moved").await;
        assert_eq!(text(&moved["to"]), lives);
        // A tripwire that was held for a moment only does not count, and then it is the silence.
        assert!(["tripwire", "silence"].contains(&&*text(&moved["reason"])), "{moved}");
    }
    let [safe, unsafe_] = asking;
    let safe = tokio::time::timeout(PATIENCE, safe).await.expect("in time").expect("no panic");
    assert!(safe.starts_with("HTTP/1.1 200") && safe.ends_with(lives), "asked again: {safe}");
    let lost = tokio::time::timeout(PATIENCE, unsafe_).await.expect("in time").expect("no panic");
    assert!(lost.starts_with("HTTP/1.1 502") && lost.contains("may have been carried out"), "{lost}");
    assert_eq!(*other.held.borrow(), (1, 0), "the GET came there, and the POST did not");
    assert_eq!(get(tcp.at).await, lives, "a new connection");
    for _ in 0..20 {
        assert_eq!(get(http.at).await, lives, "no request fails");
    }
    println!("20 requests answered {:?} after the kill", watch.elapsed());
    while played(&game).await != lives {}
    println!("played on {:?} after the kill", watch.elapsed());

    let counted = http.stop().await;
    assert_eq!((&counted["requests"], &counted["answered"]), (&23.into(), &22.into()), "{counted}");
    assert_eq!((&counted["retried"], &counted["unknown"]), (&1.into(), &1.into()), "{counted}");
    assert_eq!(udp.stop().await["flows_opened"], 1);
    assert_eq!(tcp.stop().await["broken"], 1);
    broker.stop().await;
}
