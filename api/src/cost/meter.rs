//! What a server has counted since its start: requests and bytes by component and region, and what was published.

use std::collections::BTreeMap;

use crate::exposition;

/// Requests and bytes of one component of a node, to one region's store.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Traffic {
    /// Requests that write or list.
    pub(crate) puts: f64,
    /// Requests that read.
    pub(crate) gets: f64,
    /// Requests that delete.
    pub(crate) deletes: f64,
    /// Bytes of bodies written.
    pub(crate) sent: f64,
    /// Bytes of bodies read.
    pub(crate) received: f64,
}

impl Traffic {
    fn each(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            puts: f(self.puts, other.puts),
            gets: f(self.gets, other.gets),
            deletes: f(self.deletes, other.deletes),
            sent: f(self.sent, other.sent),
            received: f(self.received, other.received),
        }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        self.each(other, |one, other| one + other)
    }
}

/// A server's counters at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Meter {
    /// By component and region.
    pub(crate) traffic: BTreeMap<(String, String), Traffic>,
    /// Bytes of keys, values and headers published.
    pub(crate) published_bytes: f64,
    /// Messages published.
    pub(crate) published_messages: f64,
    /// Bytes of messages that a region's journal holds now.
    pub(crate) journal_bytes: f64,
    /// Bytes of archive files that a region holds now.
    pub(crate) archive_bytes: f64,
    /// When the server started, seconds since the Unix epoch.
    pub(crate) started: f64,
}

impl Meter {
    /// Reads what a server says under `/metrics`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut meter = Self::default();
        for sample in exposition::parse(text) {
            let place = (sample.label("component").to_owned(), sample.label("region").to_owned());
            let value = sample.value;
            match (sample.name.as_str(), sample.label("operation")) {
                ("brigade_store_requests_total", "put" | "list") => {
                    meter.traffic.entry(place).or_default().puts += value
                }
                ("brigade_store_requests_total", "get") => meter.traffic.entry(place).or_default().gets += value,
                ("brigade_store_requests_total", "delete") => meter.traffic.entry(place).or_default().deletes += value,
                ("brigade_store_sent_bytes_total", _) => meter.traffic.entry(place).or_default().sent += value,
                ("brigade_store_received_bytes_total", _) => meter.traffic.entry(place).or_default().received += value,
                ("brigade_ingest_published_bytes_total", _) => meter.published_bytes += value,
                ("brigade_ingest_published_messages_total", _) => meter.published_messages += value,
                ("brigade_shard_journal_bytes", _) => meter.journal_bytes += value,
                ("brigade_shard_archive_bytes", _) => meter.archive_bytes += value,
                ("process_start_time_seconds", _) => meter.started = value,
                _ => {}
            }
        }
        meter
    }

    /// What was counted since an earlier moment; of what is stored, what is there now. `None` if the server has been
    /// started again in between.
    pub(crate) fn since(&self, before: &Self) -> Option<Self> {
        if (self.started - before.started).abs() > 0.5 {
            return None;
        }
        let traffic = self.traffic.iter().map(|(place, now)| {
            let before = before.traffic.get(place).copied().unwrap_or_default();
            (place.clone(), now.each(before, |now, before| (now - before).max(0.0)))
        });
        Some(Self {
            traffic: traffic.collect(),
            published_bytes: self.published_bytes - before.published_bytes,
            published_messages: self.published_messages - before.published_messages,
            ..self.clone()
        })
    }

    /// Regions that were written to or read from.
    pub(crate) fn regions(&self) -> Vec<&str> {
        let mut regions: Vec<_> = self.traffic.keys().map(|(_, region)| region.as_str()).collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "process_start_time_seconds 100\nbrigade_ingest_published_bytes_total 10\n\
        brigade_store_requests_total{operation=\"put\",region=\"a\",component=\"journal\",outcome=\"ok\"} 2\n";
    const AFTER: &str = "process_start_time_seconds 100\nbrigade_ingest_published_bytes_total 50\n\
        brigade_ingest_published_messages_total 4\nbrigade_shard_archive_bytes{shard=\"0\"} 7\n\
        brigade_store_requests_total{operation=\"put\",region=\"a\",component=\"journal\",outcome=\"ok\"} 5\n\
        brigade_store_requests_total{operation=\"put\",region=\"a\",component=\"journal\",outcome=\"timeout\"} 1\n\
        brigade_store_requests_total{operation=\"list\",region=\"a\",component=\"journal\",outcome=\"ok\"} 1\n\
        brigade_store_requests_total{operation=\"get\",region=\"b\",component=\"read\",outcome=\"absent\"} 3\n\
        brigade_store_received_bytes_total{region=\"b\",component=\"read\"} 900\n";

    #[test]
    fn differences_by_component_and_region() {
        let (before, after) = (Meter::parse(BEFORE), Meter::parse(AFTER));
        let since = after.since(&before).unwrap();
        let journal = since.traffic[&("journal".to_owned(), "a".to_owned())];
        assert_eq!((journal.puts, journal.gets), (5.0, 0.0), "failed ones and listings are paid for, too");
        let read = since.traffic[&("read".to_owned(), "b".to_owned())];
        assert_eq!((read.gets, read.received), (3.0, 900.0));
        assert_eq!((since.published_bytes, since.published_messages, since.archive_bytes), (40.0, 4.0, 7.0));
        assert_eq!(since.regions(), ["a", "b"]);
        let again = Meter { started: 200.0, ..after };
        assert_eq!(again.since(&before), None);
    }
}
