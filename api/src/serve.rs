//! `brigade serve`: a node from its start to its end.
//!
//! | file | holds |
//! |---|---|
//! | `serve/node.rs` | the node: stores, metrics, and whether it leads |
//! | `serve/seat.rs` | leading and following: who sits in the leader's seat, and the task that changes it |
//! | `serve/connections.rs` | accepting connections, HTTP/1.1 with limits |
//! | `serve/signals.rs`, `serve/logging.rs` | SIGTERM and SIGINT; the log |

use std::{io, net::SocketAddr, process::ExitCode, time::Duration};

use brigade_index::{env::Env, founding::FoundingError, store::StoreErrorKind};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cli::serve::ServeArgs,
    settings::{self, LogFormat, Settings, SettingsError, redact_url},
};

mod caller;
mod check_back;
mod connections;
mod logging;
mod node;
mod seat;
mod signals;

pub(crate) use caller::left;
use node::prepare_node;
pub use node::{Node, StartError, start_node, start_node_on};
pub use seat::{Absent, Leading, Seat};
pub(crate) use seat::{DeposedBody, Known, LeaseAnswer, SELF_CHECK};
use signals::StopSignals;

/// Why a node did not run to an orderly end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The node could not be put together.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Signals cannot be listened for.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// A second signal came before the requests in flight were finished.
    #[error("interrupted before all requests were finished")]
    Interrupted,
}

impl ServeError {
    /// As the command line lists them.
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Settings(_) => 2,
            Self::Start(StartError::Store(error)) if error.kind == StoreErrorKind::Invalid => 2,
            Self::Start(StartError::Founding(FoundingError::Invalid(_))) => 2,
            Self::Start(StartError::Store(_) | StartError::Shard(_) | StartError::Founding(_)) => 5,
            Self::Interrupted => 130,
            Self::Listen { .. } | Self::Start(_) | Self::Signals(_) => 1,
        })
    }
}

/// Loads settings, starts the log, and runs a node until it is told to stop.
pub async fn main(args: ServeArgs) -> ExitCode {
    match load_and_run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

async fn load_and_run(args: &ServeArgs) -> Result<(), ServeError> {
    let settings = settings::load(args, |name| std::env::var(name).ok())?;
    logging::start(&settings.log);
    tracing::info!("settings in force:\n{}", settings.printed().trim_end());
    run(settings).await
}

/// Runs a node until SIGTERM or SIGINT, then finishes what is in flight. A second signal ends it at once.
///
/// # Errors
/// When it cannot start, or was interrupted while it finished.
pub async fn run(mut settings: Settings) -> Result<(), ServeError> {
    let mut signals = StopSignals::listen().map_err(ServeError::Signals)?;
    let asked = settings.listen;
    let not_listening = |source| ServeError::Listen { address: asked, source };
    // Before the takeover: a second process on the same address must not depose the first and then fail.
    let listener = listen(asked).map_err(not_listening)?;
    let address = listener.local_addr().map_err(not_listening)?;
    // An unspecified address means every interface; which of them others can reach is not known here.
    if settings.advertise.is_none() && !address.ip().is_unspecified() {
        settings.advertise = Some(format!("http://{address}"));
    }
    let starting = tokio::select! {
        biased;
        _ = signals.next() => return Err(ServeError::Interrupted),
        starting = prepare_node(settings, Env::system()) => starting?,
    };
    // Before it leads: while it takes over and recovers, others ask it whether it lives.
    let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
    let server = connections::serve(listener, starting.node.clone(), stop.clone(), connections.clone());
    let accepting = connections.spawn(server);
    let node = tokio::select! {
        biased;
        _ = signals.next() => return Err(ServeError::Interrupted),
        node = starting.settle() => node?,
    };
    greet(&node, address);
    let signal = signals.next().await;
    tracing::info!(signal, "finishing requests in flight");
    let drained = timeout(Duration::from_secs(node.settings.drain_seconds), async {
        node.begin_drain();
        // The accepting task is one of them.
        if connections.len() > 1 {
            sleep(FAREWELL).await;
        }
        stop.cancel();
        // It ends as soon as it sees the token; then no connection is added any more.
        let _ = accepting.await;
        connections.close();
        connections.wait().await;
        node.shut_down().await;
    });
    tokio::select! {
        biased;
        _ = signals.next() => return Err(ServeError::Interrupted),
        drained = drained => match drained {
            Ok(()) => tracing::info!("all requests are answered"),
            Err(_) => tracing::warn!("out of time; clients that wait must ask again"),
        },
    }
    Ok(())
}

/// How long requests are still taken after a stop signal, while each answer closes its connection: a request that crosses
/// with the closing of an idle connection would fail without being carried out.
const FAREWELL: Duration = Duration::from_millis(500);

/// Connections that the kernel may hold until they are accepted: with the usual 128, some of a thousand clients that
/// come back at once after a restart would wait a second for their next attempt.
const BACKLOG: u32 = 4_096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted node takes its address again while connections of the last one linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Says where the node is and where its data are.
fn greet(node: &Node, address: SocketAddr) {
    let data: Vec<_> = node.settings.regions().iter().map(|region| redact_url(&region.url)).collect();
    let data = data.join(", ");
    if node.settings.log.format == LogFormat::Text {
        eprintln!("Brigade is listening on http://{address}, data in {data}");
    } else {
        tracing::info!(address = format!("http://{address}"), data, "Brigade is listening");
    }
}
