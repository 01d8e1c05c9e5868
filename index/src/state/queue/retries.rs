//! What is remembered of messages that were delivered and not settled, by offset. When receipts of ten million messages
//! expire, each is remembered: in pages of 64 offsets a message takes its 24 bytes and little more, a third of what a map of
//! single ones takes.

use std::collections::BTreeMap;

use crate::{
    command::Retry,
    ids::Offset,
    sparse::{PAGE, Sparse},
};

/// Retries by offset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retries {
    /// Never an empty page.
    pages: BTreeMap<u64, Sparse<Retry>>,
}

/// The bits of page `page` whose offsets are in `first..end`.
fn mask(page: u64, first: u64, end: u64) -> u64 {
    let base = page * PAGE;
    let below = |offset: u64| match offset.saturating_sub(base) {
        bits if bits >= PAGE => u64::MAX,
        bits => (1 << bits) - 1,
    };
    below(end) & !below(first)
}

impl Retries {
    /// What is remembered of a message.
    pub fn get(&self, offset: Offset) -> Option<&Retry> {
        let (page, bit) = (offset.0 / PAGE, offset.0 % PAGE);
        self.pages.get(&page)?.get(bit)
    }

    /// All from `first` on and before `end`, ascending.
    pub fn range(&self, first: Offset, end: Offset) -> impl Iterator<Item = (Offset, &Retry)> {
        let pages = first.0 / PAGE..end.0.div_ceil(PAGE).max(first.0 / PAGE);
        self.pages.range(pages).flat_map(move |(number, page)| {
            let within = mask(*number, first.0, end.0);
            let places = page.iter().filter(move |(bit, _)| within >> bit & 1 == 1);
            places.map(move |(bit, retry)| (Offset(number * PAGE + bit), retry))
        })
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Offset, &Retry)> {
        self.pages
            .iter()
            .flat_map(|(number, page)| page.iter().map(move |(bit, retry)| (Offset(number * PAGE + bit), retry)))
    }

    pub(super) fn insert(&mut self, offset: Offset, retry: Retry) {
        self.pages.entry(offset.0 / PAGE).or_default().put(offset.0 % PAGE, retry);
    }

    /// Forgets those from `first` on and before `end`, in proportion to what is forgotten.
    pub(super) fn forget(&mut self, first: Offset, end: Offset) {
        let mut from = first.0 / PAGE;
        while let Some((number, page)) = self.pages.range_mut(from..end.0.div_ceil(PAGE).max(from)).next() {
            let number = *number;
            page.keep(!mask(number, first.0, end.0));
            if page.present() == 0 {
                self.pages.remove(&number);
            }
            from = number + 1;
        }
    }
}

impl FromIterator<(Offset, Retry)> for Retries {
    fn from_iter<I: IntoIterator<Item = (Offset, Retry)>>(retries: I) -> Self {
        let mut all = Self::default();
        retries.into_iter().for_each(|(offset, retry)| all.insert(offset, retry));
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// One that differs from offset to offset.
    fn retry(deliveries: u32) -> Retry {
        Retry { deliveries, ..Retry::default() }
    }

    proptest! {
        #[test]
        fn they_are_what_a_map_of_single_ones_would_be(
            steps in vec((0..300u64, 0..150u64, 0..4u8), 0..60), first in 0..300u64, length in 0..200u64,
        ) {
            let (mut retries, mut model) = (Retries::default(), BTreeMap::new());
            for (number, (offset, length, what)) in (1..).zip(steps) {
                if what == 0 {
                    retries.forget(Offset(offset), Offset(offset + length));
                    model.retain(|at: &Offset, _| at.0 < offset || at.0 >= offset + length);
                } else {
                    retries.insert(Offset(offset), retry(number));
                    model.insert(Offset(offset), retry(number));
                }
            }
            let all: BTreeMap<_, _> = retries.iter().map(|(at, retry)| (at, *retry)).collect();
            prop_assert_eq!(&all, &model);
            prop_assert_eq!(&retries, &model.iter().map(|(at, retry)| (*at, *retry)).collect::<Retries>());
            let range: Vec<_> = retries.range(Offset(first), Offset(first + length)).map(|(at, retry)| (at, *retry)).collect();
            let wanted: Vec<_> = model.range(Offset(first)..Offset(first + length)).map(|(at, retry)| (*at, *retry)).collect();
            prop_assert_eq!(range, wanted);
            for at in 0..300 {
                prop_assert_eq!(retries.get(Offset(at)), model.get(&Offset(at)));
            }
        }
    }

    /// Run it alone: `cargo test -p brigade-index ten_million_retries -- --ignored`.
    #[test]
    #[ignore = "takes long, and measures the memory of the whole process"]
    fn ten_million_retries_take_little_more_than_themselves() {
        let mut retries = Retries::default();
        (0..10_000_000).for_each(|at| retries.insert(Offset(at), retry(1)));
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
        let peak_mib = peak.trim().parse::<u64>().unwrap() / 1024;
        assert_eq!(retries.iter().count(), 10_000_000);
        assert!(peak_mib < 320, "{peak_mib} MiB");
        println!("{peak_mib} MiB");
    }
}
