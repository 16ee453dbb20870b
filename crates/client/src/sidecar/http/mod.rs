//! An HTTP port: HTTP/1.1 and, in clear text, h2 from programs; HTTP/1.1 to the service at the mirror that is
//! the primary when a request comes. It is a gateway in the sense of RFC 9110 §3.7: to programs it is the
//! server.
//!
//! | file | its part |
//! |---|---|
//! | `headers` | what is changed in a message, and what is refused |
//! | `retry` | whether a request may be sent again |
//! | `forward` | one request, to its answer or to words that say why there is none |
//! | `upstream` | connections to the service, one request at a time each; those that wait |
//! | `body` | bodies both ways |
//! | `local` | the socket of a program's connection |
//! | `program` | a program's connection, and what is under way on it |
//! | `tunnel` | what becomes of a connection that changes its protocol |
//!
//! **Kept.** A request is carried out at most once unless it is one that may be repeated (`retry`): its method
//! is safe, or it carries an `Idempotency-Key` and [`Settings::idempotency_keys`] says that the service honours
//! it. What is sent again goes to the mirror that the session has
//! moved to. An answer is whole or visibly cut: the connection, or the stream of h2, is reset.
//!
//! **Can be lost.** The answer of an unsafe request whose mirror or service died: the program gets 502 with a
//! text that says whether the request may have been carried out. An answer that began is not asked for again.
//! A body that is longer than 64 KiB, or whose length is not said, is handed on as it comes and sent once.
//!
//! **The service replicates** whatever one request leaves for the next: sessions, carts, uploads, and the keys
//! it has seen, if it honours `Idempotency-Key`.
//!
//! **Changed on the way.** Fields of one connection are taken off (RFC 9110 §7.6.1), `Via` is added to
//! requests, `Host` is kept. No `X-Forwarded-For` is made up: the mirror tells its service who connects.
//! `Expect: 100-continue` is met here, as a gateway may (RFC 9110 §10.1.1); other expectations get 417. The
//! service's own interim answers (1xx) are not handed on, nor is server push. `CONNECT` is refused with 501,
//! since this is no way to other servers. `Upgrade` over HTTP/1.1, as of WebSocket, becomes a tunnel with what
//! `tcp` promises of connections: it stays with its mirror and is reset when that dies.
//! `h2c` is not asked for on behalf of a program. Requests with another transfer coding than `chunked` get 501,
//! and such answers become 502; a `Content-Length` beside it is taken off (RFC 9112 §6.3). A name and password
//! in a target are not handed on.
//!
//! **Ends.** A program that closes its side before it has the answer gives its request up, as with most
//! servers: half-close is no way to say that a request is whole.
//!
//! **Times.** A connection without a request under way is closed after [`Settings::patience`], and a head or a
//! short body has as long to come. A way to the service is looked for during 8 s, tries begin within 15 s, and an answer may take
//! as long as it takes: it is the session that finds out that a mirror is dead.
//!
//! **Bounds.** [`tcp::Settings::most_connections`] of programs, 128 requests at a time on one of h2, heads of
//! 64 KiB, 64 waiting connections to the service, 64 KiB of a body kept and 64 MiB of all: beyond that bodies
//! are handed on as they come.

mod body;
mod forward;
mod headers;
mod local;
mod program;
mod retry;
mod tunnel;
mod upstream;

use super::count::{Count, Counters};
use super::notice::Notices;
use super::tcp::{self, Port};
use crate::session::Session;
use body::Room;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use local::Local;
use program::Program;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use upstream::Pool;

/// [`Settings::patience`] unless somebody wants another.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// For how long a program may take to end an idle connection that was called closed.
const FAREWELL: Duration = Duration::from_secs(1);
/// A connection of h2 is asked this often whether its program is there, and it has as long to say so.
const ALIVE: Duration = Duration::from_secs(20);
/// Bytes of a head.
const HEAD: u32 = 64 * 1024;
/// Requests at a time on one connection of h2.
const STREAMS: u32 = 128;
/// Waiting connections are looked through this often.
const TIDY: Duration = Duration::from_secs(5);

/// What a port takes and does.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The port itself.
    pub port: tcp::Settings,
    /// The domain, for requests that name none.
    pub domain: String,
    /// The service honours `Idempotency-Key`: what carries one may be sent again.
    pub idempotency_keys: bool,
    /// For how long a connection may have no request under way, and a head or a short body may take to come.
    pub patience: Duration,
}

/// What all requests share.
struct Gateway {
    session: Session,
    settings: Settings,
    pool: Arc<Pool>,
    room: Room,
    counters: Arc<Counters>,
    notices: Notices,
}

/// Serves until `stop`, then lets what is under way end for the grace and breaks off what is left.
pub async fn serve(
    listener: TcpListener,
    session: Session,
    settings: Settings,
    counters: Arc<Counters>,
    notices: Notices,
    stop: impl Future<Output = ()>,
) {
    let port =
        Port { listener, settings: settings.port, counters: counters.clone(), notices: notices.clone() };
    let gateway = Arc::new(Gateway {
        session,
        settings,
        pool: Arc::default(),
        room: Room::default(),
        counters,
        notices,
    });
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let serve = |local| connection(local, gateway.clone(), stopped.clone());
    tokio::select! {
        () = port.accept(&mut connections, serve, stop) => {}
        () = tidy(&gateway) => {}
    }
    stopping.send_replace(true);
    port.finish(connections).await;
}

/// Keeps no connection to a mirror that was left, since it would wait for it. Until the session ends.
async fn tidy(gateway: &Gateway) {
    let mut events = gateway.session.events();
    loop {
        if let Ok(None) = tokio::time::timeout(TIDY, events.next()).await {
            return;
        }
        gateway.pool.tidy(gateway.session.primary());
    }
}

async fn connection(local: TcpStream, gateway: Arc<Gateway>, mut stopped: watch::Receiver<bool>) {
    // Without it an answer only leaves later.
    let _ = local.set_nodelay(true);
    let program = Program::new(Local::new(local));
    let mut builder = Builder::new(TokioExecutor::new());
    let patience = gateway.settings.patience;
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(HEAD as usize);
    builder.http1().max_headers(upstream::FIELDS);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS).max_header_list_size(HEAD);
    builder.http2().keep_alive_interval(ALIVE).keep_alive_timeout(ALIVE);
    let service = service_fn(|request| {
        let (gateway, program) = (gateway.clone(), program.clone());
        async move { Ok::<_, Infallible>(forward::forward(gateway, program, request).await) }
    });
    let io = TokioIo::new(program.local.clone());
    let mut serving = Box::pin(builder.serve_connection_with_upgrades(io, service));
    let stop = async {
        // Its sender outlives this.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = stop => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        // Also whoever has not even said which version it speaks, which hyper waits for.
        () = program.idle(patience) => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut serving => ended,
                () = program.idle(FAREWELL) => Ok(()),
            }
        }
    };
    if let Err(error) = &ended {
        // What else went wrong was counted with its request.
        let error = error.downcast_ref::<hyper::Error>();
        if error.is_some_and(hyper::Error::is_parse) {
            gateway.counters.add(Count::Bad);
        }
        if error.is_some_and(|error| error.is_parse() || error.is_timeout()) {
            program.local.ends();
        }
    }
    if let Some(tunnel) = program.tunnel() {
        gateway.counters.add(tunnel.run(program.local.tcp()).await);
    }
}
