//! Giving messages to those who wait for them.

use std::time::Duration;

use brigade_index::{
    batch::Messages,
    command::{DeadReason, Expired},
    ids::Offset,
    shard::FetchError,
};
use tokio::time::Instant;

use super::{Event, GRACE, LOADS, PAUSE, Task, Waiter, place};
use crate::{
    IngestError, Slice,
    dispatch::Taken,
    plan,
    queue::{
        load::{self, Loaded, Picked, Rows},
        receipt::Receipt,
    },
    source::sources_from,
};

/// Dead letters that wait for their topic before no more are looked for.
const BURIALS: usize = 10_000;

/// For how long a message is put aside whose bytes are damaged.
const DAMAGED_MS: i64 = 60_000;

impl Task {
    /// Serves those who wait, in the order in which they came, as far as there is something to deliver.
    pub(super) fn serve(&mut self) {
        let now_ms = self.now_ms();
        // A node that only reads, or one that too few regions answer, could not commit what becomes of a delivery; and
        // whoever can may have delivered the same.
        let ready = self.around.log.ready().is_ok();
        if !ready && !self.waiters.is_empty() {
            self.paused.get_or_insert_with(|| Instant::now() + PAUSE);
        }
        while ready
            && self.loads < LOADS
            && let Some(waiter) = self.waiters.pop_front()
        {
            let wanted = self.pick(waiter.poll.max_messages, now_ms);
            if wanted.is_empty() {
                self.waiters.push_front(waiter);
                break;
            }
            self.load(waiter, wanted);
        }
    }

    /// Picks the next messages that can be delivered. What must not be does not cost a commit for each poll.
    fn pick(&mut self, most: usize, now_ms: i64) -> Vec<Taken> {
        loop {
            let taken = self.dispatcher.take(now_ms, most);
            let none = taken.is_empty();
            let wanted = self.set_aside(taken, now_ms);
            if none || !wanted.is_empty() || self.pending.is_full() || self.burials.len() >= BURIALS {
                return wanted;
            }
        }
    }

    /// Whoever has waited long enough gets nothing.
    pub(super) fn send_away(&mut self) {
        let now = Instant::now();
        if self.waiters.iter().all(|waiter| waiter.until > now) {
            return;
        }
        let seen_all = self.has_seen_all() || self.paused.is_some();
        for waiter in std::mem::take(&mut self.waiters) {
            if waiter.until <= now && (seen_all || waiter.until + GRACE <= now) {
                // Whoever asked may have gone.
                let _ = waiter.answer.send(Ok(Vec::new()));
            } else {
                self.waiters.push_back(waiter);
            }
        }
    }

    /// Settles messages that were picked and must not be delivered: expired, or delivered as often as they may be.
    fn set_aside(&mut self, taken: Vec<Taken>, now_ms: i64) -> Vec<Taken> {
        let most = self.settings.max_deliveries;
        let mut wanted = Vec::with_capacity(taken.len());
        for message in taken {
            if message.expired {
                self.expire(&message, now_ms);
            } else if most > 0 && message.deliveries >= most {
                self.bury(&message, DeadReason::MaxDeliveries, now_ms, true);
            } else {
                wanted.push(message);
            }
        }
        wanted
    }

    fn expire(&mut self, message: &Taken, now_ms: i64) {
        match self.settings.expired {
            Expired::Drop => {
                self.pending.settle(message.at, 1);
                self.pending.keep(message.at, true);
                self.kept.insert(message.at);
                self.around.metrics.queue_expired();
            }
            Expired::DeadLetter => self.bury(message, DeadReason::Expired, now_ms, true),
        }
    }

