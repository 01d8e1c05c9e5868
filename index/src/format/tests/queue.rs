//! Arbitrary commands of queues and transactions.

use std::mem;

use super::*;
use crate::{
    command::{
        CheckBack, DeadLetter, DeadReason, Expired, Fairness, Mode, Prepare, PushSettings, QueuePatch, QueueSettings,
        Retry, Settle, SettlePartition, Transact,
    },
    ids::SubscriptionId,
    names::TransactionId,
};

fn topic_name() -> impl Strategy<Value = TopicName> {
    name().prop_map(|name| TopicName::new(&name).unwrap())
}

fn fairness() -> impl Strategy<Value = Fairness> {
    prop_oneof![Just(Fairness::None), Just(Fairness::Group), ".{1,5}".prop_map(Fairness::Header)]
}

fn push() -> impl Strategy<Value = PushSettings> {
    ("h.{0,9}", ".{0,9}", any::<(u32, u32, u32, u32, u32)>()).prop_map(|(url, secret, numbers)| {
        let (timeout_ms, max_in_flight, max_per_second, backoff_min_ms, backoff_max_ms) = numbers;
        PushSettings { url, secret, timeout_ms, max_in_flight, max_per_second, backoff_min_ms, backoff_max_ms }
    })
}

prop_compose! {
    fn patch()(
        (visibility_timeout_ms, max_deliveries, retry_delay_ms, ordered) in any::<(Option<u32>, Option<u32>, Option<u32>, Option<bool>)>(),
        dead_letter_topic in option::of(option::of(topic_name())),
        fairness in option::of(fairness()),
        expired in option::of(prop_oneof![Just(Expired::Drop), Just(Expired::DeadLetter)]),
        filter in option::of(option::of(".{1,9}")),
        push in option::of(option::of(push())),
    ) -> QueuePatch {
        QueuePatch {
            visibility_timeout_ms, max_deliveries, dead_letter_topic, ordered, fairness, expired, retry_delay_ms,
            filter, push,
        }
    }
}

fn offset() -> impl Strategy<Value = Offset> {
    any::<u64>().prop_map(Offset)
}

fn part() -> impl Strategy<Value = SettlePartition> {
    let retry = any::<(u32, i64, i64)>().prop_map(|(deliveries, first_ms, not_before_ms)| Retry {
        deliveries,
        first_ms,
        not_before_ms,
    });
    let reasons = prop::sample::select(&[DeadReason::MaxDeliveries, DeadReason::Expired, DeadReason::Rejected]);
    let dead = (reasons, any::<(u32, i64, i64)>()).prop_map(|(reason, (deliveries, first_ms, time_ms))| DeadLetter {
        reason,
        deliveries,
        first_ms,
        time_ms,
    });
    let lists = (vec((offset(), retry), 0..3), vec((offset(), dead), 0..3), vec(offset(), 0..2), vec(offset(), 0..2));
    (any::<u32>(), vec((offset(), any::<u32>()), 0..3), lists).prop_map(
        |(partition, settled, (retries, dead, restored, purged))| SettlePartition {
            partition: Partition(partition),
            settled,
            retries,
            dead,
            restored,
            purged,
        },
    )
}

fn settle() -> impl Strategy<Value = Settle> {
    (any::<(u64, u64)>(), name(), vec(part(), 0..3)).prop_map(|((topic, subscription), name, partitions)| Settle {
        topic: TopicId(topic),
        name: SubscriptionName::new(&name).unwrap(),
        subscription: SubscriptionId(subscription),
        partitions,
    })
}

fn transaction() -> impl Strategy<Value = TransactionId> {
    "[ab]".prop_map(|id| TransactionId::new(&id).unwrap())
}

