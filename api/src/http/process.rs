//! Figures of the process and the shard, looked up only when somebody asks.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::figures::ShardFigures;
use crate::serve::Seat;

/// Memory, processor time and start of this process, under the names that all Prometheus clients use.
#[derive(Debug)]
pub struct ProcessMetrics {
    /// When the process started, milliseconds since the Unix epoch.
    pub started_ms: i64,
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let started = ConstGauge::new(self.started_ms as f64 / 1000.0);
        let (name, help) = ("process_start_time_seconds", "Start of the process, seconds since the Unix epoch");
        started.encode(encoder.encode_descriptor(name, help, None, started.metric_type())?)?;
        if let Some(bytes) = resident_bytes() {
            let resident = ConstGauge::new(bytes);
            let (name, help) = ("process_resident_memory_bytes", "Resident memory");
            resident.encode(encoder.encode_descriptor(name, help, None, resident.metric_type())?)?;
        }
        if let Some(seconds) = cpu_seconds() {
            let cpu = ConstCounter::new(seconds);
            let (name, help) = ("process_cpu_seconds", "User and system processor time");
            cpu.encode(encoder.encode_descriptor(name, help, None, cpu.metric_type())?)?;
        }
        Ok(())
    }
}

/// From the line `VmRSS:    1234 kB` of the process's status. Only Linux has it.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// From the 14th and 15th field of the process's stat, in ticks of which Linux shows a hundred a second.
pub(crate) fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

/// State of a shard: of this node's present reign, or of its last one.
pub(crate) struct ShardMetrics(pub(crate) Seat);

impl fmt::Debug for ShardMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShardMetrics")
    }
}

impl Collector for ShardMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        ShardFigures::of(&self.0).encode(&mut encoder)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_tells_memory_and_processor_time() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(cpu_seconds().is_some_and(|seconds| (0.0..1e6).contains(&seconds)));
    }
}
