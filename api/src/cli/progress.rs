//! Progress on standard error, for people only: nothing is drawn when standard error is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::output::count;

/// Progress of work over bytes and messages.
pub(super) struct Progress {
    bar: ProgressBar,
    started: Instant,
    messages: u64,
    /// Whether the bar counts messages, not bytes.
    of_messages: bool,
}

impl Progress {
    /// Progress towards `length` bytes if that is known; invisible when `hidden`.
    pub(super) fn new(length: Option<u64>, hidden: bool) -> Self {
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(length, target);
        let template = match length {
            Some(_) => "{bar:24} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg} ETA {eta}",
            None => "{spinner} {bytes} {binary_bytes_per_sec} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, started: Instant::now(), messages: 0, of_messages: false }
    }

    /// Shows progress in messages, of which so many are expected.
    pub(super) fn expect(&mut self, messages: u64) {
        self.of_messages = true;
        self.bar.set_length(messages);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} messages {msg} ETA {eta}") {
            self.bar.set_style(style);
        }
    }

    /// Notes finished work.
    pub(super) fn add(&mut self, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bar.inc(if self.of_messages { messages } else { bytes });
        if !self.bar.is_hidden() {
            let rate = self.messages as f64 / self.started.elapsed().as_secs_f64().max(0.001);
            self.bar.set_message(format!("{} messages, {}/s", count(self.messages), count(rate as u64)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Entries that are still to be done, of which there may come to be more.
pub(super) struct Backlog(ProgressBar);

impl Backlog {
    /// Shows nothing yet; invisible when `hidden`.
    pub(super) fn new(hidden: bool) -> Self {
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:24} {pos}/{len} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// Shows that `left` entries are to be done now.
    pub(super) fn show(&self, left: u64, message: String) {
        let most = self.0.length().unwrap_or(0).max(left);
        self.0.set_length(most);
        self.0.set_position(most - left);
        self.0.set_message(message);
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A sign of life, with the time since it began, during work that is measured.
pub(crate) struct Ticker(ProgressBar);

impl Ticker {
    /// Shows `label` and the time; invisible when `hidden`.
    pub(crate) fn new(label: String, hidden: bool) -> Self {
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(label);
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Progress of work that is done elsewhere: looked at a few times a second.
pub(super) struct LongWork {
    bar: ProgressBar,
    task: tokio::task::JoinHandle<()>,
}

impl LongWork {
    /// Shows progress until it is dropped; invisible when `hidden`.
    pub(super) fn new(progress: std::sync::Arc<brigade_compactor::scrub::Progress>, hidden: bool) -> Self {
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let template = "{bar:24} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg} ETA {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            loop {
                let (done, total, objects) = progress.figures();
                shown.set_length(total.max(done));
                shown.set_position(done);
                shown.set_message(format!("{}, {} objects", progress.phase(), count(objects)));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Self { bar, task }
    }
}

impl Drop for LongWork {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}
