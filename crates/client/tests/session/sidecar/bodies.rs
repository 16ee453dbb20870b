//! HTTP bodies and what frames them, through services that say exactly what they are told to.

use super::http::{settings, sidecar};
use super::{Running, streams};
use crate::mirror::{Mirror, Service};
use crate::world::soon;
use nearmost_client::sidecar::Count;
use nearmost_wire::ingress::flow::OpenAnswer;
use quinn::{RecvStream, SendStream};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Says the same whenever a request is whole, and keeps what it heard.
struct Raw {
    /// How a request ends.
    until: &'static str,
    says: &'static str,
    heard: Arc<Mutex<String>>,
}

impl Service for Raw {
    fn open(&self) -> OpenAnswer {
        OpenAnswer::Opened
    }

    fn serve(&self, mut send: SendStream, mut recv: RecvStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (until, says, all) = (self.until, self.says, self.heard.clone());
        Box::pin(async move {
            let mut request = String::new();
            while let Ok(Some(chunk)) = recv.read_chunk(4096, true).await {
                request.push_str(std::str::from_utf8(&chunk.bytes).expect("UTF-8"));
                if request.ends_with(until) {
                    all.lock().unwrap().push_str(&std::mem::take(&mut request));
                    let _ = send.write_all(says.as_bytes()).await;
                }
            }
            let _ = send.finish();
            let _ = send.stopped().await;
        })
    }
}

struct Scene {
    _mirrors: Vec<Mirror>,
    sidecar: Running,
    heard: Arc<Mutex<String>>,
}

async fn scene(until: &'static str, says: &'static str) -> Scene {
    let heard = Arc::<Mutex<String>>::default();
    let raw = |seed| Mirror::serving(seed, Arc::new(Raw { until, says, heard: heard.clone() }));
    let mirrors: Vec<_> = (1..3).map(raw).collect();
    let (session, ..) = streams(&mirrors).await;
    let sidecar = sidecar(&session, settings()).await;
    Scene { _mirrors: mirrors, sidecar, heard }
}

impl Scene {
    async fn program(&self) -> TcpStream {
        TcpStream::connect(self.sidecar.address).await.unwrap()
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().to_lowercase()
    }
}

/// Says a request and reads until something is heard.
async fn asked(program: &mut TcpStream, says: &str, until: &str) -> String {
    program.write_all(says.as_bytes()).await.unwrap();
    let mut heard = String::new();
    let mut bytes = [0; 4096];
    while !heard.contains(until) {
        let n = soon(program.read(&mut bytes)).await.unwrap();
        assert!(n > 0, "it ended: {heard}");
        heard.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
    }
    heard
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn an_answer_with_trailers_is_whole_and_its_connection_goes_on() {
    let says = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
                3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";
    let scene = scene("\r\n\r\n", says).await;
    let mut program = scene.program().await;
    for n in 1..4 {
        let heard = asked(&mut program, GET, "\r\n0\r\n\r\n").await;
        assert!(heard.contains("abc"), "{heard}");
        scene.sidecar.counted(Count::Answered, n).await;
    }
    assert_eq!(scene.sidecar.counters.get(Count::GivenUp), 0);
    scene.sidecar.stop().await;
}
