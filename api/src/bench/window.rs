//! Runs a scenario's tasks over warm-up and measured time, and watches the server meanwhile.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    args::TimeArgs,
    tally::Window,
    usage::{Usage, Used},
};
use crate::{
    cli::{CliError, Context, progress::Ticker},
    client::Client,
};

/// How often the server's memory is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// What a task counts in the window, to be added up.
pub(super) trait Counted: Send + 'static {
    /// Nothing counted yet.
    fn new(window: Window) -> Self;
    /// Adds what another task has counted.
    fn add(&mut self, other: Self);
    /// Messages that the server's costs are shared out to.
    fn messages(&self) -> u64;
}

/// What was measured.
pub(super) struct Measured<T> {
    pub(super) tally: T,
    pub(super) seconds: f64,
    /// Unknown when the server has no metrics.
    pub(super) used: Option<Used>,
}

/// Runs `tasks` tasks, each of which ends with its window.
pub(super) async fn measure<T, F>(
    context: &Context,
    label: &str,
    time: &TimeArgs,
    tasks: usize,
    task: impl Fn(usize, Window) -> F,
) -> Result<Measured<T>, CliError>
where
    T: Counted,
    F: Future<Output = Result<T, CliError>> + Send + 'static,
{
    let from = Instant::now() + Duration::from_secs(time.warmup_seconds);
    let window = Window { from, to: from + Duration::from_secs(time.seconds) };
    let ticker = Ticker::new(format!("{label}, {} s", time.warmup_seconds + time.seconds), context.json());
    let mut running = JoinSet::new();
    for number in 0..tasks {
        running.spawn(task(number, window));
    }
    let (before, after, peak) = watch(&context.client, window).await;
    let mut tally = T::new(window);
    while let Some(ended) = running.join_next().await {
        tally.add(ended.map_err(|e| CliError::Failed(format!("a task of the load generator failed: {e}")))??);
    }
    drop(ticker);
    let used = before.zip(after).map(|(before, after)| {
        let used = after.since(&before, tally.messages());
        Used { peak_memory_bytes: peak.map(|bytes| bytes as u64), ..used }
    });
    Ok(Measured { tally, seconds: time.seconds as f64, used })
}

/// The server's counters at the beginning and the end of the window, and its largest memory in between.
async fn watch(client: &Client, window: Window) -> (Option<Usage>, Option<Usage>, Option<f64>) {
    sleep_until(window.from).await;
    let before = Usage::fetch(client).await.ok();
    let mut peak = before.as_ref().and_then(|usage| usage.memory_bytes);
    let mut next = window.from + WATCH_EVERY;
    while next < window.to {
        sleep_until(next).await;
        next += WATCH_EVERY;
        if let Ok(usage) = Usage::fetch(client).await {
            peak = peak.into_iter().chain(usage.memory_bytes).reduce(f64::max);
        }
    }
    sleep_until(window.to).await;
    let after = Usage::fetch(client).await.ok();
    peak = peak.into_iter().chain(after.as_ref().and_then(|usage| usage.memory_bytes)).reduce(f64::max);
    (before, after, peak)
}

/// Pause of a task after a request that failed, so that a server in trouble is not drowned.
pub(super) async fn pause(asked: Option<Duration>) {
    let pause = asked.unwrap_or(Duration::from_millis(10)).min(Duration::from_secs(1));
    tokio::time::sleep(pause).await;
}
