//! The compactor has a thread of its own.
//!
//! Decoding and encoding keep a processor busy for milliseconds at a time, and need tens of megabytes, again and again.
//! Done on whichever thread of the runtime comes next, each of them keeps a heap of that size, and fresh pages are cleared
//! for most of what is needed; and what the thread would do otherwise waits or moves. Only processing is apart: requests
//! and timers stay with the runtime.

use std::{
    panic::{self, AssertUnwindSafe},
    thread,
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;

use super::Worker;

/// How much this thread gives way to the others, between 0 and 19: where processors are short it gets a third of what one of
/// them gets, and all that they leave.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

impl Worker {
    /// Like [`Worker::run`], on a thread that lasts as long; on this one where the runtime has no others, as in a simulation.
    pub async fn run_apart(self, stop: CancellationToken) {
        let runtime = Handle::current();
        if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            return self.run(stop).await;
        }
        // When nobody waits for it any more, the runtime may be about to end.
        let abandoned = CancellationToken::new();
        let _guard = abandoned.clone().drop_guard();
        let (end, ended) = oneshot::channel();
        // Given to the thread when there is one, so that it is not lost if there is none.
        let (give, given) = std::sync::mpsc::sync_channel::<(Self, CancellationToken)>(1);
        let work = move || {
            let Ok((worker, stop)) = given.recv() else { return };
            step_back();
            let working = abandoned.run_until_cancelled(worker.run(stop));
            let result = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(working)));
            // Nobody waits: it was abandoned.
            let _ = end.send(result);
        };
        match thread::Builder::new().name("compactor".to_owned()).spawn(work) {
            Ok(_) => {
                if give.send((self, stop)).is_ok()
                    && let Ok(Err(panicked)) = ended.await
                {
                    panic::resume_unwind(panicked);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the compactor gets no thread of its own");
                self.run(stop).await;
            }
        }
    }
}

/// Lets requests go first where processors are short.
fn step_back() {
    // Priorities of single threads are a thing of Linux.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "the compactor's thread keeps its priority");
    }
}
