//! What is explored: how many regions, attempts and entries, and which events take part.

use brigade_index::{ids::RegionNo, region::RegionSet};

use crate::mutation::Mutation;

/// How what lies before a truncation mark is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deletions {
    /// Not at all.
    None,
    /// All at once.
    Together,
    /// One by one in any order.
    Each,
}

/// Bounds of one exploration.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Regions, numbered from 1.
    pub regions: u16,
    /// Those that vote at first.
    pub voters: Vec<u16>,
    /// Attempts to lead, each with a ballot of its own. A node that crashes is one that takes no step any more; one that
    /// comes back makes another attempt.
    pub attempts: usize,
    /// How many regions have promised to the first attempt, which leads at the start; 0: it has yet to be elected.
    pub founded: u16,
    /// Regions that have all entries of the first leader at the start already.
    pub ahead: Vec<u16>,
    /// Last sequence that is sealed; a leader's own first entry may lie above.
    pub entries: u64,
    /// Appends in flight to one region.
    pub window: usize,
    /// How often one put may land: more than once when its answer was lost and it was sent again.
    pub copies: u8,
    /// Truncation marks in all regions together.
    pub floors: usize,
    /// How deletion goes.
    pub deletions: Deletions,
    /// Whether regions that join get a snapshot in place of entries.
    pub installs: bool,
    /// A region that somebody reads.
    pub reader: Option<u16>,
    /// Changes of voters that leaders may seal, in any order.
    pub changes: Vec<Vec<u16>>,
    /// The attempt that promotes this region, from 0.
    pub promotion: Option<(usize, u16)>,
    /// Whether a leader may wait for more promises than it needs.
    pub patient: bool,
    /// Whether entries say how far regions have come (I19).
    pub marks: bool,
    /// Whether regions are interchangeable, so that states which differ by names only count as one.
    pub symmetric: bool,
    /// Whether from every state a quorum alone must be able to go on.
    pub wedge: bool,
    /// The rule taken away, if any.
    pub mutation: Option<Mutation>,
    /// Exhausted within a minute or so in a debug build.
    pub quick: bool,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "",
            about: "",
            regions: 1,
            voters: vec![1],
            attempts: 2,
            founded: 1,
            ahead: Vec::new(),
            entries: 2,
            window: 1,
            copies: 1,
            floors: 0,
            deletions: Deletions::None,
            installs: false,
            reader: None,
            changes: Vec::new(),
            promotion: None,
            patient: false,
            marks: false,
            symmetric: false,
            wedge: false,
            mutation: None,
            quick: false,
        }
    }
}

/// A set of regions by their numbers.
pub fn set(regions: &[u16]) -> RegionSet {
    RegionSet::new(regions.iter().copied().map(RegionNo).collect()).expect("sets of the scenarios are not empty")
}

impl Scenario {
    /// The regions.
    pub fn regions(&self) -> impl Iterator<Item = RegionNo> + use<> {
        (1..=self.regions).map(RegionNo)
    }

    /// Whether this rule is taken away.
    pub fn breaks(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Whether the reads of a path have to be steps of their own: objects may vanish in between.
    pub fn single_reads(&self) -> bool {
        self.deletions != Deletions::None
    }
}
