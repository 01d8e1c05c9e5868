//! Medians, percentiles and ratios.

use std::time::Duration;

/// Latencies, all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies(Vec<f64>);

impl Latencies {
    pub(super) fn record(&mut self, latency: Duration) {
        self.0.push(latency.as_secs_f64() * 1_000.0);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The latency in milliseconds that a part of all does not exceed; not a number when there are none.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        quantile(&self.0, part)
    }
}

/// The value that a part of all does not exceed; not a number when there are none.
pub(super) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

pub(super) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The smallest; not a number when there are none.
pub(super) fn smallest(values: &[f64]) -> f64 {
    quantile(values, 0.0)
}

/// The largest; not a number when there are none.
pub(super) fn largest(values: &[f64]) -> f64 {
    quantile(values, 1.0)
}

/// A number with three digits behind the point, for reports.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occur() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!((median(&values), smallest(&values), largest(&values)), (3.0, 1.0, 5.0));
        assert_eq!((quantile(&values, 0.2), quantile(&values, 0.21)), (1.0, 2.0));
        assert!(median(&[]).is_nan());
    }
}
