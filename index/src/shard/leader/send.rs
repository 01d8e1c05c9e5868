//! Sealing, sending and committing entries.

use std::{collections::VecDeque, sync::atomic::Ordering::Relaxed};

use super::{Content, IN_FLIGHT_BYTES, Leading, MARK_EVERY, Part, Sealed};
use crate::{
    command::Command,
    format::{HEAD_BYTES, Value},
    ids::{RegionNo, Sequence},
    journal::Cargo,
    keys::Slot,
    limits::{ENTRY_TARGET_BYTES, MAX_PROPOSALS_PER_ENTRY},
    shard::{
        Committed, Proposal, ProposeError,
        content::Entry,
        events::{Source, append},
    },
};

impl Leading {
    /// Entries that the reign begins with: those to be appended again, and its own first one.
    pub(in crate::shard) fn append_again(&mut self, contents: VecDeque<Content>) {
        contents.into_iter().for_each(|content| self.keep(content));
    }

    /// Seals what waits, as far as the window allows, and sends every region what can be sent to it.
    pub(super) fn pump(&mut self) {
        while !self.renewing && !self.queue.is_empty() && self.in_flight() < self.window as u64 {
            let Some(content) = self.seal() else { break };
            self.keep(content);
        }
        let regions: Vec<_> = self.sending.keys().copied().collect();
        regions.into_iter().for_each(|region| self.send_to(region));
        self.shared.in_flight.store(self.in_flight(), Relaxed);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.reign.sealed().0 - self.reign.committed().0
    }

    /// Packs waiting proposals into one entry, at least one and as many as fit.
    pub(super) fn seal(&mut self) -> Option<Content> {
        let (mut value, mut body, mut parts) = (Value::default(), Vec::new(), Vec::new());
        let mut at = 0_u64;
        while let Some(proposal) = self.queue.front() {
            let bytes: u64 = proposal.body.iter().map(|chunk| chunk.len() as u64).sum();
            let full = at + bytes > ENTRY_TARGET_BYTES as u64 || parts.len() >= MAX_PROPOSALS_PER_ENTRY;
            let changes = proposal.commands.iter().any(|command| matches!(command, Command::SetVoters(_)));
            if !parts.is_empty() && (full || changes) {
                break;
            }
            let Some(Proposal { mut commands, body: chunks, done }) = self.queue.pop_front() else { break };
            if changes && self.reign.is_changing() {
                done(Err(ProposeError::Unavailable("another change of the regions is under way".to_owned())));
                continue;
            }
            commands.iter_mut().for_each(|command| shift(command, at));
            parts.push(Part { commands: commands.len(), at, done });
            value.commands.append(&mut commands);
            body.extend(chunks);
            at += bytes;
            if changes {
                break;
            }
        }
        if parts.is_empty() {
            return None;
        }
        value.time_ms = self.shared.env.clock.now_ms();
        let voters = value.voters().cloned();
        let changed = voters.is_some();
        let sequence = self.reign.seal(voters);
        if changed {
            self.shared.health.set_voters(self.reign.sets());
        }
        if sequence.0.is_multiple_of(MARK_EVERY) {
            value.marks = self.reign.marks();
        }
        let entry = Entry { sequence, section: value.encode(), body };
        Some(Content { value, entry, parts })
    }

    pub(super) fn keep(&mut self, content: Content) {
        let Content { value, entry, parts } = content;
        let body_at = (HEAD_BYTES + entry.section.len()) as u64;
        let (sequence, bytes) = (entry.sequence, entry.bytes());
        self.shared.sealed.store(sequence.0, Relaxed);
        self.sealed.push_back(Sealed { sequence, value, bytes, body_at, parts });
        self.tail.push(entry);
    }

    pub(super) fn send_to(&mut self, region: RegionNo) {
        let Some(sending) = self.sending.get_mut(&region) else { return };
        while let Some(cargo) = self.reign.upcoming(region) {
            let source = match cargo {
                Cargo::Install(sequence) => Source::Install(sequence, self.installs.get(&region).cloned()),
                Cargo::Commit(sequence) => match self.tail.get(sequence) {
                    Some(entry) => Source::Memory(entry),
                    None => Source::Old(sequence),
                },
            };
            let bytes = source.bytes();
            // One goes always, however large.
            if sending.bytes > 0 && sending.bytes + bytes > IN_FLIGHT_BYTES {
                return;
            }
            sending.bytes += bytes;
            let Some(send) = self.reign.send(region) else { return };
            let (shared, view, stop) = (self.shared.clone(), sending.view.clone(), sending.stop.clone());
            self.events.push(Box::pin(append(shared, view, send, source, stop)));
        }
    }

    pub(super) fn landed(&mut self, region: RegionNo, slot: Slot, bytes: u64) {
        if self.shared.health.succeeded(region) {
            tracing::info!(region = %self.shared.name_of(region), "the region takes writes again");
        }
        let before = self.reign.committed();
        let committed = self.reign.landed(region, slot);
        if let (Some(sending), Some(lane)) = (self.sending.get_mut(&region), self.reign.lane(region)) {
            sending.bytes -= bytes;
            sending.view.set_accepted(lane.accepted());
        }
        if committed > before {
            self.commit_up_to(committed);
        }
        let accepted = self.reign.regions().filter_map(|region| Some(self.reign.lane(region)?.accepted()));
        let everywhere = accepted.min().unwrap_or(committed);
        self.tail.trim(everywhere, committed);
    }

    pub(super) fn commit_up_to(&mut self, committed: Sequence) {
        let mut regions_changed = false;
        while self.sealed.front().is_some_and(|sealed| sealed.sequence <= committed) {
            if let Some(sealed) = self.sealed.pop_front() {
                regions_changed |= sealed.value.commands.iter().any(|command| {
                    matches!(command, Command::AddRegion(_) | Command::RemoveRegion(_) | Command::SetVoters(_))
                });
                self.commit(sealed);
            }
        }
        if regions_changed {
            self.regions_changed();
        }
    }

    /// Applies a committed entry and only then answers (I6).
    pub(super) fn commit(&mut self, sealed: Sealed) {
        let Sealed { sequence, value, bytes, body_at, parts } = sealed;
        assert!(sequence <= self.reign.committed(), "I6: only what is committed is acknowledged");
        let (mut outcomes, touched) = self.shared.state.write().apply(&value, sequence, body_at);
        self.shared.committed.store(sequence.0, Relaxed);
        self.shared.history.lock().committed(sequence, bytes);
        for part in parts {
            let rest = outcomes.split_off(part.commands);
            let outcomes = std::mem::replace(&mut outcomes, rest);
            let body_at = body_at + part.at;
            (part.done)(Ok(Committed { sequence, body_at, outcomes }));
        }
        // Behind the answers, which put batches into the cache: whoever is woken finds them there.
        self.shared.waiters.wake(&touched);
        if self.reign.own() <= sequence
            && let Some(started) = self.started.take()
        {
            let _ = started.send(Ok(()));
        }
    }
}

/// Makes places of batches relative to the entry's body.
fn shift(command: &mut Command, by: u64) {
    let publishes = match command {
        Command::Publish(publish) | Command::Bury { copies: publish, .. } => std::slice::from_mut(publish),
        Command::Transact(transact) => &mut transact.publishes,
        _ => return,
    };
    publishes.iter_mut().flat_map(|publish| &mut publish.batches).for_each(|batch| batch.at += by);
}
