//! Web-server log lines in the common "combined" format: as many as wanted, the same for the same seed, no two equal.

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
}
