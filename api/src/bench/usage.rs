//! What the server itself counts, before and after: store requests and bytes (the bill), processor time and memory.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    client::{Client, ClientError},
    exposition,
};

/// The server's counters at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Usage {
    store_requests: BTreeMap<String, f64>,
    store_bytes: BTreeMap<String, f64>,
    cpu_seconds: Option<f64>,
    pub(super) memory_bytes: Option<f64>,
}

impl Usage {
    pub(super) async fn fetch(client: &Client) -> Result<Self, ClientError> {
        client.metrics().await.map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut usage = Self::default();
        for sample in exposition::parse(text) {
            match sample.name.as_str() {
                "brigade_store_requests_total" => {
                    *usage.store_requests.entry(sample.label("operation").to_owned()).or_default() += sample.value;
                }
                "brigade_store_sent_bytes_total" => {
                    *usage.store_bytes.entry("put".to_owned()).or_default() += sample.value;
                }
                "brigade_store_received_bytes_total" => {
                    *usage.store_bytes.entry("get".to_owned()).or_default() += sample.value;
                }
                "process_cpu_seconds_total" => usage.cpu_seconds = Some(sample.value),
                "process_resident_memory_bytes" => usage.memory_bytes = Some(sample.value),
                _ => {}
            }
        }
        usage
    }

    /// What was used between an earlier moment and this one.
    pub(super) fn since(&self, before: &Self, messages: u64) -> Used {
        let difference = |after: &BTreeMap<String, f64>, before: &BTreeMap<String, f64>| -> BTreeMap<String, u64> {
            let since = |(name, value): (&String, &f64)| {
                (name.clone(), (value - before.get(name).copied().unwrap_or(0.0)).max(0.0) as u64)
            };
            after.iter().map(since).filter(|(_, value)| *value > 0).collect()
        };
        let store_requests = difference(&self.store_requests, &before.store_requests);
        let store_bytes = difference(&self.store_bytes, &before.store_bytes);
        let per_message = |total: u64| (messages > 0).then(|| total as f64 / messages as f64);
        Used {
            store_requests_per_message: per_message(store_requests.values().sum()),
            store_bytes_per_message: per_message(store_bytes.values().sum()),
            store_requests,
            store_bytes,
            cpu_seconds: self.cpu_seconds.zip(before.cpu_seconds).map(|(after, before)| after - before),
            peak_memory_bytes: None,
        }
    }
}

/// Processor time of this process.
pub(super) fn own_cpu_seconds() -> Option<f64> {
    crate::http::cpu_seconds()
}

/// What the server used during a measurement.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Used {
    /// Requests to the store by operation.
    pub(super) store_requests: BTreeMap<String, u64>,
    pub(super) store_requests_per_message: Option<f64>,
    /// Bytes to (`put`) and from (`get`) the store.
    pub(super) store_bytes: BTreeMap<String, u64>,
    pub(super) store_bytes_per_message: Option<f64>,
    /// Processor time of the server, if it says so.
    pub(super) cpu_seconds: Option<f64>,
    /// Largest resident memory of the server that was seen, if it says so.
    pub(super) peak_memory_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::Usage;

    #[test]
    fn differences_are_added_over_regions_and_components() {
        let before = Usage::parse(
            "brigade_store_requests_total{operation=\"put\",region=\"a\",component=\"journal\"} 10\n\
             brigade_store_sent_bytes_total{region=\"a\"} 1000\nprocess_cpu_seconds_total 1\n",
        );
        let after = Usage::parse(
            "brigade_store_requests_total{operation=\"put\",region=\"a\",component=\"journal\"} 15\n\
             brigade_store_requests_total{operation=\"put\",region=\"b\",component=\"journal\"} 5\n\
             brigade_store_requests_total{operation=\"list\",region=\"a\",component=\"journal\"} 0\n\
             brigade_store_sent_bytes_total{region=\"a\"} 3000\n\
             process_cpu_seconds_total 2.5\nprocess_resident_memory_bytes 1048576\n",
        );
        let used = after.since(&before, 100);
        assert_eq!(used.store_requests.into_iter().collect::<Vec<_>>(), [("put".to_owned(), 10)]);
        assert_eq!(used.store_requests_per_message, Some(0.1));
        assert_eq!(used.store_bytes_per_message, Some(20.0));
        assert_eq!(used.cpu_seconds, Some(1.5));
        assert_eq!(after.memory_bytes, Some(1_048_576.0));
    }
}
