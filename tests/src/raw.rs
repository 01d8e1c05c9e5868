//! A bare connection, for requests that no client library would send.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A TCP connection to a node.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Raw {
    /// Connects; panics when nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the node accepts connections");
        Self { stream, received: Vec::new() }
    }

    /// Sends bytes as they are. A node that has closed the connection already is no failure: the answer tells why.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.stream.write_all(bytes.as_ref()).await;
        assert!(sent.as_ref().err().is_none_or(is_closed), "{sent:?}");
    }

    /// Closes the sending half only.
    pub async fn close_sending(&mut self) {
        let closed = self.stream.shutdown().await;
        assert!(closed.as_ref().err().is_none_or(is_closed), "{closed:?}");
    }

    /// Reads one answer with a `content-length`. `None` when the connection ends before an answer begins, or it is late.
    pub async fn answer(&mut self) -> Option<(u16, String)> {
        timeout(PATIENCE, self.read_answer()).await.ok().flatten()
    }

    /// Whether the node closes the connection in time, whatever it sends before.
    pub async fn is_closed(&mut self) -> bool {
        timeout(PATIENCE, async { while self.more().await {} }).await.is_ok()
    }

    async fn read_answer(&mut self) -> Option<(u16, String)> {
        loop {
            if let Some((answer, len)) = parse(&self.received) {
                self.received.drain(..len);
                return Some(answer);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn more(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk).await {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.received.extend_from_slice(&chunk[..read]);
                true
            }
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

/// Status and body of the answer at the front, and how many bytes it has.
fn parse(received: &[u8]) -> Option<((u16, String), usize)> {
    let head = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(Some(0), |length| length.trim().parse().ok())?;
    let body = received.get(head + 4..head + 4 + length)?;
    Some(((status, String::from_utf8_lossy(body).into_owned()), head + 4 + length))
}
