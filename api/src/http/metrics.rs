//! Figures of the HTTP interface, named `brigade_http_…`. Counting a request takes no lock but that of a histogram.

use std::{
    array,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::route::Route;

/// Statuses that are counted by themselves; any other counts under the last one, so that labels are bounded.
const STATUSES: [u16; 20] =
    [200, 201, 204, 400, 404, 405, 406, 408, 409, 410, 411, 413, 415, 416, 429, 431, 501, 502, 503, 500];

/// Routes and one more for requests that match none.
const ROUTES: usize = Route::ALL.len() + 1;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: &'static str,
}

fn new_histogram() -> Histogram {
    // 0.1 ms to 50 s, doubling: long polls are meant to take their time.
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(0.000_1, 2.0, 20))
}

/// Counters of requests and connections. Clones count together.
#[derive(Clone, Debug)]
pub struct HttpMetrics(Arc<Figures>);

#[derive(Debug)]
struct Figures {
    requests: Family<RequestLabels, Counter>,
    duration: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// Members of the families, looked up once.
    resolved: [Resolved; ROUTES],
    connections: Gauge,
    refused_connections: Counter,
    forwarded: Counter,
}

#[derive(Debug)]
struct Resolved {
    statuses: [OnceLock<Counter>; STATUSES.len()],
    duration: OnceLock<Histogram>,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let resolved = |_| Resolved { statuses: array::from_fn(|_| OnceLock::new()), duration: OnceLock::new() };
        Self(Arc::new(Figures {
            requests: Family::default(),
            duration: Family::new_with_constructor(new_histogram as fn() -> Histogram),
            resolved: array::from_fn(resolved),
            connections: Gauge::default(),
            refused_connections: Counter::default(),
            forwarded: Counter::default(),
        }))
    }
}

impl HttpMetrics {
    /// Adds all figures to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let m = &self.0;
        registry.register("brigade_http_requests", "Requests answered, by route and status", m.requests.clone());
        let (name, help) = ("brigade_http_request_duration", "Time from a request's headers to its answer, by route");
        registry.register_with_unit(name, help, Unit::Seconds, m.duration.clone());
        registry.register("brigade_http_connections", "Open connections", m.connections.clone());
        let help = "Connections refused because there were too many";
        registry.register("brigade_http_refused_connections", help, m.refused_connections.clone());
        let help = "Requests passed on to the leader";
        registry.register("brigade_http_forwarded_requests", help, m.forwarded.clone());
    }

    /// Counts an answered request; `None` is one that matched no route.
    pub(super) fn answered(&self, route: Option<Route>, status: StatusCode, took: Duration) {
        let resolved = &self.0.resolved[route.map_or(ROUTES - 1, |route| route as usize)];
        let at = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        let name = |route: Option<Route>| match route {
            Some(route) => (method_name(route), route.path()),
            None => ("any", "none"),
        };
        let counter = resolved.statuses[at].get_or_init(|| {
            let (method, route) = name(route);
            self.0.requests.get_or_create_owned(&RequestLabels { method, route, status: STATUSES[at] })
        });
        counter.inc();
        let duration = resolved.duration.get_or_init(|| {
            let (method, route) = name(route);
            self.0.duration.get_or_create_owned(&RouteLabels { method, route })
        });
        duration.observe(took.as_secs_f64());
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn connection(&self) -> ConnectionGuard {
        self.0.connections.inc();
        ConnectionGuard(self.clone())
    }

    /// Counts a request that is passed on.
    pub(super) fn forwarded(&self) {
        self.0.forwarded.inc();
    }

    pub(crate) fn connection_refused(&self) {
        self.0.refused_connections.inc();
    }
}

/// A counted connection.
#[derive(Debug)]
pub(crate) struct ConnectionGuard(HttpMetrics);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.0.connections.dec();
    }
}

fn method_name(route: Route) -> &'static str {
    match route.method().as_str() {
        "GET" => "GET",
        "PUT" => "PUT",
        "POST" => "POST",
        "PATCH" => "PATCH",
        _ => "DELETE",
    }
}
