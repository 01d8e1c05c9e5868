//! Breaks of a long job: others have their turn while it waits, and it goes on where it was.
//!
//! Ending it instead would not do. What a key compaction knows is of use only once it has gone through every file, however
//! long that takes; one that began anew each time might never come to the end.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// What a job asks for.
pub(crate) struct Break {
    /// Bytes that the job holds meanwhile. It holds no claim.
    pub(crate) held: usize,
    over: oneshot::Sender<()>,
}

impl Break {
    /// The job goes on.
    pub(crate) fn end(self) {
        // It may have been given up.
        let _ = self.over.send(());
    }
}

/// Where a job asks for breaks.
pub(crate) struct Breaks {
    every: Duration,
    last: Mutex<Instant>,
    asked: mpsc::Sender<Break>,
}

impl Breaks {
    /// One about so often from now on, and where they are asked for.
    pub(crate) fn new(every: Duration) -> (Self, mpsc::Receiver<Break>) {
        let (asked, breaks) = mpsc::channel(1);
        (Self { every, last: Mutex::new(Instant::now()), asked }, breaks)
    }

    /// Takes a break if it is time for one. The job holds so many bytes then, and must not hold a claim.
    pub(crate) async fn take(&self, held: usize) {
        if self.last.lock().elapsed() < self.every {
            return;
        }
        let (over, ended) = oneshot::channel();
        if self.asked.send(Break { held, over }).await.is_ok() {
            // One that is dropped is over, too.
            let _ = ended.await;
        }
        *self.last.lock() = Instant::now();
    }
}
