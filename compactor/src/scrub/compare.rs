//! One region against another, and against the index.

use std::collections::BTreeMap;

use brigade_index::{
    ids::Partition,
    region::Mark,
    state::{Regions, ShardState},
};

use super::{
    Found,
    report::{Code, Finding, Findings, PartitionContent, PartitionReport, Severity},
    scene::{Scene, Sight},
    verify::Held,
};

const ALARM: &str = "this must never be; keep the buckets as they are and report it";

/// Where the states of two regions after the same entries differ, if they do. URLs of regions are as each node was told.
fn difference(one: &ShardState, other: &ShardState) -> Option<String> {
    let regions = |regions: &Regions| {
        let records = regions.iter().map(|record| (record.number, record.name.clone(), record.region_id.clone()));
        (records.collect::<Vec<_>>(), regions.voters().cloned())
    };
    if regions(&one.regions) != regions(&other.regions) {
        return Some("the regions of the cluster".to_owned());
    }
    if one.topics().len() != other.topics().len() {
        return Some("the list of topics".to_owned());
    }
    if let Some((topic, _)) = one.topics().zip(other.topics()).find(|(one, other)| one != other) {
        return Some(format!("topic {}", topic.name));
    }
    if one.transactions != other.transactions {
        return Some("the transactions".to_owned());
    }
    if one.archive != other.archive {
        return Some("claims and garbage of the archive".to_owned());
    }
    let rest = |state: &ShardState| (state.applied, state.time_ms, state.last_topic());
    (rest(one) != rest(other)).then(|| "the time, or the number of topics".to_owned())
}

/// Compares what each region says with what another one says of the same entries.
pub(crate) fn states(scene: &Scene) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, sight) in scene.sights.iter().enumerate() {
        let content = &sight.content;
        let sequence = content.fold.committed.min(content.accepted()).min(scene.state.applied);
        let Some(state) = content.state_at(sequence) else { continue };
        // Those that come later are compared with this one when it is their turn, unless they cannot tell it any more.
        let others = scene.sights.iter().enumerate().filter(|(other, _)| *other != at);
        let other = others.filter(|(_, other)| other.content.fold.committed >= sequence);
        let found = other.filter_map(|(_, other)| Some((other, other.content.state_at(sequence)?))).next();
        let Some((other, expected)) = found else { continue };
        if let Some(what) = difference(&state, &expected) {
            let problem = format!("after entry {sequence} it says something else than region {}: {what}", other.name);
            let name = sight.name.as_str();
            findings.push(Finding::region(Code::StateMismatch, Severity::Error, name, problem, ALARM));
        }
    }
    findings
}

/// Whether a region is behind, or has gone backwards: by what was known when it was looked at for the first time.
/// With a `hole` in its path it is told why.
pub(crate) fn behind(before: &Scene, was: &Sight, now: &Sight, hole: bool) -> Vec<Finding> {
    let name = now.name.as_str();
    let mut findings = Vec::new();
    let (accepted, known) = (now.content.accepted(), before.state.applied);
    if accepted < known && !hole && now.content.damage.is_empty() {
        let missing = known.0 - accepted.0;
        let problem = format!("it has entries up to {accepted}; {missing} that are committed are not there yet");
        let hint = "a server that runs catches it up";
        findings.push(Finding::region(Code::RegionBehind, Severity::Info, name, problem, hint));
    }
    let absent = before.wanted.files.values().filter(|file| !file.file.regions.contains(&was.number)).count();
    if absent > 0 {
        let problem = "archive files have not been copied into it yet";
        let finding =
            Finding::region(Code::RegionBehind, Severity::Info, name, problem, "a server that runs copies them");
        findings.push(Finding { objects: absent as u64, ..finding });
    }
    let marks = before.sights.iter().filter_map(|sight| sight.content.fold.marks.get(&was.number));
    let mark = marks.max_by_key(|mark| (mark.ballot, mark.sequence));
    let lost = |mark: &&Mark| now.content.damage.is_empty() && !now.content.fold.reaches(mark);
    if let Some(mark) = mark.filter(lost) {
        let sequence = mark.sequence;
        let problem = format!("it had accepted entries up to {sequence} and has lost some: is it an old copy?");
        let hint = "put a new region in its place: brigade region replace";
        findings.push(Finding::region(Code::RegionWentBackwards, Severity::Error, name, problem, hint));
    }
    findings
}

/// What every region holds of every partition. Regions that hold all of it must hold the same.
pub(crate) fn partitions(scene: &Scene, found: &[Found], findings: &mut Findings) -> Vec<PartitionReport> {
    let mut reports = Vec::new();
    for topic in scene.state.topics_by_name(None) {
        for (number, log) in (0..).zip(&topic.partitions) {
            let of = (topic.id, Partition(number));
            let files = log.files().iter().map(|file| file.rows);
            let messages = files.chain(log.runs().iter().map(|run| u64::from(run.rows))).sum();
            let held: BTreeMap<&str, Held> = found
                .iter()
                .map(|found| (found.sight.name.as_str(), found.verified.held.get(&of).copied().unwrap_or_default()))
                .collect();
            let mut complete = held.iter().filter(|(_, held)| !held.lacks);
            if let Some((first, expected)) = complete.next()
                && let Some((name, _)) = complete.find(|(_, held)| *held != expected)
            {
                let place = format!("partition {number} of topic {}", topic.name);
                let problem = format!("it holds other messages of {place} than region {first}");
                findings.add(Finding::region(Code::ContentMismatch, Severity::Error, name, problem, ALARM));
            }
            let content = |(name, held): (&str, Held)| PartitionContent {
                region: name.to_owned(),
                messages: held.messages,
                set_hash: format!("{:032x}", held.hash.0),
                complete: !held.lacks && held.messages == messages,
            };
            reports.push(PartitionReport {
                topic: topic.name.to_string(),
                partition: number,
                log_start: log.log_start.0,
                high_watermark: log.high_watermark.0,
                files: log.files().len() as u64,
                messages,
                regions: held.into_iter().map(content).collect(),
            });
        }
    }
    reports
}
