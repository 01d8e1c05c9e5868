//! A state of the model.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use brigade_index::{
    ids::{RegionNo, Sequence, WriteId},
    journal::Fold,
    keys::Slot,
};

use crate::{ghost::Ghost, node::Node, region::Region};

/// Everything there is.
#[derive(Clone, PartialEq)]
pub struct State {
    /// Regions, from number 1.
    pub regions: Vec<Arc<Region>>,
    /// Attempts made so far.
    pub nodes: Vec<Arc<Node>>,
    /// Somebody who reads a region.
    pub reader: Option<Arc<Reader>>,
    /// The truth.
    pub ghost: Arc<Ghost>,
    /// What has gone wrong.
    pub flaw: Option<String>,
    /// Whether regions are interchangeable.
    pub symmetric: bool,
}

/// A reader, and how much it was shown at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reader {
    /// What it has read.
    pub fold: Option<Fold>,
    /// What it was shown: contents.
    pub shown: Vec<u8>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The next attempt begins.
    Stand,
    /// A node goes on with taking a region over.
    Advance(usize, RegionNo),
    /// A node that has enough promises begins to lead.
    Lead(usize),
    /// A leader gives the next entry a content.
    Seal(usize),
    /// A leader seals a change of voters, by its place among the scenario's changes.
    Change(usize, usize),
    /// A leader sends what comes next to a region.
    Send(usize, RegionNo),
    /// A leader learns that its object landed.
    Landed(usize, RegionNo, Slot),
    /// A leader learns that something else is there.
    Taken(usize, RegionNo, Slot),
    /// A leader thinks that other bytes will do.
    OtherBytes(usize, RegionNo, Slot),
    /// A leader writes a snapshot of what is committed to a region.
    Snapshot(usize, RegionNo),
    /// A leader decides that a region gets a snapshot first.
    Install(usize, RegionNo),
    /// A leader sends a truncation mark to a region.
    Cut(usize, RegionNo, Sequence),
    /// A put lands.
    Land(RegionNo, Slot, WriteId),
    /// A truncation mark lands, if absent: its number and writer.
    LandCut(RegionNo, u64, u64),
    /// An object before a truncation mark is deleted; all of them.
    Delete(RegionNo, Option<Slot>),
    /// Marks and snapshots before the newest mark are deleted.
    Prune(RegionNo),
    /// The reader starts from the newest truncation mark.
    Start,
    /// The reader reads one object.
    Read,
}

impl State {
    /// A region.
    pub fn region(&self, region: RegionNo) -> &Region {
        &self.regions[usize::from(region.0) - 1]
    }

    /// A region, to be changed.
    pub fn region_mut(&mut self, region: RegionNo) -> &mut Region {
        Arc::make_mut(&mut self.regions[usize::from(region.0) - 1])
    }

    /// What belongs to one region, wherever it is: the same for two regions that are in the same situation.
    fn hash_region(&self, at: usize, hasher: &mut DefaultHasher) {
        let number = RegionNo(at as u16 + 1);
        self.regions[at].hash(hasher);
        for node in &self.nodes {
            match node.as_ref() {
                Node::Standing(standing) => {
                    standing.election.candidate(number).hash(hasher);
                    standing.first_floors.get(&number).hash(hasher);
                }
                Node::Leading(leading) => {
                    leading.reign.lane(number).hash(hasher);
                    leading.reign.extents(number).hash(hasher);
                    leading.rest.get(&number).hash(hasher);
                    leading.promises.get(&number).hash(hasher);
                    leading.installs.get(&number).hash(hasher);
                    leading.floors.get(&number).hash(hasher);
                    leading.lost.get(&number).hash(hasher);
                    for ((region, slot), id) in &leading.flying {
                        if *region == number {
                            (slot, id).hash(hasher);
                        }
                    }
                }
                Node::Gone => {}
            }
        }
    }

    fn hash_symmetric<H: Hasher>(&self, hasher: &mut H) {
        let mut parts: Vec<u64> = (0..self.regions.len())
            .map(|at| {
                let mut hasher = DefaultHasher::new();
                self.hash_region(at, &mut hasher);
                hasher.finish()
            })
            .collect();
        parts.sort_unstable();
        parts.hash(hasher);
        for node in &self.nodes {
            std::mem::discriminant(node.as_ref()).hash(hasher);
            match node.as_ref() {
                Node::Standing(standing) => standing.election.ballot().hash(hasher),
                Node::Leading(leading) => {
                    let reign = &leading.reign;
                    (reign.ballot(), reign.start(), reign.own(), reign.sealed(), reign.committed()).hash(hasher);
                    (&leading.log, leading.base, leading.serving).hash(hasher);
                }
                Node::Gone => {}
            }
        }
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        if self.symmetric {
            self.hash_symmetric(hasher);
        } else {
            self.regions.hash(hasher);
            self.nodes.hash(hasher);
        }
        self.reader.hash(hasher);
        self.ghost.hash(hasher);
        self.flaw.hash(hasher);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |slot: &Slot| format!("{}/{}", slot.ballot.nonce, slot.index);
        for (at, region) in self.regions.iter().enumerate() {
            write!(f, "    region {}:", at + 1)?;
            for (slot, object) in &region.objects {
                write!(f, " {}={}", name(slot), object.brief())?;
            }
            for ((slot, _), (object, copies)) in &region.flying {
                write!(f, " (flying x{copies} {}={})", name(slot), object.brief())?;
            }
            for (k, floor) in &region.floors {
                write!(f, " floor{k}->{} s{}", name(&floor.slot), floor.snapshot.sequence)?;
            }
            for (sequence, _) in &region.snapshots {
                write!(f, " snapshot{sequence}")?;
            }
            if !region.gone.is_empty() {
                write!(f, " deleted: {:?}", region.gone.keys().map(name).collect::<Vec<_>>())?;
            }
            writeln!(f)?;
        }
        for (at, node) in self.nodes.iter().enumerate() {
            match node.as_ref() {
                Node::Standing(_) => writeln!(f, "    node {}: stands", at + 1)?,
                Node::Gone => writeln!(f, "    node {}: gone", at + 1)?,
                Node::Leading(leading) => writeln!(
                    f,
                    "    node {}: leads with b{}, start {} committed {} own {} log {:?}",
                    at + 1,
                    leading.nonce,
                    leading.reign.start(),
                    leading.reign.committed(),
                    leading.reign.own(),
                    leading.contents(leading.reign.sealed()),
                )?,
            }
        }
        if let Some(reader) = &self.reader {
            writeln!(
                f,
                "    reader: at {:?}, was shown {:?}",
                reader.fold.as_ref().map(|fold| name(&fold.at)),
                reader.shown
            )?;
        }
        writeln!(f, "    committed: {:?}, voters {:?}", self.ghost.logs, self.ghost.in_force())
    }
}
