//! The members of a subscription of kind `stream`, and which partitions each of them reads. Pure.
//!
//! Rebalancing is cooperative and sticky (the idea of Kafka's KIP-429): when members change, only partitions that must
//! move are asked back, everything else goes on being read. A partition is given to somebody else only when its owner has
//! said, with a heartbeat that no longer names it, that it gave it up, or when its owner's session has ended.
//!
//! All of this is in the memory of one leader and ends with its reign. Members say with every heartbeat what they own, so
//! that the next leader takes over what they say. Until everybody who owned something at the end of the reign before has
//! either said so or must have noticed that its session is over, the group *settles*: nothing that nobody claims is given
//! to anybody.

use std::{collections::BTreeMap, ops::RangeInclusive};

use brigade_index::{
    ids::{Ballot, Partition},
    names::MemberName,
};

mod assign;
#[cfg(test)]
mod tests;
mod types;

pub use types::{Assignment, Epoch, MemberStatus, Refusal};

/// Most members of one subscription, about as many as a topic may have partitions: more would be idle.
pub const MAX_MEMBERS: usize = 1_000;

/// How long a session may last without a heartbeat, in milliseconds. Shorter ones end while a leader is replaced, which
/// takes about a second; longer ones keep the partitions of a dead member from everybody for too long.
pub const SESSION_MS: RangeInclusive<u64> = 1_000..=600_000;

#[derive(Debug)]
struct Member {
    session_ms: u64,
    /// When it was last heard of.
    seen: u64,
}

impl Member {
    fn deadline(&self) -> u64 {
        self.seen.saturating_add(self.session_ms)
    }
}

#[derive(Debug)]
struct Owner {
    member: MemberName,
    epoch: Epoch,
    /// It has named this epoch in a heartbeat, so it knows.
    knows: bool,
}

/// A partition.
#[derive(Debug, Default)]
struct Slot {
    owner: Option<Owner>,
    /// Who is to have it.
    heir: Option<MemberName>,
    /// Epoch of its last owner.
    last: Epoch,
    /// Commits of its last owner that are not answered yet. Nobody else gets it before: it begins where they end.
    commits: u32,
}

/// The members of one subscription in one reign. Times are milliseconds since the reign began.
///
/// Whoever calls brings the group up to date with [`Self::tick`] first.
#[derive(Debug)]
pub(crate) struct Group {
    reign: Ballot,
    /// Number of the last epoch.
    number: u64,
    generation: u64,
    members: BTreeMap<MemberName, Member>,
    slots: Vec<Slot>,
    /// While the group settles: the longest session that any member has had.
    settling: Option<u64>,
}

impl Group {
    /// A group without members. One that is `new` has no members from an earlier reign, and need not settle.
    pub(crate) fn new(reign: Ballot, new: bool) -> Self {
        let settling = (!new).then_some(0);
        Self { reign, number: 0, generation: 0, members: BTreeMap::new(), slots: Vec::new(), settling }
    }

    /// Rises with every change.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes in that the topic has `partitions`, and that time has passed.
    pub(crate) fn tick(&mut self, partitions: usize, now: u64) {
        let grown = partitions > self.slots.len();
        if grown {
            self.slots.resize_with(partitions, Slot::default);
        }
        let before = self.members.len();
        self.members.retain(|_, member| member.deadline() > now);
        let gone = self.members.len() < before;
        if gone {
            self.release_absent();
        }
        // A member that joined and has gone since counts for settling too: others may have sessions as long.
        let settled = self.settle(now);
        if grown || gone || settled {
            self.rebalance();
        }
    }

