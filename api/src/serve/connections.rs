//! Accepting connections and serving HTTP/1.1 on them, under limits that slow and greedy clients cannot exceed.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, response::IntoResponse};
use http::{HeaderValue, Request, header::CONNECTION};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Node, caller::Connection};
use crate::http::{ApiError, kinds, router};

/// Most bytes buffered for reading a connection. It bounds the headers of a request, and with the number of connections
/// the memory that is used before admission.
const MAX_READ_BUFFER: usize = 128 * 1024;

/// Pause after an accept that failed for want of something, mostly file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Refused connections that are told why at the same time; further ones are just closed.
const REFUSALS: usize = 64;

/// Longest time for telling a client that it is refused.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Serves connections until `stop` is cancelled; then finishes the requests in flight. Every connection is on `tasks`.
pub(super) async fn serve(listener: TcpListener, node: Node, stop: CancellationToken, tasks: TaskTracker) {
    let server = Arc::new(Server::new(node));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        match server.free.clone().try_acquire_owned() {
            Ok(place) => {
                let (server, stop) = (server.clone(), stop.clone());
                tasks.spawn(async move {
                    server.connection(stream, peer, &stop).await;
                    drop(place);
                });
            }
            Err(_) => {
                server.node.http_metrics.connection_refused();
                if let Ok(place) = refusals.clone().try_acquire_owned() {
                    tasks.spawn(async move {
                        // A client that does not take the answer is closed all the same.
                        let _ = timeout(REFUSAL_TIME, refuse(stream)).await;
                        drop(place);
                    });
                }
            }
        }
    }
}

async fn pause_after(error: &io::Error) {
    let client_left = [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
    if !client_left.contains(&error.kind()) {
        tracing::warn!(%error, "cannot accept connections");
        sleep(ACCEPT_PAUSE).await;
    }
}

struct Server {
    node: Node,
    router: Router,
    http: http1::Builder,
    /// Places for further connections.
    free: Arc<Semaphore>,
}

impl Server {
    fn new(node: Node) -> Self {
        let settings = &node.settings.http;
        let mut http = http1::Builder::new();
        // A client that has closed its side for sending still gets its answer.
        http.half_close(true)
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(settings.header_timeout_ms))
            .max_buf_size(MAX_READ_BUFFER);
        let free = Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS)));
        Self { router: router(node.clone()), http, free, node }
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr, stop: &CancellationToken) {
        let _counted = self.node.http_metrics.connection();
        // Answers are written whole; waiting for more to send only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "connection without TCP_NODELAY");
        }
        let router = TowerToHyperService::new(self.router.clone());
        let draining = &self.node.draining;
        let (stream, caller) = Connection::new(stream);
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(caller.clone());
            let answer = router.call(request);
            async move {
                let mut answer = answer.await?;
                if draining.is_cancelled() {
                    // The client opens its next connection elsewhere, instead of losing a race with the end of this one.
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}

/// Tells a client that there are too many connections.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let error = ApiError::new(kinds::TOO_MANY_CONNECTIONS, "the server has as many connections as it may have");
    let body = error.to_json();
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n",
        error.into_response().status(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.shutdown().await?;
    // Reading what was sent keeps the answer from being lost to a reset.
    let mut scratch = [0; 1024];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests;