fn transact() -> impl Strategy<Value = Transact> {
    let check = ("h.{0,9}", any::<u32>()).prop_map(|(url, every_ms)| CheckBack { url, every_ms });
    let prepare = (any::<i64>(), option::of(check))
        .prop_map(|(expires_ms, check_back)| Mode::Prepare(Prepare { expires_ms, check_back }));
    let mode = prop_oneof![Just(Mode::Commit), prepare];
    (transaction(), vec(publish(), 0..3), vec(settle(), 0..3), mode)
        .prop_map(|(id, publishes, settles, mode)| Transact { id, publishes, settles, mode })
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let topic = || any::<u64>().prop_map(TopicId);
    let subscription = || name().prop_map(|name| SubscriptionName::new(&name).unwrap());
    let create = (topic(), subscription(), patch(), any::<[u8; 32]>(), positions());
    prop_oneof![
        create.prop_map(|(topic, name, patch, secret, positions)| Command::CreateQueue {
            topic,
            name,
            settings: QueueSettings::default().patched(&patch),
            secret,
            positions,
        }),
        (topic(), subscription(), patch()).prop_map(|(topic, name, patch)| Command::AlterQueue { topic, name, patch }),
        settle().prop_map(Command::Settle),
        (publish(), settle()).prop_map(|(copies, settle)| Command::Bury { copies, settle }),
        transact().prop_map(Command::Transact),
        (transaction(), any::<bool>()).prop_map(|(id, commit)| Command::Decide { id, commit }),
    ]
}

/// Makes most of them fit what there is.
pub(super) fn fit(command: &mut Command, id: u64) {
    let queue = || SubscriptionName::new("q").unwrap();
    let fit_settle = |settle: &mut Settle| {
        (settle.topic, settle.name, settle.subscription) = (TopicId(id), queue(), SubscriptionId(1));
        settle.partitions.truncate(1);
        for part in &mut settle.partitions {
            part.partition.0 %= 2;
            part.settled = vec![(Offset(part.settled.len() as u64), 1)];
            part.retries.iter_mut().for_each(|(offset, _)| offset.0 %= 3);
            part.dead.iter_mut().for_each(|(offset, _)| offset.0 %= 3);
            part.restored.iter_mut().for_each(|offset| offset.0 %= 3);
        }
    };
    match command {
        Command::CreateQueue { topic, name, settings, positions, .. } => {
            (*topic, *name, *settings) = (TopicId(id), queue(), QueueSettings::default());
            positions.clear();
        }
        Command::AlterQueue { topic, name, patch } => {
            (*topic, *name) = (TopicId(id), queue());
            patch.dead_letter_topic = None;
            patch.max_deliveries = patch.max_deliveries.map(|most| most % 1_000);
        }
        Command::Settle(settle) => fit_settle(settle),
        Command::Bury { copies, settle } => {
            copies.requests.clear();
            let mut plain = Command::Publish(copies.clone());
            super::fit(&mut plain, id);
            if let Command::Publish(fitted) = plain {
                *copies = fitted;
            }
            fit_settle(settle);
        }
        Command::Transact(transact) => {
            transact.publishes.truncate(1);
            for publish in &mut transact.publishes {
                let mut plain = Command::Publish(publish.clone());
                publish.requests.truncate(1);
                super::fit(&mut plain, id);
                if let Command::Publish(fitted) = plain {
                    *publish = fitted;
                }
                let rows = |batch: &BatchRef| OwnedRows { first: 0, rows: batch.rows, request: 0 };
                publish.batches.iter_mut().for_each(|batch| batch.owned = vec![rows(batch)]);
            }
            transact.settles.truncate(1);
            transact.settles.iter_mut().for_each(fit_settle);
            if let Mode::Prepare(prepare) = &mut transact.mode {
                prepare.expires_ms = 0;
                prepare.check_back.iter_mut().for_each(|check| check.every_ms = 5_000);
                for part in transact.settles.iter_mut().flat_map(|settle| &mut settle.partitions) {
                    let settled = mem::take(&mut part.settled);
                    *part = SettlePartition { settled, ..SettlePartition::new(part.partition) };
                }
            }
        }
        _ => {}
    }
}
