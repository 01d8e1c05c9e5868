//! A look at a node's Prometheus text.

/// Sum of all series of a metric whose labels contain every one of `labels` (written as in the text: `operation="put"`).
/// `None` when there is no such series.
pub fn sum(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let mut sum = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (found, found_labels) = series.split_once('{').unwrap_or((series, ""));
        if found == name && labels.iter().all(|label| found_labels.contains(label)) {
            *sum.get_or_insert(0.0) += value.parse::<f64>().unwrap_or(f64::NAN);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_picked_by_name_and_labels() {
        let text = "# TYPE a counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\"} 4.5\na_total_more 100\nb 7\n";
        assert_eq!(sum(text, "a_total", &[]), Some(7.5));
        assert_eq!(sum(text, "a_total", &["y=\"2\"", "x=\"1\""]), Some(3.0));
        assert_eq!(sum(text, "b", &[]), Some(7.0));
        assert_eq!(sum(text, "c", &[]), None);
    }
}
