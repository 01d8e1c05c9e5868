//! Threads that read large parts of local files.
//!
//! The runtime reads a file on whichever of its many blocking threads is idle, and the allocator keeps room near each
//! thread that ever read: a compactor that needs 80 MiB at a time made its process grow by 500. A few threads of one's own
//! are as fast and need a fraction.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How many.
const THREADS: usize = 4;

type Work = Box<dyn FnOnce() + Send>;

/// Threads that begin with the first work and end when this is dropped.
#[derive(Default)]
pub(super) struct Readers(OnceLock<Sender<Work>>);

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

impl Readers {
    /// Does the work on one of the threads; `None` if it panicked, or there is no thread.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (give, given) = oneshot::channel();
        let work: Work = Box::new(move || {
            // Nobody waits for it any more.
            if !give.is_closed() {
                let _ = give.send(work());
            }
        });
        self.0.get_or_init(begin).send(work).ok()?;
        given.await.ok()
    }
}

/// Without any thread the other end is dropped, and nothing can be sent.
fn begin() -> Sender<Work> {
    let (send, receive) = channel();
    let receive = Arc::new(Mutex::new(receive));
    for _ in 0..THREADS {
        let receive = receive.clone();
        if let Err(error) = thread::Builder::new().name("reader".to_owned()).spawn(move || work(&receive)) {
            tracing::warn!(%error, "a thread that reads files does not begin");
        }
    }
    send
}

fn work(receive: &Mutex<Receiver<Work>>) {
    loop {
        let next = receive.lock().recv();
        let Ok(work) = next else { return };
        // Who waits sees that nothing comes.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn work_is_done_on_few_threads_and_a_panic_ends_none() {
        let readers = Readers::default();
        assert_eq!(join_all((0..8).map(|_| readers.run(|| panic!("on purpose")))).await, [None::<()>; 8]);
        let threads = join_all((0..100).map(|at| readers.run(move || (at, thread::current().id())))).await;
        let threads: Vec<_> = threads.into_iter().map(Option::unwrap).collect();
        assert!(threads.iter().enumerate().all(|(at, (found, _))| at == *found));
        let ids: HashSet<_> = threads.iter().map(|(_, id)| id).collect();
        assert!(ids.len() <= THREADS && !ids.contains(&thread::current().id()));
    }
}
