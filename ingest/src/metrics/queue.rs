//! Figures of queue subscriptions, named `brigade_queue_…`.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use super::IngestMetrics;

#[derive(Debug, Default)]
pub(super) struct QueueFigures {
    delivered: Counter,
    redelivered: Counter,
    acknowledged: Counter,
    skipped: Counter,
    expired: Counter,
    dead_letters: Counter,
}

impl QueueFigures {
    pub(super) fn register(&self, registry: &mut Registry) {
        let mut add = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        add("brigade_queue_delivered_messages", "Messages delivered under a receipt", &self.delivered);
        add("brigade_queue_redelivered_messages", "Those of them that had been delivered before", &self.redelivered);
        add("brigade_queue_acknowledged_messages", "Receipts accepted as acknowledgements", &self.acknowledged);
        add("brigade_queue_skipped_messages", "Messages that a filter did not want", &self.skipped);
        add("brigade_queue_expired_messages", "Messages dropped because they expired", &self.expired);
        add("brigade_queue_dead_letters", "Messages that became dead letters", &self.dead_letters);
    }
}

impl IngestMetrics {
    pub(crate) fn queue_delivered(&self, deliveries: u32) {
        self.0.queue.delivered.inc();
        if deliveries > 1 {
            self.0.queue.redelivered.inc();
        }
    }

    pub(crate) fn queue_acknowledged(&self) {
        self.0.queue.acknowledged.inc();
    }

    pub(crate) fn queue_skipped(&self, messages: u64) {
        self.0.queue.skipped.inc_by(messages);
    }

    pub(crate) fn queue_expired(&self) {
        self.0.queue.expired.inc();
    }

    pub(crate) fn queue_dead_letter(&self) {
        self.0.queue.dead_letters.inc();
    }
}
