//! Measures the wire formats on one core: `cargo run --release --example wire_bench`.

use std::hint::black_box;

use brigade::wire::{
    MessageSink, MessageSlice, Refusal, encode_arrow, encode_json, encode_ndjson, encode_placements, parse_arrow,
    parse_json, parse_ndjson,
};
use brigade_index::batch::{Columns, Compression, MessageRef, Messages};
use tokio::time::{Duration, Instant};

/// Messages in one body.
const ROWS: usize = 500;

struct ToColumns(Columns);

impl MessageSink for ToColumns {
    fn push(&mut self, message: MessageRef<'_>, _: Option<u32>, _: Option<&str>) -> Result<(), Refusal> {
        self.0.push(&message);
        Ok(())
    }
}

/// Only looks at messages, to tell parsing from copying.
struct Nowhere;

impl MessageSink for Nowhere {
    fn push(&mut self, message: MessageRef<'_>, _: Option<u32>, _: Option<&str>) -> Result<(), Refusal> {
        black_box(message.size());
        Ok(())
    }
}

/// Calls `work` on `ROWS` messages for about a second and prints what one message costs.
fn measure(name: &str, mut work: impl FnMut()) {
    let start = Instant::now();
    let mut rounds = 0_u32;
    while start.elapsed() < Duration::from_secs(1) {
        work();
        rounds += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let messages = f64::from(rounds) * ROWS as f64;
    println!("{name:<44} {:>6.0} ns a message, {:>9.0} a second", seconds * 1e9 / messages, messages / seconds);
}

fn bench(name: &str, value: &str) {
    let message = format!(r#"{{"key":"user-1234","value":{value},"headers":{{"trace":"abcdef"}}}}"#);
    let body = format!(r#"{{"messages":[{}]}}"#, vec![message.as_str(); ROWS].join(","));
    let lines = vec![message.as_str(); ROWS].join("\n");
    measure(&format!("{name}: parse JSON, nowhere"), || {
        parse_json(body.as_bytes(), 1, &mut Nowhere).expect("the body is valid");
    });
    let mut sink = ToColumns(Columns::default());
    measure(&format!("{name}: parse JSON into columns"), || {
        sink = ToColumns(Columns::default());
        parse_json(body.as_bytes(), 1, &mut sink).expect("the body is valid");
    });
    let messages = Messages::new(sink.0.into_record_batch()).expect("columns make messages");
    measure(&format!("{name}: parse NDJSON, nowhere"), || {
        parse_ndjson(lines.as_bytes(), 1, &mut Nowhere).expect("the body is valid");
    });
    let slices = [MessageSlice { partition: 3, base_offset: 1_000_000, messages, first: 0, rows: ROWS }];
    measure(&format!("{name}: encode JSON"), || {
        black_box(encode_json(&slices, 13, 20));
    });
    measure(&format!("{name}: encode NDJSON"), || {
        black_box(encode_ndjson(&slices));
    });
    measure(&format!("{name}: encode Arrow"), || {
        black_box(encode_arrow(&slices, Compression::None).expect("columns are valid"));
    });
    let batch = slices[0].messages.record_batch();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).expect("a valid schema");
    writer.write(batch).expect("a valid batch");
    let stream = writer.into_inner().expect("a vector takes everything").into();
    measure(&format!("{name}: parse Arrow, nowhere"), || {
        parse_arrow(&stream, 1, 1 << 30, &mut Nowhere).expect("the stream is valid");
    });
}

fn main() {
    bench("1 KiB of text", &format!("\"{}\"", "x".repeat(1024)));
    let log_line = r#"10.1.2.3 - - [01/Jan/2026] \"GET /index.html?q=ü HTTP/1.1\" 200 \"-\" \"curl/8\" "#;
    bench("1 KiB of log lines", &format!("\"{}\"", log_line.repeat(13)));
    let object = r#"{"id":12345,"name":"a name","tags":["a","b"],"price":12.5}"#;
    bench("1 KiB of JSON", &format!("[{}]", vec![object; 18].join(",")));
    measure("placements", || {
        black_box(encode_placements((0..ROWS as u64).map(|at| (3, 1_000_000 + at)), &[]));
    });
}
