//! How fast old messages are read. It prints; run it alone:
//! `cargo test --release -p brigade-ingest old_messages_are_read -- --ignored --nocapture`.

use brigade_index::archive::WriterSettings;

use super::{archive::noise, *};

/// A fetch takes a millisecond, so that this is the time of decoding, on the threads that there are.
#[test]
#[ignore = "to be run alone"]
fn old_messages_are_read() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async { tokio::spawn(measure()).await.unwrap() });
}

async fn measure() {
    const COUNT: u64 = 128 << 10;
    let world = world(1, IngestSettings::default());
    let values: Vec<_> = (0..1_024).map(|at| noise(at, 1_024)).collect();
    for batch in 0..COUNT / 1_024 {
        let keys: Vec<_> = (0..1_024).map(|at| format!("key-{batch}-{at}")).collect();
        let messages: Vec<_> = keys.iter().zip(&values).map(|(key, value)| (key.as_str(), value.as_str())).collect();
        world.publish(None, &messages).await.unwrap();
    }
    let bounds = (Offset(0), Offset(COUNT));
    world.log.archive(world.id, Partition(0), bounds, &WriterSettings::default(), |_| true);
    for max_bytes in [1 << 20, 8 << 20] {
        let settings = IngestSettings::default();
        let metrics = IngestMetrics::new(&settings);
        let log = Log::Memory(world.log.clone());
        let ingest = Ingest::start_on(log, settings, metrics, Env::simulated(1, 0), &world.tasks);
        let (mut next, mut bytes, started) = (0, 0, tokio::time::Instant::now());
        while next < COUNT {
            let request = world.request(0, ReadFrom::Offset(Offset(next)));
            let request = ReadRequest { max_messages: 100_000, max_bytes, ..request };
            let reply = ingest.read(request).await.unwrap();
            bytes += reply.slices.iter().map(crate::plan::bytes).sum::<usize>();
            next = reply.next_offset.0;
        }
        let (took, ranges) = (started.elapsed(), world.log.fetched_ranges());
        let rate = bytes as f64 / took.as_secs_f64() / f64::from(1 << 20);
        println!("{max_bytes} bytes a read: {rate:.0} MiB/s, {} fetches for {} MiB", ranges.len(), bytes >> 20);
        assert!(next == COUNT && bytes as u64 > COUNT * 1_024);
    }
}
