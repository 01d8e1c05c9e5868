//! Reads Prometheus text: what a server says of itself under `/metrics`.

use std::collections::BTreeMap;

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// All samples of a page; comments and lines that are none are passed over.
pub(crate) fn parse(text: &str) -> Vec<Sample> {
    text.lines().map(str::trim).filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    // A timestamp or an exemplar may follow.
    let value = match rest.split_whitespace().next()? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    (!name.is_empty()).then(|| Sample { name: name.to_owned(), labels, value })
}

/// The labels after an opening brace, and what follows the closing one.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.insert(name.trim().to_owned(), value);
        rest = after;
    }
}

/// A value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn samples_labels_and_escapes() {
        let samples = parse(
            "# HELP x y\n# TYPE x counter\nx_total{operation=\"put\", region=\"a\\\"b\\\\c\\nd,}\",} 12 1700000000000\n\
             up 1\nq{le=\"+Inf\"} +Inf\nprocess_cpu_seconds_total 1.5e1\n\nbroken{a=\"b\nalso broken\nno_value{a=\"b\"}\n# EOF\n",
        );
        assert_eq!(samples.len(), 4);
        assert_eq!(samples[0].name, "x_total");
        assert_eq!((samples[0].label("operation"), samples[0].label("region")), ("put", "a\"b\\c\nd,}"));
        assert!((samples[0].value - 12.0).abs() < f64::EPSILON);
        assert_eq!((samples[1].name.as_str(), samples[1].labels.len()), ("up", 0));
        assert!(samples[2].value.is_infinite());
        assert!((samples[3].value - 15.0).abs() < f64::EPSILON);
    }
}
