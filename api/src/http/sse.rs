//! Following a partition as server-sent events, until the client leaves or the node shuts down.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use brigade_ingest::{ReadFrom, ReadReply, ReadRequest};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, StatusCode, header};

use super::{
    error::ApiError,
    read::{read_or_stop, slices},
};
use crate::{serve::Leading, wire::encode_sse};

/// A comment goes out after this time without messages: it keeps proxies from closing the connection, and finds out
/// when the client has left.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What is still to be sent.
enum Next {
    /// The first page, read before the answer began.
    Page(ReadReply),
    /// Whatever comes.
    More,
    /// An error was sent, which ends the stream.
    End,
}

/// Starts to follow. The first page is read before the answer begins, so that errors have their own status.
pub(super) async fn follow(node: Arc<Leading>, request: ReadRequest) -> Result<Response, ApiError> {
    let first = node.ingest.read(ReadRequest { wait: Duration::ZERO, ..request.clone() }).await?;
    let from = ReadFrom::Offset(first.next_offset);
    let request = ReadRequest { from, wait: KEEP_ALIVE, ..request };
    let start = (node, request, Next::Page(first));
    let events = stream::unfold(start, |(node, mut request, next)| async move {
        let reply = match next {
            Next::End => return None,
            Next::Page(first) => Ok(first),
            Next::More if node.draining.is_cancelled() => return None,
            // A node that does not lead waits for nothing: without this, it would find nothing again and again.
            Next::More => match node.shard.leads() {
                Ok(()) => read_or_stop(&node, request.clone()).await,
                Err(problem) => Err(problem.into()),
            },
        };
        let (events, next) = match reply {
            Ok(reply) => {
                request.from = ReadFrom::Offset(reply.next_offset);
                (events(reply), Next::More)
            }
            Err(error) => (error_event(&error.into()), Next::End),
        };
        Some((Ok::<_, Infallible>(events), (node, request, next)))
    });
    let mut response = Response::new(Body::from_stream(events));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn events(reply: ReadReply) -> Bytes {
    if reply.slices.is_empty() { Bytes::from_static(b": waiting\n\n") } else { encode_sse(&slices(reply.slices)) }
}

/// The error that ended the stream, as an event of its own type: the status line is long gone.
fn error_event(error: &ApiError) -> Bytes {
    let mut out = b"event: error\ndata: ".to_vec();
    out.extend_from_slice(&error.to_json());
    out.extend_from_slice(b"\n\n");
    out.into()
}
