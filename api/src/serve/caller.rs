//! Whoever sent a request, and whether they are still there.
//!
//! A client that has closed its side for sending still gets its answer, so the HTTP library does not look for the end of a
//! connection while a request is carried out. But what a queue delivers to somebody who has left is missing elsewhere until
//! its time is over: for those who wait for messages the end of the connection is looked for here.

use std::{
    future::{pending, poll_fn},
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Extensions;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::sleep,
};

/// How often a connection is looked at whose client has sent more already: its end shows only behind that.
const LOOK: Duration = Duration::from_secs(1);

/// A connection that those who work for it can look at. The lock is held for a read that never waits.
pub(super) struct Connection {
    reading: Arc<Mutex<OwnedReadHalf>>,
    writing: OwnedWriteHalf,
}

/// Who sent a request.
#[derive(Clone)]
pub(super) struct Caller(Arc<Mutex<OwnedReadHalf>>);

impl Connection {
    pub(super) fn new(stream: TcpStream) -> (Self, Caller) {
        let (reading, writing) = stream.into_split();
        let reading = Arc::new(Mutex::new(reading));
        (Self { reading: reading.clone(), writing }, Caller(reading))
    }
}

impl Caller {
    /// Resolves when they send no more: they have left, or at least ask for nothing else.
    async fn left(&self) {
        loop {
            let mut byte = [0];
            let read = poll_fn(|context| self.0.lock().poll_peek(context, &mut ReadBuf::new(&mut byte))).await;
            if !read.is_ok_and(|read| read > 0) {
                return;
            }
            sleep(LOOK).await;
        }
    }
}

/// Resolves when whoever sent the request has left; never if that cannot be known.
pub(crate) async fn left(extensions: &Extensions) {
    match extensions.get::<Caller>() {
        Some(caller) => caller.left().await,
        None => pending().await,
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.reading.lock()).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writing).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writing).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.writing.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writing).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writing).poll_shutdown(context)
    }
}
