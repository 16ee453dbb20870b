//! A web service behind the streams of a mirror.

use crate::mirror::Service;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nearmost_wire::ingress::flow::{OpenAnswer, OpenError};
use quinn::{RecvStream, SendStream};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_stream::wrappers::ReceiverStream;

pub type Body = BoxBody<Bytes, io::Error>;
pub type Answered = Result<Response<Body>, io::Error>;
type Answering = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// An error instead of an answer closes the connection.
pub struct Site {
    handler: Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>,
    /// So many connections are refused first.
    pub refuses: AtomicUsize,
    pub opened: AtomicUsize,
    pub asked: Arc<AtomicUsize>,
}

impl Site {
    pub fn new<F: Future<Output = Answered> + Send + 'static>(
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Arc<Site> {
        let handler = Arc::new(move |request| Box::pin(handler(request)) as Answering);
        Arc::new(Site {
            handler,
            refuses: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            asked: Arc::default(),
        })
    }
}

impl Service for Site {
    fn open(&self) -> OpenAnswer {
        match self.refuses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => OpenAnswer::Failed { code: OpenError::Refused },
            Err(_) => OpenAnswer::Opened,
        }
    }

    fn serve(&self, send: SendStream, recv: RecvStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let (handler, asked) = (self.handler.clone(), self.asked.clone());
        Box::pin(async move {
            let io = TokioIo::new(tokio::io::join(recv, send));
            let served = service_fn(move |request| {
                asked.fetch_add(1, Ordering::SeqCst);
                handler(request)
            });
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(io, served).with_upgrades().await;
        })
    }
}

pub fn whole(body: impl Into<Bytes>) -> Answered {
    Ok(Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed()))
}

/// The beginning of a body of 100 bytes, and what comes then: the end of the connection, or nothing.
pub fn half(ends: bool) -> Answered {
    let (more, frames) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let _ = more.send(Ok(Frame::data(Bytes::from_static(b"half")))).await;
        if !ends {
            return std::future::pending().await;
        }
        // The first half leaves before the end comes.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let _ = more.send(Err(io::Error::other("closed"))).await;
    });
    let mut response = Response::new(StreamBody::new(ReceiverStream::new(frames)).boxed());
    response.headers_mut().insert("content-length", "100".parse().unwrap());
    Ok(response)
}
