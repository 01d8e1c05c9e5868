//! Log lines to send: web-server lines in the common "combined" format, and events of services as JSON. As many as
//! wanted, the same for the same seed, no two equal.

use rand::{RngExt, SeedableRng, rngs::StdRng};

const PATHS: [&str; 8] = [
    "/",
    "/products",
    "/products/4711",
    "/cart",
    "/checkout",
    "/api/v1/search?q=bucket",
    "/static/app.js",
    "/blog/größe",
];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15",
    "curl/8.14.1",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
];
const STATUSES: [u16; 8] = [200, 200, 200, 200, 200, 304, 404, 500];

/// An endless log.
#[derive(Debug)]
pub struct LogLines {
    random: StdRng,
    second: u32,
    number: u64,
}

/// Log lines from `seed`.
pub fn log_lines(seed: u64) -> LogLines {
    LogLines { random: StdRng::seed_from_u64(seed), second: 0, number: 0 }
}

impl Iterator for LogLines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let random = &mut self.random;
        self.number += 1;
        self.second += u32::from(random.random_range(0..20) == 0);
        let [a, b, c] = [(); 3].map(|()| random.random_range(1..255_u8));
        let path = PATHS[random.random_range(0..PATHS.len())];
        let agent = AGENTS[random.random_range(0..AGENTS.len())];
        let status = STATUSES[random.random_range(0..STATUSES.len())];
        let bytes = random.random_range(0..50_000_u32);
        let (hour, minute, second) = (self.second / 3_600 % 24, self.second / 60 % 60, self.second % 60);
        Some(format!(
            "10.{a}.{b}.{c} - - [10/Oct/2025:{hour:02}:{minute:02}:{second:02} +0000] \"GET {path} HTTP/1.1\" {status} \
             {bytes} \"-\" \"{agent}\" request={}",
            self.number
        ))
    }
}

const SERVICES: [&str; 6] = ["checkout", "payments", "inventory", "search", "accounts", "notifications"];
const MESSAGES: [&str; 6] = [
    "request completed",
    "cache miss, reading from the database",
    "payment authorised by the provider",
    "retrying after a time-out of the upstream",
    "user signed in with a second factor",
    "order could not be reserved, not enough in stock",
];
const LEVELS: [&str; 6] = ["info", "info", "info", "debug", "warn", "error"];

/// An endless log of services, as JSON objects.
#[derive(Debug)]
pub struct JsonLines {
    random: StdRng,
    time_ms: i64,
    number: u64,
    bytes: usize,
}

/// JSON log lines from `seed`, of about `bytes` bytes each, at least 400. They have what services write into their logs:
/// random identifiers and numbers next to words and names that repeat.
pub fn json_lines(seed: u64, bytes: usize) -> JsonLines {
    JsonLines { random: StdRng::seed_from_u64(seed), time_ms: 1_760_000_000_000, number: 0, bytes }
}

impl Iterator for JsonLines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let random = &mut self.random;
        self.number += 1;
        self.time_ms += random.random_range(0..20_i64);
        let [trace, span, user] = [(); 3].map(|()| random.random::<u64>());
        let (service, pod) = (SERVICES[random.random_range(0..SERVICES.len())], random.random_range(0..40_u32));
        let which = random.random_range(0..MESSAGES.len());
        let path = PATHS[random.random_range(0..PATHS.len())];
        let agent = AGENTS[random.random_range(0..AGENTS.len())];
        let status = STATUSES[random.random_range(0..STATUSES.len())];
        let (took, size) = (random.random_range(100..2_000_000_u32), random.random_range(0..50_000_u32));
        let mut line = format!(
            "{{\"time\":{},\"level\":\"{}\",\"service\":\"{service}\",\"pod\":\"{service}-7d9f{pod:04x}\",\"trace_id\":\"{trace:016x}\",\
             \"span_id\":\"{span:016x}\",\"message\":\"{}\",\"http\":{{\"method\":\"GET\",\"path\":\"{path}\",\"status\":{status},\
             \"bytes\":{size},\"agent\":\"{agent}\"}},\"took_us\":{took},\"user\":\"u-{user:x}\",\"number\":{},\"frames\":[",
            self.time_ms, LEVELS[which], MESSAGES[which], self.number
        );
        // Lines that are long are so for their stack traces.
        let mut separator = "";
        while line.len() + 60 < self.bytes {
            let (module, number) = (random.random_range(0..200_u32), random.random_range(1..2_000_u32));
            let service = SERVICES[random.random_range(0..SERVICES.len())];
            line.push_str(&format!("{separator}\"{service}::module{module}::handle:{number}\""));
            separator = ",";
        }
        line.push_str("]}");
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_lines_and_none_twice() {
        let lines: Vec<_> = log_lines(1).take(2_000).collect();
        assert!(log_lines(1).take(2_000).eq(lines.iter().cloned()));
        assert!(!log_lines(2).take(2_000).eq(lines.iter().cloned()));
        assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), lines.len());
        assert!(lines.iter().all(|line| !line.contains('\n')));
    }

    #[test]
    fn json_lines_are_json_of_the_size_wanted() {
        let lines: Vec<_> = json_lines(1, 1_024).take(500).collect();
        assert!(json_lines(1, 1_024).take(500).eq(lines.iter().cloned()));
        assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), lines.len());
        for line in &lines {
            assert!((950..=1_024).contains(&line.len()), "{}", line.len());
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        }
    }
}
