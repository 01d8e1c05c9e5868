//! The network between nodes: latency, loss, links that are cut in one direction or both.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use axum::body::Body;
use brigade::peers::{PeerError, Peers};
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use tower::ServiceExt;

use super::{gate::Gate, lock, node::SimNode};

/// After so long a connection that cannot be made is given up, as the real client does.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Longest way of a message, in microseconds.
const LATENCY_US: u64 = 3_000;

/// All links between nodes.
pub(super) struct Network {
    state: Mutex<State>,
}

struct State {
    /// The latest node at each address.
    nodes: BTreeMap<String, Weak<SimNode>>,
    /// Machines from which nothing arrives at others: from, to.
    cuts: BTreeSet<(String, String)>,
    /// Chance that a message is lost.
    loss: f64,
    random: StdRng,
}

/// How one message fares.
struct Fate {
    latency: Duration,
    lost: bool,
    /// A connection that breaks says so; otherwise nothing is ever heard.
    breaks: bool,
}

impl Network {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let (nodes, cuts, random) = (BTreeMap::new(), BTreeSet::new(), StdRng::seed_from_u64(seed));
        Arc::new(Self { state: Mutex::new(State { nodes, cuts, loss: 0.0, random }) })
    }

    pub(super) fn add(&self, node: &Arc<SimNode>) {
        lock(&self.state).nodes.insert(node.address(), Arc::downgrade(node));
    }

    pub(super) fn set_loss(&self, loss: f64) {
        lock(&self.state).loss = loss;
    }

    /// Nothing from one machine arrives at the other.
    pub(super) fn cut(&self, from: &str, to: &str) {
        lock(&self.state).cuts.insert((from.to_owned(), to.to_owned()));
    }

    /// All links work again.
    pub(super) fn heal(&self) {
        let mut state = lock(&self.state);
        state.cuts.clear();
        state.loss = 0.0;
    }

    fn fate(&self) -> Fate {
        let State { loss, random, .. } = &mut *lock(&self.state);
        let latency = Duration::from_micros(random.random_range(100..LATENCY_US));
        let lost = *loss > 0.0 && random.random_bool(*loss);
        Fate { latency, lost, breaks: random.random_bool(0.5) }
    }

    fn node_at(&self, address: &str) -> Option<Arc<SimNode>> {
        lock(&self.state).nodes.get(address)?.upgrade()
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        lock(&self.state).cuts.contains(&(from.to_owned(), to.to_owned()))
    }
}

/// The network as one node sees it.
pub(super) struct Wire {
    pub(super) network: Arc<Network>,
    /// Its machine.
    pub(super) from: String,
    pub(super) gate: Gate,
}

impl Peers for Wire {
    fn send(&self, address: &str, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, PeerError>> {
        let (network, from, address) = (self.network.clone(), self.from.clone(), address.to_owned());
        let gate = self.gate.clone();
        let (there, back) = (network.fate(), network.fate());
        async move {
            gate.pass().await;
            let answer = deliver(&network, &from, &address, request, &there, &back).await;
            gate.pass().await;
            answer
        }
        .boxed()
    }
}

async fn deliver(
    network: &Network,
    from: &str,
    address: &str,
    request: Request<Body>,
    there: &Fate,
    back: &Fate,
) -> Result<Response<Body>, PeerError> {
    let unreachable =
        |problem: &str| PeerError::Unreachable { address: address.to_owned(), problem: problem.to_owned() };
    let broken = |problem: &str| PeerError::Broken { address: address.to_owned(), problem: problem.to_owned() };
    sleep(there.latency).await;
    let Some(to) = network.node_at(address) else { return Err(unreachable("refused")) };
    if there.lost || network.is_cut(from, &to.machine) {
        if there.breaks {
            sleep(CONNECT_TIMEOUT).await;
            return Err(unreachable("connecting takes too long"));
        }
        return pending().await;
    }
    let Some(router) = to.router().filter(|_| !to.gate.is_ended()) else { return Err(unreachable("refused")) };
    let answer = async {
        to.gate.pass().await;
        let answer = router.oneshot(request).await.unwrap_or_else(|never| match never {});
        to.gate.pass().await;
        answer
    };
    let answer = tokio::select! {
        biased;
        () = to.gate.ended() => return Err(broken("reset")),
        answer = answer => answer,
    };
    if back.lost || network.is_cut(&to.machine, from) {
        if back.breaks {
            return Err(broken("reset"));
        }
        return pending().await;
    }
    sleep(back.latency).await;
    Ok(answer)
}
