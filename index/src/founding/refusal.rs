//! The words for regions that take no part.

use super::{Absence, AbsenceKind, look::Silence};
use crate::{format::RegionIdentity, names::RegionName};

/// A region under its name and URL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) name: &'a RegionName,
    pub(super) url: &'a str,
}

impl Subject<'_> {
    fn absence(self, kind: AbsenceKind, problem: String, hint: String) -> Absence {
        let (name, url) = (self.name.clone(), self.url.to_owned());
        Absence { name, url, number: None, kind, problem, hint, store: None }
    }

    fn refused(self, problem: String, hint: String) -> Absence {
        self.absence(AbsenceKind::Refused, problem, hint)
    }

    fn replace(self) -> String {
        format!("replace it with an empty store: brigade region replace {} NEW=URL", self.name)
    }

    pub(super) fn unreachable(self, silence: &Silence) -> Absence {
        self.absence(AbsenceKind::Unreachable, silence.problem.clone(), silence.hint.to_owned())
    }

    pub(super) fn unnamed(self) -> Absence {
        let problem = "it is a founding region, but it is not among the regions given".to_owned();
        let hint = "start with all regions of the cluster until it is founded".to_owned();
        self.absence(AbsenceKind::Unreachable, problem, hint)
    }

    pub(super) fn damaged(self, problem: &str) -> Absence {
        let problem = format!("its identity object cannot be used: {problem}");
        let hint = format!(
            "check that the URL is right and that this version of Brigade is not older; else {}",
            self.replace()
        );
        self.refused(problem, hint)
    }

    /// No identity, but a journal.
    pub(super) fn partial(self) -> Absence {
        let problem = "its store holds a journal but no identity: it was restored or cleaned in part".to_owned();
        self.refused(problem, format!("a region cannot be restored from a copy; {}", self.replace()))
    }

    /// No identity, and the mark of a restore.
    pub(super) fn half_restored(self) -> Absence {
        let problem = "a cluster is being restored into its store, and that has not ended".to_owned();
        let hint = "run the same brigade restore again: it goes on where it broke off".to_owned();
        self.refused(problem, hint)
    }

    /// Neither identity nor journal, though the cluster lists the region.
    pub(super) fn wiped(self, cluster_id: &str) -> Absence {
        let problem = format!("its store is empty although it is a region of cluster {cluster_id}: it was wiped");
        let hint = format!("what it held cannot be restored in place; check its URL, or {}", self.replace());
        self.refused(problem, hint)
    }

    /// Neither identity nor journal, and the cluster may never have heard of it.
    pub(super) fn unlisted(self, cluster_id: &str) -> Absence {
        let problem = format!("its store is empty, and cluster {cluster_id} was not founded with it");
        let hint = format!(
            "if it is new, add it to the running cluster: brigade region add {}=URL; if it was added before, it was \
             wiped: {}",
            self.name,
            self.replace()
        );
        self.refused(problem, hint)
    }

    /// Neither identity nor journal, and no cluster to ask.
    pub(super) fn empty(self) -> Absence {
        let problem = "its store is empty, although other regions are in use already".to_owned();
        self.refused(problem, "check the URLs of all regions; a cluster is founded with new stores only".to_owned())
    }

    pub(super) fn swapped(self, found: &RegionIdentity) -> Absence {
        let problem = format!("its store is region {} of cluster {}", found.region, found.cluster_id);
        let hint = format!("the URLs of regions {} and {} may be swapped: check them", self.name, found.region);
        self.refused(problem, hint)
    }

    pub(super) fn foreign(self, found: &RegionIdentity, cluster_id: &str) -> Absence {
        let problem = format!("its store belongs to another cluster: {}, not {cluster_id}", found.cluster_id);
        self.refused(problem, "check its URL; every cluster needs buckets or prefixes of its own".to_owned())
    }

    pub(super) fn replaced(self, found: &str, expected: &str) -> Absence {
        let problem = format!(
            "its store carries the identity {found}, but the cluster knows it as {expected}: another store was put in \
             its place"
        );
        self.refused(problem, format!("point it to its own store, or {}", self.replace()))
    }

    pub(super) fn renumbered(self, found: u16, expected: u16) -> Absence {
        let problem = format!("its store carries number {found}, but the cluster gave it {expected}");
        self.refused(problem, format!("point it to its own store, or {}", self.replace()))
    }

    /// To become a region, but its store is in use.
    pub(super) fn taken(self, found: &RegionIdentity) -> Absence {
        let problem = format!(
            "it cannot be added: its store is region {} of cluster {} already, with the identity {}",
            found.region, found.cluster_id, found.region_id
        );
        self.refused(problem, "add it with an empty bucket or prefix".to_owned())
    }

    /// To become a region, but its store is not empty.
    pub(super) fn littered(self) -> Absence {
        let problem = "it cannot be added: its store holds a journal without an identity".to_owned();
        self.refused(problem, "add it with an empty bucket or prefix".to_owned())
    }
}
