//! The owner task of a queue subscription.

use std::{
    collections::{BTreeSet, VecDeque},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use brigade_index::{
    command::{DeadLetter, QueueSettings},
    ids::{Offset, Partition},
    shard::{Committed, ProposeError},
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Action, QueueCounts, QueuePoll, ReceiptError, TransactionHold,
    handle::{Around, Asked, Of},
    load::{Loaded, Picked},
    pending::{After, Pending},
    receipt::Receipt,
    scan::{Lens, Progress, Scanned},
};
use crate::{
    IngestError,
    dispatch::{At, Dispatcher, Taken, TimedOut},
};

mod bury;
mod give;
mod judge;
mod look;

use bury::Shared;

/// For each receipt of a call its place, and what takes the place of one that was extended.
pub(super) type Verdicts = Vec<(usize, Result<Option<Receipt>, ReceiptError>)>;

/// Messages that are held; or the first receipt that is not good, and its place.
pub(super) type Held = Result<TransactionHold, (usize, ReceiptError)>;

/// What a task is asked.
pub(super) enum Message {
    Poll(QueuePoll, oneshot::Sender<Result<Vec<Picked>, IngestError>>),
    Settle(Action, Vec<Asked>, oneshot::Sender<Result<Verdicts, IngestError>>),
    Hold(Vec<Asked>, oneshot::Sender<Held>),
    /// Held messages are settled now.
    Settled(Vec<At>),
    /// Held messages are held by the committed state now.
    Prepared(Vec<At>),
    /// Held messages are not settled after all.
    Release(Vec<At>),
    Counts(oneshot::Sender<QueueCounts>),
    /// Settings may have changed, or the subscription is gone.
    Refresh,
    /// The committed state was changed by others: forget everything but what is being settled.
    BeginAgain,
    /// Messages that were settled are open again.
    LookAgain,
}

/// Somebody who waits for messages.
struct Waiter {
    poll: QueuePoll,
    answer: oneshot::Sender<Result<Vec<Picked>, IngestError>>,
    until: Instant,
}

/// A call that is answered when what it asked for is committed.
struct Answer {
    verdicts: Verdicts,
    sender: oneshot::Sender<Result<Verdicts, IngestError>>,
}

/// A dead letter on its way to a topic of its own.
struct Burial {
    at: At,
    letter: DeadLetter,
    picked: bool,
    /// Whoever waits for it, among others.
    answer: Option<Arc<Shared>>,
}

/// Something that the task waits for.
enum Event {
    /// Messages that were picked for somebody are there.
    Loaded(u64, Waiter, Vec<Loaded>),
    /// A step of the scan is read.
    Scanned(u64, Vec<Scanned>),
    /// Decisions are committed, or not; dead letters have moved to their topic, or not.
    Committed(After<Arc<Shared>>, Result<Committed, ProposeError>),
    /// A partition has grown, or the shard does not lead any more.
    Grown(Partition),
}

/// Loads under way at once: more would only wait for each other.
const LOADS: usize = 16;

/// Proposals under way at once.
const PROPOSALS: usize = 4;

/// Messages that are found ahead, when it is enough to find some.
const AHEAD: u64 = 20_000;

/// How long decisions wait that nobody waits for.
const LAZY: Duration = Duration::from_secs(1);

/// After so long without anything to do, what was found is forgotten: it can be found again.
const IDLE: Duration = Duration::from_secs(60);

/// For how long a poll that waits no longer is given time, while messages are still looked for.
const GRACE: Duration = Duration::from_secs(10);

/// Pause after a step of the scan could not be read, or decisions were not taken.
const PAUSE: Duration = Duration::from_millis(250);

/// Both ends of a task's inbox.
type Inbox = (mpsc::WeakSender<Message>, mpsc::Receiver<Message>);

pub(super) struct Task {
    around: Arc<Around>,
    of: Of,
    inbox: mpsc::Receiver<Message>,
    /// For those that it gives something to give back.
    own: mpsc::WeakSender<Message>,
    settings: Arc<QueueSettings>,
    lens: Lens,
    dispatcher: Dispatcher,
    /// Tells receipts of this dispatcher from those of others.
    incarnation: u64,
    progress: Progress,
    scanning: bool,
    waiters: VecDeque<Waiter>,
    pending: Pending<Arc<Shared>>,
    /// Since when decisions wait that nobody waits for.
    lazy_since: Option<Instant>,
    /// Dead letters that go to a topic of their own.
    burials: VecDeque<Burial>,
    /// Messages that are being settled, whoever decided it.
    kept: BTreeSet<At>,
    /// Partitions whose growth is waited for.
    watched: BTreeSet<Partition>,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    loads: usize,
    proposals: usize,
    /// Not before this time is anything tried again that failed.
    paused: Option<Instant>,
    last_used: Instant,
    timed_out: Vec<TimedOut>,
}

impl Task {
    /// `None` when there is no such subscription any more.
    pub(super) fn new(around: Arc<Around>, of: Of, (own, inbox): Inbox) -> Option<Self> {
        let settings = {
            let state = around.log.state();
            of.find(state.topic(of.topic)).map(|queue| queue.settings.clone())?
        };
        let lens = Lens::new(&settings)?;
        let (dispatcher, incarnation) = (Dispatcher::new(lens.rules), around.env.entropy.next_u64());
        Some(Self {
            around,
            of,
            inbox,
            own,
            settings,
            lens,
            dispatcher,
            incarnation,
            progress: Progress::default(),
            scanning: false,
            waiters: VecDeque::new(),
            pending: Pending::default(),
            lazy_since: None,
            burials: VecDeque::new(),
            kept: BTreeSet::new(),
            watched: BTreeSet::new(),
            events: FuturesUnordered::new(),
            loads: 0,
            proposals: 0,
            paused: None,
            last_used: Instant::now(),
            timed_out: Vec::new(),
        })
    }

    /// Runs until the subscription is gone, the reign is over, or nobody holds a handle to the reign any more. Whoever waits
    /// then is told by the handle why.
    pub(super) async fn run(mut self) {
        let closing = self.around.closing.clone();
        let mut timer = pin!(tokio::time::sleep_until(self.last_used));
        while self.refresh() {
            self.tick();
            self.serve();
            while self.scan() {
                self.serve();
            }
            self.send_away();
            self.submit();
            self.submit_burials();
            let next = self.next_timer();
            if next != timer.deadline() {
                timer.as_mut().reset(next);
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => return self.wind_up().await,
                Some(event) = self.events.next(), if !self.events.is_empty() => {
                    if !self.take(event) {
                        return self.wind_up().await;
                    }
                }
                message = self.inbox.recv() => match message {
                    Some(message) => self.hear(message),
                    None => return,
                },
                () = timer.as_mut() => {}
            }
            self.take_more();
        }
    }

    /// Nothing more is taken. What is decided is proposed all the same, and whoever waits for it is told.
    async fn wind_up(mut self) {
        self.inbox.close();
        self.take_more();
        loop {
            self.submit();
            self.submit_burials();
            if self.proposals == 0 {
                return;
            }
            if let Some(Event::Committed(after, result)) = self.events.next().await {
                self.proposals -= 1;
                self.committed(&after, result);
            }
        }
    }

    /// Takes what else has come in, so that it shares the next proposal.
    fn take_more(&mut self) {
        while !self.pending.is_full()
            && let Ok(message) = self.inbox.try_recv()
        {
            self.hear(message);
        }
    }

    fn now_ms(&self) -> i64 {
        self.around.env.clock.now_ms()
    }

    /// Follows changes of the settings. `false` when the subscription is gone.
    fn refresh(&mut self) -> bool {
        let settings = {
            let state = self.around.log.state();
            let Some(queue) = self.of.find(state.topic(self.of.topic)) else { return false };
            if Arc::ptr_eq(&queue.settings, &self.settings) {
                return true;
            }
            queue.settings.clone()
        };
        if !self.lens.is_same(&settings) {
            let Some(lens) = Lens::new(&settings) else {
                tracing::error!(subscription = %self.of.name, "the filter cannot be parsed: nothing is delivered");
                return false;
            };
            self.lens = lens;
            self.begin_again();
        }
        self.lens.rules.retry_delay_ms = settings.retry_delay_ms;
        self.dispatcher.set_retry_delay(settings.retry_delay_ms);
        self.settings = settings;
        true
    }

    /// Forgets what was found and what is in flight, but for what is being settled.
    fn begin_again(&mut self) {
        self.dispatcher = Dispatcher::new(self.lens.rules);
        self.incarnation = self.around.env.entropy.next_u64();
        self.progress = Progress::default();
        self.scanning = false;
        // Another filter may want them.
        self.pending.forget_skipped();
        for at in &self.kept {
            // Nobody else can have taken it: the dispatcher is new.
            let _ = self.dispatcher.adopt(*at);
        }
    }

    fn hear(&mut self, message: Message) {
        self.last_used = Instant::now();
        match message {
            Message::Poll(poll, answer) => {
                let until = Instant::now() + poll.wait;
                self.waiters.push_back(Waiter { poll, answer, until });
            }
            Message::Settle(action, asked, sender) => self.settle(action, &asked, sender),
            Message::Hold(asked, answer) => self.hold(&asked, answer),
            Message::Settled(held) => self.forget(held.iter().copied()),
            // The dispatcher holds them on; one that begins anew finds in the state what is held then.
            Message::Prepared(held) => held.iter().for_each(|at| _ = self.kept.remove(at)),
            Message::Release(held) => self.release(&held),
            Message::Counts(answer) => {
                let counts = self.counts();
                let counts =
                    QueueCounts { in_flight: counts.in_flight, delayed: counts.delayed, ..QueueCounts::default() };
                // Whoever asked may have gone.
                let _ = answer.send(counts);
            }
            Message::Refresh => {}
            Message::BeginAgain => self.begin_again(),
            Message::LookAgain => self.progress = Progress::default(),
        }
    }

    /// Takes in what has happened. `false` when there is nothing more to do here.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Loaded(incarnation, waiter, loaded) => {
                self.loads -= 1;
                self.give(incarnation, waiter, loaded);
            }
            Event::Scanned(incarnation, scanned) => {
                if incarnation == self.incarnation {
                    self.scanning = false;
                    self.digest_read(scanned);
                }
            }
            Event::Committed(after, result) => {
                self.proposals -= 1;
                return self.committed(&after, result);
            }
            Event::Grown(partition) => {
                self.watched.remove(&partition);
                let over = self.around.log.ready().is_err_and(|problem| {
                    matches!(
                        problem,
                        ProposeError::NotLeader { .. } | ProposeError::ShuttingDown | ProposeError::Unknown(_)
                    )
                });
                return !over;
            }
        }
        true
    }

    /// Lets time pass: receipts expire, delays end, whoever has waited long enough gets nothing.
    fn tick(&mut self) {
        let (now_ms, now) = (self.now_ms(), Instant::now());
        let mut timed_out = std::mem::take(&mut self.timed_out);
        // Millions of receipts may expire at once: no more of them than what a proposal holds are in the hand at a time.
        if !self.pending.is_full() {
            self.dispatcher.tick(now_ms, &mut timed_out);
        }
        for message in timed_out.drain(..) {
            self.time_is_over(&message, now_ms);
        }
        self.timed_out = timed_out;
        self.waiters.retain_mut(|waiter| !waiter.answer.is_closed());
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
        }
        if self.is_idle() && self.last_used + IDLE <= now && !self.dispatcher.is_idle() {
            self.begin_again();
        }
    }

    fn is_idle(&self) -> bool {
        self.waiters.is_empty()
            && self.pending.is_empty()
            && self.burials.is_empty()
            && self.events.len() == self.watched.len()
            && self.kept.is_empty()
            && self.dispatcher.counts().in_flight == 0
    }

    fn can_propose(&self) -> bool {
        self.proposals < PROPOSALS && self.paused.is_none()
    }

    /// When something is to be done next, if nothing happens before.
    fn next_timer(&self) -> Instant {
        let now = Instant::now();
        let far = now + Duration::from_secs(24 * 60 * 60);
        let after = |ms: i64| now + Duration::from_millis(u64::try_from(ms - self.now_ms()).unwrap_or(0));
        let dispatcher = self.dispatcher.next_timer().map(after);
        // Whose time is over goes when everything was looked through, which is told, or when its grace is over, too.
        let until = |waiter: &Waiter| if waiter.until > now { waiter.until } else { waiter.until + GRACE };
        let waiter = self.waiters.iter().map(until).min();
        let lazy = self.lazy_since.filter(|_| self.can_propose()).map(|since| since + LAZY);
        let idle = (!self.dispatcher.is_idle() && self.is_idle()).then(|| self.last_used + IDLE);
        let next = [dispatcher, waiter, lazy, self.paused, idle].into_iter().flatten().min();
        // Never twice in the same millisecond: a timer of the dispatcher is due when its time is over.
        next.unwrap_or(far).min(far).max(now + Duration::from_millis(1))
    }
}

/// Where a message that was picked is.
fn place(taken: &Taken) -> (Partition, Offset) {
    (taken.at.partition(), taken.at.offset())
}
