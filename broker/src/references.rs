//! Probes the broker's reference addresses when its fleet doubts whether the broker itself is connected.
//!
//! A reference answers when a TCP connection to it is accepted or refused: either way a packet came
//! back. All are asked at once; what is not there within a second and a half does not answer.

use crate::driver::{DriverHandle, DriverInput};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long a reference may take to answer: one lost packet is sent again within it.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// The configured addresses.
#[derive(Clone, Default)]
pub struct References(Arc<[SocketAddr]>);

impl References {
    /// These.
    pub fn new(addresses: &[SocketAddr]) -> References {
        References(addresses.into())
    }

    /// Asks all of them; `driver` is told how many answered, as soon as one has or all have not.
    pub fn ask(&self, driver: DriverHandle) {
        let mut asked: JoinSet<bool> = self.0.iter().map(|address| answers(*address)).collect();
        tokio::spawn(async move {
            let mut answered = 0;
            while let Some(result) = asked.join_next().await {
                if matches!(result, Ok(true)) {
                    answered = 1;
                    break;
                }
            }
            driver.send(DriverInput::References { answered }).await;
        });
    }
}

async fn answers(address: SocketAddr) -> bool {
    match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver;

    async fn told(addresses: &[SocketAddr]) -> u32 {
        let (handle, mut inputs) = driver::channel();
        References::new(addresses).ask(handle);
        match inputs.recv().await {
            Some(DriverInput::References { answered }) => answered,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn accepted_and_refused_are_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let accepts = listener.local_addr().unwrap();
        assert_eq!(told(&[accepts]).await, 1);
        drop(listener);
        assert_eq!(told(&[accepts]).await, 1, "refused");
        assert_eq!(told(&[]).await, 0);
    }
}
