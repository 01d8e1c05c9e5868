//! What scrubbing found, for people and programs.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// Findings that are told one by one; further ones are counted. A bucket that is damaged all over needs no longer list.
pub const MAX_FINDINGS: usize = 10_000;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is wrong; it is worth knowing.
    Info,
    /// Nothing that is referenced is concerned.
    Warning,
    /// Something that is referenced is missing or damaged, or could not be looked at.
    Error,
}

/// What kind of thing was found. The codes are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The store of a region gives no answer, or what it says changes too fast.
    RegionUnreadable,
    /// A region has no identity.
    MissingIdentity,
    /// A store is another region than it was named, or of another cluster.
    WrongRegion,
    /// A region is none of the cluster any more.
    RetiredRegion,
    /// A region of the cluster was not named, and not looked at.
    RegionNotNamed,
    /// A region has not accepted everything that is committed yet.
    RegionBehind,
    /// A region has lost what it had accepted.
    RegionWentBackwards,
    /// A part of a region could not be looked at, since its path is damaged before.
    NotChecked,
    /// An object that should be there is not.
    MissingObject,
    /// An object is not what it should be.
    CorruptObject,
    /// Objects that nothing refers to, and never will.
    ExtraObject,
    /// An object that Brigade did not write.
    ForeignObject,
    /// What a killed process left of a write.
    StagingFile,
    /// An object that the index does not know yet, or whose deletion is intended: somebody may be at work.
    UnsettledObject,
    /// Two regions say different things of the same entries.
    StateMismatch,
    /// Two regions hold different messages at the same offsets.
    ContentMismatch,
}

impl Code {
    /// As programs see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RegionUnreadable => "region_unreadable",
            Self::MissingIdentity => "missing_identity",
            Self::WrongRegion => "wrong_region",
            Self::RetiredRegion => "retired_region",
            Self::RegionNotNamed => "region_not_named",
            Self::RegionBehind => "region_behind",
            Self::RegionWentBackwards => "region_went_backwards",
            Self::NotChecked => "not_checked",
            Self::MissingObject => "missing_object",
            Self::CorruptObject => "corrupt_object",
            Self::ExtraObject => "extra_object",
            Self::ForeignObject => "foreign_object",
            Self::StagingFile => "staging_file",
            Self::UnsettledObject => "unsettled_object",
            Self::StateMismatch => "state_mismatch",
            Self::ContentMismatch => "content_mismatch",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of thing.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Name of the region; empty when it concerns none or all.
    pub region: String,
    /// Key of the object, or of the first of several; empty when it is none.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub hint: String,
    /// How many objects it concerns.
    pub objects: u64,
    /// Whether it was repaired.
    pub repaired: bool,
}

impl Finding {
    /// A finding about a region as a whole.
    pub(crate) fn region(code: Code, severity: Severity, region: &str, problem: impl Into<String>, hint: &str) -> Self {
        let (region, problem, hint) = (region.to_owned(), problem.into(), hint.to_owned());
        Self { code, severity, region, key: String::new(), problem, hint, objects: 0, repaired: false }
    }

    /// A finding about an object.
    pub(crate) fn object(
        code: Code,
        severity: Severity,
        (region, key): (&str, &str),
        problem: impl Into<String>,
        hint: &str,
    ) -> Self {
        Self { key: key.to_owned(), objects: 1, ..Self::region(code, severity, region, problem, hint) }
    }
}

/// Objects of one kind in a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A region as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RegionReport {
    /// Its name.
    pub region: String,
    /// Its URL, without secrets.
    pub url: String,
    /// Whether it is a region of the cluster that could be read.
    pub checked: bool,
    /// All entries up to here are committed by what it knows.
    pub committed: u64,
    /// Last entry that it has accepted.
    pub accepted: u64,
    /// Number of its newest floor; 0 without one.
    pub floor: u64,
    /// Its objects by kind.
    pub objects: BTreeMap<&'static str, Tally>,
    /// Entries whose batches were decoded.
    pub entries_checked: u64,
    /// Archive files that were read whole.
    pub files_checked: u64,
    /// Bytes read for that.
    pub bytes_checked: u64,
    /// Entries and archive files that were found whole before, by what was gone on from, and not read again.
    pub known_before: u64,
}

