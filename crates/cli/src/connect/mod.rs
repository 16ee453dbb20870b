//! A sidecar for programs that know nothing of nearmost.

mod args;
mod lines;
mod tell;

pub use args::ConnectArgs;

use anyhow::{Context as _, bail};
use args::{MirrorArg, ModeArg};
use nearmost_client::Endpoint;
use nearmost_client::session::{Builder, FailureDomain, Known, Mode, Session};
use nearmost_client::sidecar::{Counters, Notice, Notices, http, notices, tcp, udp};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tell::Teller;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// Listens, attaches, and serves until it is told to end. `url` is of a broker to ask.
pub async fn run(args: ConnectArgs, url: Option<Endpoint>, json: bool) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let (listening, at) =
        Listening::bind(&args).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let builder = with_mirrors(Session::builder(&args.domain), &args, url)?.mode(mode(&args));
    let session = tokio::select! {
        session = builder.connect() => session?,
        // Nothing was served yet.
        () = signals.next() => return Ok(()),
    };
    let teller = Teller::new(json, &args.mirrors, session.clone())?;
    let events = session.events();
    if let Some(primary) = session.primary() {
        teller.attached(primary);
    }
    teller.ready(&at, label(args.mode), &args.domain);
    let counters = Arc::<Counters>::default();
    let (to, notices) = notices();
    let (stop, stopped) = watch::channel(false);
    let serving = listening.serve(&args, session.clone(), counters.clone(), to, stopped);
    let told = Told { teller: &teller, events, notices };
    let ended = told.until(serving, &mut signals, stop).await;
    tokio::select! {
        () = session.close() => {}
        () = signals.next() => {}
    }
    teller.ended(&counters).await;
    ended
}

/// Where the session's mirrors come from.
fn with_mirrors(mut builder: Builder, args: &ConnectArgs, url: Option<Endpoint>) -> anyhow::Result<Builder> {
    // Whoever names mirrors means machines that do not fail together.
    let known = |(site, mirror): (u64, &MirrorArg)| {
        let mut known = Known::new(&mirror.node.to_string(), vec![mirror.at.ip()])?;
        known.port = mirror.at.port();
        known.name = mirror.name.clone();
        known.domain = FailureDomain { site, ..FailureDomain::default() };
        anyhow::Ok(known)
    };
    for mirror in (1..).zip(&args.mirrors).map(known) {
        builder = builder.mirror(mirror?);
    }
    builder = args.ask.iter().fold(builder, |builder, broker| builder.broker(broker.clone()));
    if let Some(token) = &args.via {
        builder = builder.token(token);
    }
    if let Some(url) = url {
        builder = builder.url(url);
    }
    Ok(match args.owner {
        Some(owner) => builder.owner(owner),
        None => builder,
    })
}

fn mode(args: &ConnectArgs) -> Mode {
    match args.mode {
        ModeArg::Udp => Mode::Datagram(args.duplicate.into()),
        ModeArg::Tcp | ModeArg::Http => Mode::Stream,
    }
}

fn label(mode: ModeArg) -> &'static str {
    match mode {
        ModeArg::Udp => "udp",
        ModeArg::Tcp => "tcp",
        ModeArg::Http => "http",
    }
}

enum Listening {
    Udp(UdpSocket),
    Tcp(TcpListener),
}

impl Listening {
    /// Listens, and says where.
    async fn bind(args: &ConnectArgs) -> std::io::Result<(Listening, String)> {
        let (listening, at) = match args.mode {
            ModeArg::Udp => {
                let socket = UdpSocket::bind(args.listen).await?;
                let at = socket.local_addr()?;
                (Listening::Udp(socket), at)
            }
            ModeArg::Tcp | ModeArg::Http => {
                let listener = TcpListener::bind(args.listen).await?;
                let at = listener.local_addr()?;
                (Listening::Tcp(listener), at)
            }
        };
        Ok((listening, at.to_string()))
    }

    fn serve(
        self,
        args: &ConnectArgs,
        session: Session,
        counters: Arc<Counters>,
        notices: Notices,
        mut stopped: watch::Receiver<bool>,
    ) -> Serving {
        // Its sender lives until it is told.
        let stop = async move { drop(stopped.wait_for(|stop| *stop).await) };
        let most = args.most.map(|most| most as usize);
        let mut port = tcp::Settings::default();
        port.most_connections = most.unwrap_or(port.most_connections);
        match self {
            Listening::Udp(socket) => {
                let mut settings = udp::Settings::default();
                settings.idle = Duration::from_secs(args.idle.into());
                settings.most_flows = most.unwrap_or(settings.most_flows);
                Box::pin(udp::serve(socket, session, settings, counters, notices, stop))
            }
            Listening::Tcp(listener) if args.mode == ModeArg::Http => {
                let settings = http::Settings {
                    port,
                    domain: args.domain.clone(),
                    idempotency_keys: args.idempotency_keys,
                    patience: http::PATIENCE,
                };
                Box::pin(http::serve(listener, session, settings, counters, notices, stop))
            }
            Listening::Tcp(listener) => {
                Box::pin(tcp::serve(listener, session, port, counters, notices, stop))
            }
        }
    }
}

/// What is told while it serves.
struct Told<'a> {
    teller: &'a Teller,
    events: nearmost_client::session::Events,
    notices: mpsc::Receiver<Notice>,
}

impl Told<'_> {
    /// Tells what happens until all has ended; the first signal begins that, a second one breaks it off.
    async fn until(
        mut self,
        mut serving: Serving,
        signals: &mut Signals,
        stop: watch::Sender<bool>,
    ) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = &mut serving => return Ok(()),
                event = self.events.next() => match event {
                    Some(event) => self.teller.event(event),
                    None => bail!("the session ended"),
                },
                Some(notice) = self.notices.recv() => self.teller.notice(&notice),
                () = signals.next() => if stop.send_replace(true) { return Ok(()) },
            }
        }
    }
}

/// Ctrl-C and SIGTERM.
struct Signals(Signal, Signal);

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}
