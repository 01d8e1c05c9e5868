//! Web-server log lines in JSON, every one different, the same for the same seed.
//!
//! A line of 1 KiB holds about 100 bytes that nothing predicts (trace and span ids, times, sizes), and otherwise what
//! logs repeat: field names, hosts, paths, agents, returning users. A thousand of them compress 2.7 times with LZ4 in
//! Arrow's format; a test keeps that between 2.5 and 3.

use std::io::{self, BufWriter, Write};

use super::args::GenerateArgs;
use crate::cli::CliError;

const METHODS: [&str; 8] = ["GET", "GET", "GET", "GET", "GET", "POST", "PUT", "DELETE"];
const STATUSES: [u16; 16] = [200, 200, 200, 200, 200, 200, 200, 200, 200, 201, 204, 302, 304, 404, 429, 500];
const SECTIONS: [&str; 8] = ["products", "orders", "cart", "search", "account", "reviews", "checkout", "images"];
const SERVICES: [&str; 8] = ["gateway", "catalog", "pricing", "stock", "session", "payment", "mail", "ledger"];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    "shop-app/7.31.2 (Android 15; Pixel 9) okhttp/4.12.0",
];
const WORDS: [&str; 16] = [
    "served",
    "from",
    "cache",
    "after",
    "retry",
    "of",
    "upstream",
    "with",
    "stale",
    "token",
    "for",
    "returning",
    "user",
    "in",
    "zone",
    "west",
];

/// Bytes of a span in a line, at most.
const SPAN_BYTES: usize = 80;

/// The opening and end of the last field, which fills a line up to its length.
const NOTE: (&str, &str) = (",\"note\":\"", "\"}");

/// An endless sequence of log lines of one length.
#[derive(Clone, Debug)]
pub(super) struct LogLines {
    random: SplitMix64,
    message_bytes: usize,
    time_ms: u64,
    scratch: Vec<u8>,
}

impl LogLines {
    pub(super) fn new(seed: u64, message_bytes: usize) -> Self {
        Self { random: SplitMix64(seed), message_bytes, time_ms: 0, scratch: Vec::new() }
    }

    /// The next line, without a line end. One too short for all fields of a JSON object is plain text.
    pub(super) fn next_line(&mut self) -> &[u8] {
        let mut line = std::mem::take(&mut self.scratch);
        line.clear();
        self.time_ms += self.random.below(20);
        self.request(&mut line);
        if line.len() + NOTE.0.len() + NOTE.1.len() > self.message_bytes {
            line.clear();
            self.plain(&mut line);
            self.words(&mut line, self.message_bytes);
        } else {
            self.spans(&mut line);
            line.extend_from_slice(NOTE.0.as_bytes());
            self.words(&mut line, self.message_bytes - NOTE.1.len());
            line.extend_from_slice(NOTE.1.as_bytes());
        }
        self.scratch = line;
        &self.scratch
    }

    fn request(&mut self, line: &mut Vec<u8>) {
        let random = &mut self.random;
        // Few users come often, many come rarely.
        let user = random.below(20_000).min(random.below(20_000));
        let session = SplitMix64(user).next();
        let section = random.pick(&SECTIONS);
        let (day, second) = (1 + self.time_ms / 86_400_000 % 31, self.time_ms / 1_000 % 86_400);
        // Writing to a vector cannot fail.
        let _ = write!(
            line,
            "{{\"time\":\"2026-01-{day:02}T{:02}:{:02}:{:02}.{:03}Z\",\"host\":\"web-{:02}.eu-west-1.shop.example\",\
             \"client\":\"203.0.{}.{}\",\"user\":\"u-{user:06}\",\"session\":\"{session:016x}\",\"method\":\"{}\",\
             \"path\":\"/{section}/{}\",\"status\":{},\"bytes\":{},\"ms\":{}.{},\
             \"referrer\":\"https://www.shop.example/{section}?page={}\",\"agent\":\"{}\",\"trace\":\"{:016x}{:016x}\"",
            second / 3_600,
            second / 60 % 60,
            second % 60,
            self.time_ms % 1_000,
            random.below(24),
            session % 256,
            session / 256 % 256,
            random.pick(&METHODS),
            random.below(50_000),
            random.pick(&STATUSES),
            random.below(60_000),
            random.below(300),
            random.below(10),
            random.below(40),
            AGENTS[(session / 65_536 % 4) as usize],
            random.next(),
            random.next(),
        );
    }

    fn spans(&mut self, line: &mut Vec<u8>) {
        let end = self.message_bytes.saturating_sub(NOTE.0.len() + NOTE.1.len());
        if line.len() + 12 + SPAN_BYTES > end {
            return;
        }
        line.extend_from_slice(b",\"spans\":[");
        let mut first = true;
        while line.len() + 1 + SPAN_BYTES <= end {
            if !std::mem::take(&mut first) {
                line.push(b',');
            }
            let service = self.random.pick(&SERVICES);
            let (ms, id) = (self.random.below(5_000), self.random.next());
            let _ =
                write!(line, "{{\"service\":\"{service}\",\"us\":{ms},\"cached\":{},\"id\":\"{id:016x}\"}}", ms < 900);
        }
        line.push(b']');
    }

    fn plain(&mut self, line: &mut Vec<u8>) {
        let random = &mut self.random;
        let (id, section) = (random.next(), random.pick(&SECTIONS));
        let (status, bytes) = (random.pick(&STATUSES), random.below(60_000));
        let _ = write!(line, "{id:016x} GET /{section} {status} {bytes} ");
        line.truncate(self.message_bytes);
    }

    /// Fills up with words to exactly `length`.
    fn words(&mut self, line: &mut Vec<u8>, length: usize) {
        while line.len() < length {
            line.extend_from_slice(self.random.pick(&WORDS).as_bytes());
            line.push(b' ');
        }
        line.truncate(length);
    }
}

/// A small generator whose sequence is fixed by its definition, so that a data set stays the same for ever (the state
/// advances by the golden ratio and is mixed by two multiplications: Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; its bias of at most `bound / 2^32` does not matter here.
    fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Runs `brigade bench generate`.
pub(super) fn run(args: &GenerateArgs) -> Result<(), CliError> {
    let mut lines = LogLines::new(args.message.seed, args.message.message_bytes as usize);
    let mut out = BufWriter::with_capacity(1024 * 1024, io::stdout().lock());
    for _ in 0..args.messages {
        out.write_all(lines.next_line())?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests;