/// What a region holds of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionContent {
    /// Name of the region.
    pub region: String,
    /// Messages found.
    pub messages: u64,
    /// Their hash as a set: equal in all regions that hold the same, as 32 hexadecimal digits.
    pub set_hash: String,
    /// Whether it holds everything that is referenced, and what it holds is whole.
    pub complete: bool,
}

/// A partition, as the index knows it and as the regions hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// Name of the topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// First offset that can be read.
    pub log_start: u64,
    /// Offset after the last message.
    pub high_watermark: u64,
    /// Archive files.
    pub files: u64,
    /// Messages in archive files and journal, by the index. Those before the log start in a file that lies across it count.
    pub messages: u64,
    /// What each region holds.
    pub regions: Vec<PartitionContent>,
}

/// What scrubbing found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Identity of the cluster.
    pub cluster_id: String,
    /// The regions are compared after this entry, the last that is known to be committed.
    pub sequence: u64,
    /// The regions, in the order in which they were named.
    pub regions: Vec<RegionReport>,
    /// The partitions, by topic and number.
    pub partitions: Vec<PartitionReport>,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// Findings that are not told.
    pub findings_left_out: u64,
}

impl Report {
    /// Whether nothing is left to be done: what was found is repaired, or no more than worth knowing.
    pub fn is_clean(&self) -> bool {
        let open = |finding: &Finding| finding.severity > Severity::Info && !finding.repaired;
        self.findings_left_out == 0 && !self.findings.iter().any(open)
    }

    /// Whether something was repaired before which a part of a region could not be looked at.
    pub(crate) fn leads_on(&self) -> bool {
        let regions = self.findings.iter().filter(|finding| finding.code == Code::NotChecked);
        let mut regions = regions.map(|finding| &finding.region);
        let repaired =
            |finding: &Finding| finding.repaired && matches!(finding.code, Code::CorruptObject | Code::MissingObject);
        regions.any(|region| self.findings.iter().any(|finding| finding.region == *region && repaired(finding)))
    }

    /// This report, with what was repaired and read before it.
    pub(crate) fn after(mut self, before: Self) -> Self {
        for region in &mut self.regions {
            let Some(was) = before.regions.iter().find(|was| was.region == region.region) else { continue };
            region.entries_checked += was.entries_checked;
            region.files_checked += was.files_checked;
            region.bytes_checked += was.bytes_checked;
            region.known_before = was.known_before;
        }
        let mut findings = Findings { list: self.findings, left_out: self.findings_left_out };
        findings.extend(before.findings.into_iter().filter(|finding| finding.repaired));
        (self.findings, self.findings_left_out) = findings.into_parts();
        self
    }
}

/// Findings while they come in.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    left_out: u64,
}

impl Findings {
    pub(crate) fn add(&mut self, finding: Finding) {
        if self.list.len() < MAX_FINDINGS { self.list.push(finding) } else { self.left_out += 1 }
    }

    pub(crate) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.add(finding));
    }

    /// So many of the extra objects of a region were deleted.
    pub(crate) fn deleted(&mut self, region: &str, mut deleted: u64) {
        let extra = |finding: &&mut Finding| finding.code == Code::ExtraObject && finding.region == region;
        for finding in self.list.iter_mut().filter(extra) {
            finding.repaired = deleted >= finding.objects;
            let hint = if finding.repaired { "deleted" } else { "some could not be deleted yet; scrub again" };
            hint.clone_into(&mut finding.hint);
            deleted = deleted.saturating_sub(finding.objects);
        }
    }

    pub(crate) fn into_parts(mut self) -> (Vec<Finding>, u64) {
        self.list.sort_by(|a, b| (b.severity, &a.region, a.code, &a.key).cmp(&(a.severity, &b.region, b.code, &b.key)));
        (self.list, self.left_out)
    }
}
