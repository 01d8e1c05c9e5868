//! Giving messages up.

use std::sync::Arc;

use brigade_index::{
    command::{Command, DeadLetter, DeadReason, Settle, SettlePartition},
    shard::{Committed, FetchError, Proposal, ProposeError},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Answer, Burial, Event, Task};
use crate::{
    IngestError,
    dispatch::Taken,
    queue::{
        copy::{self, Copies, Original, Target},
        handle::{Around, Of},
        pending::{After, Kept},
    },
    source::sources_from,
};

/// A call that is answered when all its parts are committed, or when one of them is not: each of its dead letters that go
/// to a topic of their own, and the rest together.
pub(super) struct Shared(Mutex<(usize, Option<Answer>)>);

impl Shared {
    /// So many of them.
    pub(super) fn new(parts: usize, answer: Answer) -> Arc<Self> {
        Arc::new(Self(Mutex::new((parts, Some(answer)))))
    }

    pub(super) fn one_is_done(&self, result: &Result<(), IngestError>) {
        let mut inner = self.0.lock();
        inner.0 -= 1;
        if (inner.0 == 0 || result.is_err())
            && let Some(Answer { verdicts, sender }) = inner.1.take()
        {
            // Whoever asked may have gone.
            let _ = sender.send(result.clone().map(|()| verdicts));
        }
    }
}

impl Task {
    /// Makes a message that is picked or held a dead letter.
    pub(super) fn bury(&mut self, message: &Taken, reason: DeadReason, now_ms: i64, picked: bool) {
        let (at, deliveries, first_ms) = (message.at, message.deliveries, message.first_ms);
        let letter = DeadLetter { reason, deliveries, first_ms, time_ms: now_ms };
        self.kept.insert(at);
        self.around.metrics.queue_dead_letter();
        if self.settings.dead_letter_topic.is_some() {
            self.burials.push_back(Burial { at, letter, picked, answer: None });
        } else {
            self.pending.bury(at, letter);
            self.pending.keep(at, picked);
        }
    }

    /// Proposes that dead letters move to their topic, some at a time.
    pub(super) fn submit_burials(&mut self) {
        while !self.burials.is_empty() && self.can_propose() {
            let target = self.settings.dead_letter_topic.as_ref();
            let target = target.and_then(|name| Target::find(&self.around, &self.of, name));
            let most = target.as_ref().map_or(self.burials.len(), |target| target.most).min(self.burials.len());
            let mut burials: Vec<_> = self.burials.drain(..most).collect();
            burials.sort_by_key(|burial| burial.at);
            let settle = settle(&self.of, &burials);
            let kept = burials.iter().map(|burial| Kept { at: burial.at, picked: burial.picked }).collect();
            let originals = self.originals(&burials);
            let answers = burials.into_iter().filter_map(|burial| burial.answer).collect();
            self.proposals += 1;
            let (around, of) = (self.around.clone(), self.of.clone());
            self.events.push(Box::pin(async move {
                let result = move_them(around, of, target, originals, settle).await;
                Event::Committed(After { kept, answers, skipped: Vec::new() }, result)
            }));
        }
    }

    /// Those whose messages are still in the log.
    fn originals(&self, burials: &[Burial]) -> Vec<Original> {
        let state = self.around.log.state();
        let topic = state.topic(self.of.topic);
        let original = |burial: &Burial| {
            let (at, letter) = (burial.at, burial.letter);
            let source = sources_from(topic?.partition(at.partition())?, at.offset()).next()?;
            (source.first() <= at.offset()).then_some(Original { at, letter, source })
        };
        burials.iter().filter_map(original).collect()
    }
}

fn settle(of: &Of, burials: &[Burial]) -> Settle {
    let mut partitions: Vec<SettlePartition> = Vec::new();
    for Burial { at, letter, .. } in burials {
        if partitions.last().is_none_or(|part| part.partition != at.partition()) {
            partitions.push(SettlePartition::new(at.partition()));
        }
        partitions.last_mut().into_iter().for_each(|part| part.dead.push((at.offset(), *letter)));
    }
    Settle { topic: of.topic, name: of.name.clone(), subscription: of.id, partitions }
}

/// Publishes copies and settles in one entry. Without a topic, and when a message's bytes are damaged, they stay where they
/// are: nobody could ever copy them.
async fn move_them(
    around: Arc<Around>,
    of: Of,
    target: Option<Target>,
    originals: Vec<Original>,
    settle: Settle,
) -> Result<Committed, ProposeError> {
    let copies = match &target {
        Some(target) if !originals.is_empty() => {
            match copy::copy(&around, &of, target, &originals, settle.clone()).await {
                Ok(copies) => Some(copies),
                Err(error @ FetchError::Damaged { .. }) => {
                    tracing::error!(%error, subscription = %of.name, "dead letters are kept where they are");
                    None
                }
                Err(error @ FetchError::Unavailable(_)) => return Err(ProposeError::Unavailable(error.to_string())),
            }
        }
        _ => None,
    };
    let (command, body, batches) = match copies {
        Some(Copies { command, body, batches }) => (command, body, batches),
        None => (Command::Settle(settle), Vec::new(), Vec::new()),
    };
    let (sender, done) = oneshot::channel();
    let cache = around.cache.clone();
    let done_with = move |result: Result<Committed, ProposeError>| {
        if let Ok(committed) = &result {
            for batch in batches {
                let location = Copies::location(&batch, committed.sequence, committed.body_at);
                cache.published(location, batch.bytes);
            }
        }
        // A task that is gone needs no answer.
        let _ = sender.send(result);
    };
    around.log.submit(Proposal { commands: vec![command], body, done: Box::new(done_with) }).await;
    done.await.unwrap_or_else(|_| Err(ProposeError::Unknown("the shard stopped".to_owned())))
}