    fn load(&mut self, waiter: Waiter, wanted: Vec<Taken>) {
        let (pieces, gone, settled) = {
            let state = self.around.log.state();
            let topic = state.topic(self.of.topic);
            let queue = self.of.find(topic);
            // I14: whatever the dispatcher believes, what is settled is not delivered.
            let is_settled = |message: &Taken| {
                let (partition, offset) = place(message);
                queue.and_then(|queue| queue.partition(partition)).is_some_and(|part| part.is_settled(offset))
            };
            let (settled, open): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_settled);
            let source = |partition, offset| sources_from(topic?.partition(partition)?, offset).next();
            let (pieces, gone) = load::pieces(open, source);
            (pieces, gone, settled)
        };
        let now_ms = self.now_ms();
        settled.iter().for_each(|message| self.dispatcher.settled(message.at, now_ms));
        self.let_go(&gone, now_ms);
        self.loads += 1;
        let (around, incarnation) = (self.around.clone(), self.incarnation);
        let topic = self.of.topic;
        self.events
            .push(Box::pin(async move { Event::Loaded(incarnation, waiter, load::load(around, topic, pieces).await) }));
    }

    /// Messages that were picked are not kept any more: nobody will ever get them.
    fn let_go(&mut self, gone: &[Taken], now_ms: i64) {
        for message in gone {
            self.skip(message.at.partition(), (message.at.offset(), message.at.offset().next()));
            self.dispatcher.settled(message.at, now_ms);
        }
    }

    /// Delivers what was picked for somebody, as far as it fits into what he asked for.
    pub(super) fn give(&mut self, incarnation: u64, waiter: Waiter, loaded: Vec<Loaded>) {
        if incarnation != self.incarnation {
            // What was picked is not picked any more.
            self.waiters.push_front(waiter);
            return;
        }
        if waiter.answer.is_closed() {
            return loaded.iter().rev().for_each(|loaded| self.put_back(&loaded.taken));
        }
        let now_ms = self.now_ms();
        let visibility =
            waiter.poll.visibility.unwrap_or(Duration::from_millis(self.settings.visibility_timeout_ms.into()));
        let deadline_ms = now_ms.saturating_add(i64::try_from(visibility.as_millis()).unwrap_or(i64::MAX));
        let (mut picked, mut room, mut problem) = (Vec::new(), waiter.poll.max_bytes.max(1), None);
        let mut rest: Vec<Vec<Taken>> = Vec::new();
        for Loaded { taken, result } in loaded {
            match result {
                Ok(Rows::Gone) => self.let_go(&taken, now_ms),
                _ if room == 0 => rest.push(taken),
                Ok(Rows::There(messages, first)) => {
                    let rows = (&messages, first);
                    rest.extend(self.deliver(taken, rows, (now_ms, deadline_ms), &mut room, &mut picked));
                }
                Err(error) => {
                    problem = Some(self.put_aside(taken, error, now_ms, &mut rest));
                }
            }
        }
        rest.iter().rev().for_each(|taken| self.put_back(taken));
        self.answer(waiter, picked, problem);
    }

    fn answer(&mut self, waiter: Waiter, picked: Vec<Picked>, problem: Option<FetchError>) {
        let answer = match problem {
            Some(problem) if picked.is_empty() => Err(IngestError::Fetch(problem)),
            // Everything was forgotten meanwhile.
            None if picked.is_empty() => return self.waiters.push_front(waiter),
            _ => Ok(picked),
        };
        if let Err(Ok(picked)) = waiter.answer.send(answer) {
            // Nobody has seen the receipts.
            let now_ms = self.now_ms();
            for (receipt, ..) in picked.iter().flat_map(|picked| &picked.receipts) {
                let _ = self.dispatcher.nack(receipt.at, receipt.number, now_ms, 0);
            }
        }
    }

    /// Bytes of a message could not be had: it is put back, or put aside for a while when they are damaged.
    fn put_aside(
        &mut self,
        taken: Vec<Taken>,
        error: FetchError,
        now_ms: i64,
        rest: &mut Vec<Vec<Taken>>,
    ) -> FetchError {
        if matches!(error, FetchError::Damaged { .. }) {
            tracing::error!(%error, subscription = %self.of.name, "messages cannot be delivered");
            for message in &taken {
                self.dispatcher.deliver(message.at, now_ms, now_ms + DAMAGED_MS);
            }
        } else {
            rest.push(taken);
        }
        error
    }

    fn put_back(&mut self, taken: &[Taken]) {
        taken.iter().rev().for_each(|message| self.dispatcher.put_back(message.at));
    }

    /// Delivers messages in consecutive rows while there is room for their bytes, at least one if nothing was delivered yet.
    /// Gives back what is left of them.
    fn deliver(
        &mut self,
        mut taken: Vec<Taken>,
        (messages, first): (&Messages, usize),
        (now_ms, deadline_ms): (i64, i64),
        room: &mut usize,
        picked: &mut Vec<Picked>,
    ) -> Option<Vec<Taken>> {
        let partition = place(taken.first()?).0;
        let slice = |base: Offset, first: usize, rows: usize| Slice {
            partition,
            base,
            messages: messages.clone(),
            first,
            rows,
        };
        let rows = taken.len();
        let fits = plan::fitting(messages, first, rows, *room).max(usize::from(picked.is_empty())).min(rows);
        let bytes = if fits > 0 { plan::bytes(&slice(Offset(0), first, fits)) } else { 0 };
        *room = if fits < rows { 0 } else { room.saturating_sub(bytes) };
        let mut run: Option<Picked> = None;
        for (row, message) in (first..).zip(&taken[..fits]) {
            let Some(delivered) = self.dispatcher.deliver(message.at, now_ms, deadline_ms) else {
                picked.extend(run.take());
                continue;
            };
            let (number, deliveries) = (delivered.number, delivered.deliveries);
            let receipt = Receipt { at: message.at, incarnation: self.incarnation, number, deadline_ms, deliveries };
            let run = run.get_or_insert_with(|| Picked {
                slice: slice(message.at.offset(), row, 0),
                receipts: Vec::with_capacity(fits),
            });
            run.slice.rows += 1;
            run.receipts.push((receipt, deliveries, delivered.first_ms));
            self.around.metrics.queue_delivered(deliveries);
        }
        picked.extend(run);
        taken.drain(..fits);
        (!taken.is_empty()).then_some(taken)
    }
}
