//! The UDP socket under an endpoint: large buffers, batches the kernel takes,
//! and a word when the peer's host says that nobody listens.
//!
//! Never reads a packet. Always: a batch of segments fits into one UDP
//! message, because quinn drops a batch that does not without a word.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

use crate::quic::MTU_BYTES_MAX;

/// Largest payload of one UDP message over IPv4.
const UDP_PAYLOAD_BYTES_MAX: usize = 65_507;
/// Smaller kernel buffers lose packets in bulk transfers (thousands a run with the default of 208 KiB).
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Segments of the largest size in one message: 7. More would be refused by the kernel and dropped in silence.
const SEGMENTS_MAX: usize = UDP_PAYLOAD_BYTES_MAX / MTU_BYTES_MAX as usize;
/// Buffer room for one received batch: it holds 64 KiB whatever the size of its segments.
const RECEIVE_SEGMENTS_MAX: usize = (64 << 10) / MTU_BYTES_MAX as usize + 1;

static CLAMPED: Once = Once::new();

/// A UDP socket as quinn wants it.
pub(crate) struct UdpSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    refused: Notify,
    /// Dropped with the socket, when the last task of its endpoint has ended.
    open: watch::Sender<()>,
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("UdpSocket").field("io", &self.io).finish_non_exhaustive()
    }
}

impl UdpSocket {
    /// Binds `address`. With `peer`, packets come from there only, and [`Self::refused`] tells when nobody listens there.
    pub(crate) fn bind(address: SocketAddr, peer: Option<SocketAddr>) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(address)?;
        if let Some(peer) = peer {
            socket.connect(peer)?;
        }
        let state = UdpSocketState::new((&socket).into())?;
        state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)?;
        state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES)?;
        warn_when_clamped(&socket, &state)?;
        let io = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Self { io, state, refused: Notify::new(), open: watch::Sender::new(()) })
    }

    /// Its sender is dropped when the socket is closed and the port is free again.
    pub(crate) fn open(&self) -> watch::Receiver<()> {
        self.open.subscribe()
    }

    /// Waits until the peer's host answers that the port is closed (its process is gone). One task may wait at a time.
    pub(crate) async fn refused(&self) {
        loop {
            tokio::select! {
                // Seen while sending or receiving.
                () = self.refused.notified() => return,
                ready = self.io.ready(Interest::ERROR) => {
                    match self.io.take_error() {
                        Ok(Some(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return,
                        Ok(_) | Err(_) if ready.is_ok() => {}
                        // The runtime is going away: nothing will be told any more.
                        Ok(_) | Err(_) => return std::future::pending().await,
                    }
                    // The error was taken: wait for the next one.
                    let _: io::Result<()> = self.io.try_io(Interest::ERROR, || Err(io::ErrorKind::WouldBlock.into()));
                }
            }
        }
    }
}

/// Linux reports twice the usable size.
fn warn_when_clamped(socket: &std::net::UdpSocket, state: &UdpSocketState) -> io::Result<()> {
    let send_bytes = state.send_buffer_size(socket.into())? / 2;
    let receive_bytes = state.recv_buffer_size(socket.into())? / 2;
    if send_bytes.min(receive_bytes) < SOCKET_BUFFER_BYTES {
        CLAMPED.call_once(|| {
            warn!(
                send_bytes,
                receive_bytes,
                "the kernel clamps UDP buffers, bulk transfers will lose packets: \
                 set net.core.rmem_max and net.core.wmem_max to {SOCKET_BUFFER_BYTES} or more"
            );
        });
    }
    Ok(())
}

impl AsyncUdpSocket for UdpSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(WritePoller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), transmit));
        match sent {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.refused.notify_one();
                Ok(())
            }
            // A probe for a larger MTU that the interface does not carry: the loss is the answer.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Ok(()),
            Err(error) => {
                // UDP promises nothing: QUIC sends again, and gives the connection up after its idle time-out.
                debug!(destination = %transmit.destination, %error, "datagram not sent");
                Ok(())
            }
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            match self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta)) {
                Ok(received) => return Poll::Ready(Ok(received)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The error is taken off the socket by reporting it, so the next turn waits or receives.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.refused.notify_one(),
                Err(error) => debug!(%error, "datagram not received"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments().min(SEGMENTS_MAX)
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments().min(RECEIVE_SEGMENTS_MAX)
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

struct WritePoller {
    socket: Arc<UdpSocket>,
    waiting: Option<Writable>,
}

impl fmt::Debug for WritePoller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WritePoller").finish_non_exhaustive()
    }
}

impl UdpPoller for WritePoller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Arc::clone(&self.socket);
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { socket.io.writable().await }));
        let result = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(result)
    }
}
