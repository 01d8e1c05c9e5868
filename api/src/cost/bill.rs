//! Traffic times prices.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Meter, Prices, Traffic};

const GIB: f64 = (1_u64 << 30) as f64;

/// Bytes that must have been published for figures for each GiB.
const LEAST_PUBLISHED: f64 = 1_048_576.0;

/// Seconds that must have gone by for figures for a month.
const LEAST_SECONDS: f64 = 60.0;

/// Seconds of a month of 365.25 / 12 days.
const MONTH: f64 = 365.25 / 12.0 * 86_400.0;

/// What one component of the server has cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    /// The component.
    pub(crate) component: String,
    /// Requests that write or list.
    pub(crate) put_class: u64,
    /// Requests that read.
    pub(crate) get_class: u64,
    /// Requests that delete.
    pub(crate) deletes: u64,
    /// Bytes of bodies written.
    pub(crate) sent_bytes: u64,
    /// Bytes of bodies read.
    pub(crate) received_bytes: u64,
    /// US dollars.
    pub(crate) dollars: f64,
}

/// What a server has cost over some time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Bill {
    /// Name of the store, for people.
    pub(crate) store: String,
    /// Time that it covers.
    pub(crate) seconds: f64,
    /// By component, ascending.
    pub(crate) lines: Vec<Line>,
    /// All of them together.
    pub(crate) total: Line,
    /// Bytes of keys, values and headers published.
    pub(crate) published_bytes: u64,
    /// Messages published.
    pub(crate) published_messages: u64,
    /// Requests that write or list for each GiB published; nothing if nothing was.
    pub(crate) put_class_per_gib: Option<f64>,
    /// Requests that read for each GiB published.
    pub(crate) get_class_per_gib: Option<f64>,
    /// US dollars for each GiB published, without storage.
    pub(crate) dollars_per_gib: Option<f64>,
    /// US dollars a month if it goes on like this, without storage; nothing of less than a minute.
    pub(crate) dollars_a_month: Option<f64>,
    /// Bytes of messages stored now, in the journals of all regions.
    pub(crate) journal_bytes: u64,
    /// Bytes of archive files stored now in all regions.
    pub(crate) archive_bytes: u64,
    /// US dollars a month for what is stored now.
    pub(crate) storage_a_month: f64,
}

impl Bill {
    /// The bill for what a server counted in `seconds`. With `home`, bodies to and from other regions are transferred.
    pub(crate) fn new(meter: &Meter, prices: &Prices, seconds: f64, home: Option<&str>) -> Self {
        let mut lines: BTreeMap<&str, (Traffic, f64)> = BTreeMap::new();
        for ((component, region), traffic) in &meter.traffic {
            let away = home.is_some_and(|home| home != region);
            let (sum, dollars) = lines.entry(component).or_default();
            *sum = sum.and(*traffic);
            *dollars += price(traffic, prices, away);
        }
        let total = lines
            .values()
            .fold((Traffic::default(), 0.0), |(sum, dollars), (traffic, more)| (sum.and(*traffic), dollars + more));
        let dollars = total.1;
        // A ratio to next to nothing would say nothing.
        let gibs = Some(meter.published_bytes / GIB).filter(|_| meter.published_bytes >= LEAST_PUBLISHED);
        let copies = meter.regions().len() as f64;
        let (journal, archive) = (meter.journal_bytes * copies, meter.archive_bytes * copies);
        Self {
            store: prices.title.clone(),
            seconds,
            lines: lines.into_iter().map(|(component, (traffic, dollars))| line(component, traffic, dollars)).collect(),
            total: line("total", total.0, dollars),
            published_bytes: meter.published_bytes as u64,
            published_messages: meter.published_messages as u64,
            put_class_per_gib: gibs.map(|gibs| total.0.puts / gibs),
            get_class_per_gib: gibs.map(|gibs| total.0.gets / gibs),
            dollars_per_gib: gibs.map(|gibs| dollars / gibs),
            dollars_a_month: (seconds >= LEAST_SECONDS).then(|| dollars / seconds * MONTH),
            journal_bytes: journal as u64,
            archive_bytes: archive as u64,
            storage_a_month: (journal + archive) / GIB * prices.stored,
        }
    }
}

fn price(traffic: &Traffic, prices: &Prices, away: bool) -> f64 {
    let transfer = if away { (traffic.sent + traffic.received) / GIB * prices.transfer } else { 0.0 };
    traffic.puts / 1000.0 * prices.put
        + traffic.gets / 1000.0 * prices.get
        + traffic.sent / GIB * prices.sent
        + traffic.received / GIB * prices.received
        + transfer
}

fn line(component: &str, traffic: Traffic, dollars: f64) -> Line {
    Line {
        component: component.to_owned(),
        put_class: traffic.puts as u64,
        get_class: traffic.gets as u64,
        deletes: traffic.deletes as u64,
        sent_bytes: traffic.sent as u64,
        received_bytes: traffic.received as u64,
        dollars,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_bytes_transfer_and_storage_add_up() {
        let traffic = Traffic { puts: 2_000.0, gets: 1_000.0, deletes: 5.0, sent: GIB, received: 2.0 * GIB };
        let place = |component: &str, region: &str| ((component.to_owned(), region.to_owned()), traffic);
        let meter = Meter {
            traffic: [place("journal", "home"), place("journal", "away"), place("read", "home")].into(),
            published_bytes: 2.0 * GIB,
            journal_bytes: GIB,
            ..Meter::default()
        };
        let prices = Prices {
            title: "t".to_owned(),
            put: 1.0,
            get: 0.5,
            sent: 0.1,
            received: 0.01,
            transfer: 10.0,
            stored: 3.0,
        };
        let one = 2.0 + 0.5 + 0.1 + 0.02;
        let bill = Bill::new(&meter, &prices, MONTH / 2.0, Some("home"));
        let close = |left: f64, right: f64| assert!((left - right).abs() < 1e-9, "{left} {right}");
        close(bill.total.dollars, 3.0 * one + 30.0);
        close(bill.lines[0].dollars, 2.0 * one + 30.0);
        close(bill.dollars_a_month.unwrap(), 2.0 * bill.total.dollars);
        close(bill.put_class_per_gib.unwrap(), 3_000.0);
        close(bill.storage_a_month, 6.0);
        assert_eq!(bill.journal_bytes, 2 << 30, "each of the two regions holds it");
        close(Bill::new(&meter, &prices, 1.0, None).total.dollars, 3.0 * one);
        let nothing = Bill::new(&Meter::default(), &prices, 0.0, None);
        assert_eq!((nothing.dollars_per_gib, nothing.dollars_a_month, nothing.total.put_class), (None, None, 0));
    }
}
