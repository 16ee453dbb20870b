//! UDP sockets that are read many datagrams at a time (`recvmmsg` and UDP GRO, by quinn-udp).

use quinn_udp::{RecvMeta, UdpSocketState};
use std::io::{self, IoSliceMut};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Room for one read: the kernel may join datagrams of one sender up to this (UDP GRO).
pub(crate) const MAX_READ: usize = 65_535;

/// A bound socket with what the kernel tells beside datagrams.
#[derive(Debug)]
pub(crate) struct BatchedSocket {
    pub(crate) io: UdpSocket,
    pub(crate) state: UdpSocketState,
}

impl BatchedSocket {
    /// Prepares a bound socket. Must be called inside a tokio runtime.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<BatchedSocket> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(BatchedSocket { io: UdpSocket::from_std(socket)?, state })
    }

    /// Reads what is there into at most `READS` buffers; how many were used.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; else what the system says.
    pub(crate) fn read<const READS: usize>(
        &self,
        buffers: &mut [Vec<u8>],
        meta: &mut [RecvMeta; READS],
    ) -> io::Result<usize> {
        let mut slices = buffers.iter_mut().map(|b| IoSliceMut::new(b));
        let mut slices: [IoSliceMut<'_>; READS] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), &mut slices, meta))
    }
}

/// The datagrams of one read: all of one length but the last. An empty datagram is one, too.
pub(crate) fn datagrams<'b>(buffer: &'b [u8], meta: &RecvMeta) -> impl Iterator<Item = &'b [u8]> {
    let read = buffer.get(..meta.len).unwrap_or_default();
    let empty = read.is_empty().then_some(read);
    read.chunks(meta.stride.max(1)).chain(empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_datagrams_come_apart() {
        let split = |len, stride| {
            let meta = RecvMeta { len, stride, ..RecvMeta::default() };
            datagrams(b"abcdefgh", &meta).collect::<Vec<_>>()
        };
        assert_eq!(split(5, 2), [&b"ab"[..], b"cd", b"e"]);
        assert_eq!(split(4, 4), [&b"abcd"[..]]);
        assert_eq!(split(0, 0), [&b""[..]]);
    }
}
