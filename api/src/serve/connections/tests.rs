//! Over real sockets: what only they can show.

use super::*;
use crate::{serve::start_node, settings::Settings};
use brigade_index::env::Env;

struct Running {
    address: SocketAddr,
    node: Node,
    stop: CancellationToken,
    tasks: TaskTracker,
}

async fn run(change: impl FnOnce(&mut Settings)) -> Running {
    let mut settings: Settings = toml::from_str("[[regions]]\nname = \"local\"\nurl = \"memory://\"\n").unwrap();
    change(&mut settings);
    let node = start_node(settings, Env::simulated(7, 0)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    tasks.spawn(serve(listener, node.clone(), stop.clone(), tasks.clone()));
    Running { address, node, stop, tasks }
}

impl Running {
    /// Sends bytes and reads until the server closes or the time is up.
    async fn exchange(&self, request: &[u8], close: bool) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        if close {
            stream.shutdown().await.unwrap();
        }
        let mut answer = Vec::new();
        timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn drained(self) {
        self.node.begin_drain();
        self.stop.cancel();
        self.tasks.close();
        timeout(Duration::from_secs(10), self.tasks.wait()).await.unwrap();
    }
}

#[tokio::test]
async fn half_closed_clients_get_their_answer() {
    let running = run(|_| {}).await;
    let answer = running.exchange(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", true).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
    let cut = b"POST /v1/topics/t/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"messages\"";
    let answer = running.exchange(cut, true).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("truncated_body"), "{answer}");
    running.drained().await;
}

#[tokio::test]
async fn slow_clients_are_cut_off() {
    let running = run(|settings| (settings.http.header_timeout_ms, settings.http.body_timeout_ms) = (100, 100)).await;
    let answer = running.exchange(b"GET /healthz HTT", false).await;
    assert!(!answer.contains("200"), "{answer}");
    let slow = b"POST /v1/topics/t/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"messages\"";
    let answer = running.exchange(slow, false).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_timeout"), "{answer}");
    running.drained().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let running = run(|settings| settings.http.max_connections = 1).await;
    let held = TcpStream::connect(running.address).await.unwrap();
    // Connections are accepted in their order, so the first one has its place by now.
    let answer = running.exchange(b"", true).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("too_many_connections"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    drop(held);
    while running
        .exchange(b"GET /healthz HTTP/1.1\r\nconnection: close\r\nhost: x\r\n\r\n", false)
        .await
        .contains("503")
    {
        sleep(Duration::from_millis(5)).await;
    }
    running.drained().await;
}

#[tokio::test]
async fn draining_closes_idle_connections_and_finishes_busy_ones() {
    let running = run(|_| {}).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    idle.write_all(b"PUT /v1/topics/t HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut scratch = [0; 4096];
    assert!(idle.read(&mut scratch).await.unwrap() > 0);
    let unused = TcpStream::connect(running.address).await.unwrap();
    let mut waiting = TcpStream::connect(running.address).await.unwrap();
    let request = b"GET /v1/topics/t/messages?wait=60000 HTTP/1.1\r\nhost: x\r\n\r\n";
    waiting.write_all(request).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    running.drained().await;
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"messages\":[]"), "{answer}");
    assert_eq!(idle.read(&mut scratch).await.unwrap(), 0);
    drop(unused);
}