    /// When [`Self::tick`] will next have something to do, if nobody is heard of until then.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        let first = self.members.values().map(Member::deadline).min()?;
        Some(self.settling.map_or(first, |end| first.min(end)))
    }

    /// A member joins or lives. `owned` is all that it owns as far as it knows: what it was to give up and does not name
    /// is taken from it.
    pub(crate) fn heartbeat(
        &mut self,
        name: &MemberName,
        session_ms: u64,
        owned: &BTreeMap<Partition, Epoch>,
        now: u64,
    ) -> Result<(), Refusal> {
        let joins = !self.members.contains_key(name);
        if joins && self.members.len() >= MAX_MEMBERS {
            return Err(Refusal::TooMany);
        }
        self.members.insert(name.clone(), Member { session_ms, seen: now });
        if let Some(longest) = &mut self.settling {
            *longest = session_ms.max(*longest);
        }
        let claimed = self.hear(name, owned);
        let settled = self.settle(now);
        if joins || claimed || settled {
            self.rebalance()
        } else {
            self.grant()
        }
        Ok(())
    }

    /// A member goes. Returns whether there was one.
    pub(crate) fn leave(&mut self, name: &MemberName) -> bool {
        let left = self.members.remove(name).is_some();
        if left {
            self.release_absent();
            self.rebalance();
        }
        left
    }

    /// A member that polls or commits lives.
    pub(crate) fn touch(&mut self, name: &MemberName, now: u64) -> Result<(), Refusal> {
        let member = self.members.get_mut(name).ok_or_else(|| Refusal::Unknown(name.clone()))?;
        member.seen = now;
        Ok(())
    }

    /// How long the session of a member lasts without a heartbeat.
    pub(crate) fn session_ms(&self, name: &MemberName) -> Option<u64> {
        self.members.get(name).map(|member| member.session_ms)
    }

    /// What a member is to do.
    pub(crate) fn assignment(&self, name: &MemberName, now: u64) -> Result<Assignment, Refusal> {
        if !self.members.contains_key(name) {
            return Err(Refusal::Unknown(name.clone()));
        }
        let (mut partitions, mut revoke) = (Vec::new(), Vec::new());
        for (partition, slot) in (0..).map(Partition).zip(&self.slots) {
            let Some(owner) = slot.owner.as_ref().filter(|owner| owner.member == *name) else { continue };
            if slot.heir.as_ref() == Some(name) {
                partitions.push((partition, owner.epoch));
            } else {
                revoke.push(partition);
            }
        }
        let settles_in_ms = self.settling.map(|end| end.saturating_sub(now));
        Ok(Assignment { generation: self.generation, partitions, revoke, settles_in_ms })
    }

    /// All members, by name.
    pub(crate) fn list(&self, now: u64) -> Vec<MemberStatus> {
        let status = |(name, member): (&MemberName, &Member)| {
            let assignment = self.assignment(name, now).ok()?;
            let (session_ms, quiet_ms) = (member.session_ms, now.saturating_sub(member.seen));
            Some(MemberStatus { member: name.clone(), session_ms, quiet_ms, assignment })
        };
        self.members.iter().filter_map(status).collect()
    }

    /// Whether a member owns a partition, under that epoch if one is given. It owns what it is to give up, too.
    pub(crate) fn check(&self, name: &MemberName, partition: Partition, epoch: Option<Epoch>) -> Result<(), Refusal> {
        let owner = self.slots.get(partition.0 as usize).and_then(|slot| slot.owner.as_ref());
        let owner = owner.filter(|owner| owner.member == *name);
        if owner.is_some_and(|owner| epoch.is_none_or(|epoch| epoch == owner.epoch)) {
            return Ok(());
        }
        Err(Refusal::NotAssigned { member: name.clone(), partition, reassigned: owner.is_some() })
    }

    /// A member is about to commit positions of these partitions, all of which it must own. Until [`Self::committed`]
    /// nobody else gets them.
    pub(crate) fn commit(
        &mut self,
        name: &MemberName,
        partitions: &[(Partition, Option<Epoch>)],
        now: u64,
    ) -> Result<(), Refusal> {
        self.touch(name, now)?;
        partitions.iter().try_for_each(|(partition, epoch)| self.check(name, *partition, *epoch))?;
        for (partition, _) in partitions {
            self.slots[partition.0 as usize].commits += 1;
        }
        Ok(())
    }

    /// A commit of these partitions was answered, or nobody waits for its answer any more.
    pub(crate) fn committed(&mut self, partitions: impl Iterator<Item = Partition>) {
        for partition in partitions {
            if let Some(slot) = self.slots.get_mut(partition.0 as usize) {
                slot.commits = slot.commits.saturating_sub(1);
            }
        }
        self.grant();
    }

    /// Compares what a member says it owns with what is known. Returns whether it owns something that it did not.
    fn hear(&mut self, name: &MemberName, owned: &BTreeMap<Partition, Epoch>) -> bool {
        let mut claimed = false;
        for (partition, slot) in (0..).map(Partition).zip(&mut self.slots) {
            let claim = owned.get(&partition).copied();
            match (&mut slot.owner, claim) {
                (Some(owner), _) if owner.member == *name => match claim {
                    Some(epoch) if epoch == owner.epoch => owner.knows = true,
                    // It knows of an older ownership, whose end it has still to hear of.
                    Some(_) => {}
                    None if slot.heir.as_ref() != Some(name) => {
                        slot.owner = None;
                        self.generation += 1;
                    }
                    // It has begun anew under its name; what it did before is no longer its own.
                    None if owner.knows => {
                        self.number += 1;
                        let epoch = Epoch { reign: self.reign, number: self.number };
                        (owner.epoch, owner.knows, slot.last) = (epoch, false, epoch);
                        self.generation += 1;
                    }
                    None => {}
                },
                (owner, Some(epoch)) => {
                    let free = owner.is_none() && epoch == slot.last;
                    if free || (epoch.reign < self.reign && epoch > slot.last) {
                        *owner = Some(Owner { member: name.clone(), epoch, knows: true });
                        slot.last = epoch;
                        self.generation += 1;
                        claimed = true;
                    }
                }
                (_, None) => {}
            }
        }
        claimed
    }

    /// Whether the group has settled just now.
    fn settle(&mut self, now: u64) -> bool {
        let Some(end) = self.settling else { return false };
        let covered = self.slots.iter().all(|slot| slot.owner.is_some());
        let settled = !self.members.is_empty() && (covered || now >= end);
        if settled {
            self.settling = None;
        }
        settled
    }

    /// Takes everything from those who are members no longer.
    fn release_absent(&mut self) {
        for slot in &mut self.slots {
            if slot.owner.as_ref().is_some_and(|owner| !self.members.contains_key(&owner.member)) {
                slot.owner = None;
                self.generation += 1;
            }
        }
    }

    /// Decides anew who is to have what.
    fn rebalance(&mut self) {
        let heirs = if self.settling.is_some() {
            self.slots.iter().map(|slot| slot.owner.as_ref().map(|owner| owner.member.clone())).collect()
        } else {
            self.balanced()
        };
        for (slot, heir) in self.slots.iter_mut().zip(heirs) {
            if slot.heir != heir {
                slot.heir = heir;
                self.generation += 1;
            }
        }
        self.grant();
    }

    fn balanced(&self) -> Vec<Option<MemberName>> {
        let names: Vec<_> = self.members.keys().collect();
        let number = |name: &MemberName| names.binary_search(&name).ok();
        let owners: Vec<_> =
            self.slots.iter().map(|slot| slot.owner.as_ref().and_then(|owner| number(&owner.member))).collect();
        let heirs: Vec<_> = self.slots.iter().map(|slot| slot.heir.as_ref().and_then(number)).collect();
        let placed = assign::balance(names.len(), &owners, &heirs);
        placed.into_iter().map(|member| member.map(|member| names[member].clone())).collect()
    }

    /// Gives what nobody owns to those who are to have it.
    fn grant(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.owner.is_none() && slot.commits == 0) {
            if let Some(member) = slot.heir.clone() {
                self.number += 1;
                let epoch = Epoch { reign: self.reign, number: self.number };
                slot.owner = Some(Owner { member, epoch, knows: false });
                slot.last = epoch;
                self.generation += 1;
            }
        }
    }
}
