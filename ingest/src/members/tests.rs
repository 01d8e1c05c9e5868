//! Members as clients would be, with answers that get lost, against what they believe to own.

use proptest::prelude::*;

use super::{assign::balance, *};

const SESSION: u64 = 1_000;

fn name(member: usize) -> MemberName {
    MemberName::new(&format!("m{member}")).unwrap()
}

/// A client: what it believes, and until when it may.
#[derive(Clone, Debug, Default)]
struct Client {
    owned: BTreeMap<Partition, Epoch>,
    until: u64,
    /// Asked back, and not given up yet.
    revoke: Vec<Partition>,
}

struct World {
    group: Group,
    clients: BTreeMap<usize, Client>,
    partitions: usize,
    round: u64,
    /// When the reign began.
    begun: u64,
    now: u64,
    /// Commits on their way, by partition.
    commits: Vec<(usize, Partition)>,
}

fn reign(round: u64) -> Ballot {
    Ballot { round, nonce: 7 }
}

impl World {
    fn new(partitions: usize) -> Self {
        let group = Group::new(reign(1), true);
        Self { group, clients: BTreeMap::new(), partitions, round: 1, begun: 0, now: 0, commits: Vec::new() }
    }

    fn time(&self) -> u64 {
        self.now - self.begun
    }

    /// A client beats, having given up what it was asked for if it is `ready`; its answer may be `lost`.
    fn beat(&mut self, member: usize, ready: bool, lost: bool) {
        let (now, time) = (self.now, self.time());
        let client = self.clients.entry(member).or_default();
        if client.until <= now {
            *client = Client::default();
        }
        if ready {
            let revoke = std::mem::take(&mut client.revoke);
            client.owned.retain(|partition, _| !revoke.contains(partition));
        }
        self.group.tick(self.partitions, time);
        self.group.heartbeat(&name(member), SESSION, &client.owned, time).unwrap();
        if !lost {
            let answer = self.group.assignment(&name(member), time).unwrap();
            client.owned.retain(|partition, _| answer.revoke.contains(partition));
            client.owned.extend(answer.partitions);
            // What it never knew of it need not give up.
            client.revoke =
                answer.revoke.into_iter().filter(|partition| client.owned.contains_key(partition)).collect();
            client.until = now + SESSION;
        }
        self.check();
    }

    /// Never two owners as members see it; whoever believes to own something may commit it, unless the leader is new.
    fn check(&self) {
        let mut owners = BTreeMap::new();
        for (member, client) in self.clients.iter().filter(|(_, client)| client.until > self.now) {
            for (partition, epoch) in &client.owned {
                let other = owners.insert(*partition, *member);
                assert!(other.is_none(), "{partition} belongs to {member} and {other:?}");
                if self.group.members.contains_key(&name(*member)) {
                    self.group.check(&name(*member), *partition, Some(*epoch)).unwrap();
                }
            }
        }
        for (member, partition) in &self.commits {
            let slot = &self.group.slots[partition.0 as usize];
            assert!(slot.owner.as_ref().is_none_or(|owner| owner.member == name(*member)), "a commit is on its way");
        }
    }

    fn commit(&mut self, member: usize) {
        let (time, Some(client)) = (self.time(), self.clients.get(&member)) else { return };
        let owned: Vec<_> = client.owned.iter().map(|(partition, epoch)| (*partition, Some(*epoch))).collect();
        self.group.tick(self.partitions, time);
        if self.group.commit(&name(member), &owned, time).is_ok() {
            self.commits.extend(owned.iter().map(|(partition, _)| (member, *partition)));
        }
        self.check();
    }

    fn answer_commits(&mut self) {
        let answered = std::mem::take(&mut self.commits);
        self.group.committed(answered.iter().map(|(_, partition)| *partition));
        self.check();
    }

    /// Another leader, which knows of nothing.
    fn take_over(&mut self) {
        self.round += 1;
        (self.group, self.begun) = (Group::new(reign(self.round), false), self.now);
        self.commits.clear();
        self.group.tick(self.partitions, 0);
    }

    /// All that live beat until nothing changes any more.
    fn quiesce(&mut self) {
        self.answer_commits();
        let alive: Vec<_> =
            self.clients.iter().filter(|(_, client)| client.until > self.now).map(|(m, _)| *m).collect();
        for _ in 0..8 {
            self.now += SESSION / 2;
            alive.iter().for_each(|member| self.beat(*member, true, false));
        }
        if alive.is_empty() {
            return;
        }
        let shares = alive.iter().map(|member| self.clients[member].owned.len());
        let (least, most) = (shares.clone().min().unwrap(), shares.clone().max().unwrap());
        assert!(most - least <= 1, "balanced: {least} to {most}");
        assert_eq!(shares.sum::<usize>(), self.partitions, "all are assigned");
        let settled = self.group.generation();
        alive.iter().for_each(|member| self.beat(*member, true, false));
        assert_eq!(self.group.generation(), settled, "nothing moves without a reason");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Beat { member: usize, ready: bool, lost: bool },
    Leave(usize),
    Crash(usize),
    Restart(usize),
    Commit(usize),
    AnswerCommits,
    Wait(u64),
    Grow,
    TakeOver,
    Quiesce,
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..5_usize;
    prop_oneof![
        12 => (member.clone(), prop::bool::weighted(0.7), prop::bool::weighted(0.2))
            .prop_map(|(member, ready, lost)| Step::Beat { member, ready, lost }),
        1 => member.clone().prop_map(Step::Leave),
        1 => member.clone().prop_map(Step::Crash),
        1 => member.clone().prop_map(Step::Restart),
        3 => member.prop_map(Step::Commit),
        2 => Just(Step::AnswerCommits),
        4 => (1..700_u64).prop_map(Step::Wait),
        1 => Just(Step::Grow),
        1 => Just(Step::TakeOver),
        1 => Just(Step::Quiesce),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nobody_believes_to_own_what_another_owns(
        partitions in 1..8_usize,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(partitions);
        for step in steps {
            match step {
                Step::Beat { member, ready, lost } => world.beat(member, ready, lost),
                Step::Leave(member) => {
                    // It gives everything up before it says so.
                    world.clients.remove(&member);
                    world.group.tick(world.partitions, world.time());
                    world.group.leave(&name(member));
                }
                Step::Crash(member) => drop(world.clients.remove(&member)),
                Step::Restart(member) => {
                    world.clients.insert(member, Client::default());
                    world.beat(member, true, false);
                }
                Step::Commit(member) => world.commit(member),
                Step::AnswerCommits => world.answer_commits(),
                Step::Wait(time) => world.now += time,
                Step::Grow => world.partitions += 1,
                Step::TakeOver => world.take_over(),
                Step::Quiesce => world.quiesce(),
            }
            world.check();
        }
        // Whoever crashed must be gone by then.
        world.quiesce();
    }

    #[test]
    fn a_balance_moves_as_little_as_any(
        members in 1..4_usize,
        owners in prop::collection::vec(prop::option::of(0..3_usize), 0..7),
        heirs in prop::collection::vec(prop::option::of(0..3_usize), 7),
    ) {
        let within = |wish: &Option<usize>| wish.filter(|member| *member < members);
        let (owners, heirs): (Vec<_>, Vec<_>) =
            owners.iter().zip(&heirs).map(|(owner, heir)| (within(owner), within(heir))).unzip();
        let placed: Vec<_> = balance(members, &owners, &heirs).into_iter().map(Option::unwrap).collect();
        let moves = |placed: &[usize]| {
            owners.iter().zip(placed).filter(|(owner, place)| owner.is_some_and(|owner| owner != **place)).count()
        };
        let balanced = |placed: &[usize]| {
            let share = |member| placed.iter().filter(|place| **place == member).count();
            let shares: Vec<_> = (0..members).map(share).collect();
            shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1
        };
        prop_assert!(balanced(&placed));
        // Every other way there is.
        for number in 0..members.pow(owners.len() as u32) {
            let digit = |at: usize| number / members.pow(at as u32) % members;
            let other: Vec<_> = (0..owners.len()).map(digit).collect();
            prop_assert!(!balanced(&other) || moves(&other) >= moves(&placed), "{other:?} is better than {placed:?}");
        }
    }
}

fn owned(assignment: &Assignment) -> BTreeMap<Partition, Epoch> {
    assignment.partitions.iter().copied().collect()
}

fn numbers(assignment: &Assignment) -> Vec<u32> {
    assignment.partitions.iter().map(|(partition, _)| partition.0).collect()
}

#[test]
fn a_partition_moves_when_its_owner_has_given_it_up() {
    let mut group = Group::new(reign(1), true);
    let (a, b) = (name(0), name(1));
    group.tick(4, 0);
    group.heartbeat(&a, SESSION, &BTreeMap::new(), 0).unwrap();
    let first = group.assignment(&a, 0).unwrap();
    assert_eq!(numbers(&first), [0, 1, 2, 3]);
    group.heartbeat(&b, SESSION, &BTreeMap::new(), 1).unwrap();
    assert_eq!(numbers(&group.assignment(&b, 1).unwrap()), [0; 0], "not before it is given up");
    let asked = group.assignment(&a, 1).unwrap();
    assert_eq!((numbers(&asked), &*asked.revoke), (vec![0, 1], &[Partition(2), Partition(3)][..]));
    group.check(&a, Partition(2), Some(first.partitions[2].1)).unwrap();
    // Still busy with partition 3.
    let mut kept = owned(&first);
    kept.remove(&Partition(2));
    group.heartbeat(&a, SESSION, &kept, 2).unwrap();
    let given = group.assignment(&b, 2).unwrap();
    assert_eq!(numbers(&given), [2]);
    assert!(given.partitions[0].1 > first.partitions[2].1);
    let refused = group.commit(&a, &[(Partition(0), None), (Partition(2), None)], 3);
    assert!(matches!(refused, Err(Refusal::NotAssigned { partition: Partition(2), .. })), "{refused:?}");
    // Its session ends.
    group.heartbeat(&b, SESSION, &owned(&given), 900).unwrap();
    assert_eq!(group.next_timer(), Some(3 + SESSION));
    group.tick(4, 3 + SESSION);
    assert_eq!(numbers(&group.assignment(&b, 1_003).unwrap()), [0, 1, 2, 3]);
    assert!(group.assignment(&a, 1_003).is_err());
}

#[test]
fn a_new_leader_leaves_everything_with_those_who_say_that_it_is_theirs() {
    let mut before = Group::new(reign(1), true);
    before.tick(3, 0);
    for member in [0, 1] {
        before.heartbeat(&name(member), SESSION, &BTreeMap::new(), 0).unwrap();
    }
    before.heartbeat(&name(0), SESSION, &BTreeMap::new(), 1).unwrap();
    let of = |group: &Group, member| group.assignment(&name(member), 10).unwrap();
    let (first, second) = (owned(&of(&before, 0)), owned(&of(&before, 1)));
    assert_eq!((first.len(), second.len()), (2, 1));

    let mut group = Group::new(reign(2), false);
    group.tick(4, 0);
    group.heartbeat(&name(2), SESSION, &BTreeMap::new(), 0).unwrap();
    assert_eq!(of(&group, 2).settles_in_ms, Some(990));
    group.heartbeat(&name(0), SESSION, &first, 10).unwrap();
    assert_eq!(owned(&of(&group, 0)), first);
    // Somebody who slept since another reign, and the one who has had it since.
    let old = Epoch { reign: reign(1), number: 0 };
    let all = (0..3).map(|partition| (Partition(partition), old)).collect();
    group.heartbeat(&name(3), SESSION, &all, 20).unwrap();
    assert_eq!((of(&group, 3).partitions.len(), owned(&of(&group, 0))), (1, first.clone()), "the higher epoch wins");
    group.heartbeat(&name(1), SESSION, &second, 30).unwrap();
    assert_eq!((owned(&of(&group, 1)), &*of(&group, 3).partitions), (second, &[][..]));
    group.leave(&name(3));
    group.heartbeat(&name(2), SESSION, &BTreeMap::new(), 40).unwrap();
    assert_eq!(of(&group, 2).partitions, [], "held back");
    group.tick(4, SESSION);
    assert_eq!((numbers(&of(&group, 2)), of(&group, 2).settles_in_ms), (vec![3], None));
    assert_eq!((owned(&of(&group, 0)), &*of(&group, 0).revoke), (first, &[][..]), "nobody need give up anything");
}

#[test]
fn a_member_that_begins_anew_shuts_out_what_it_was_before() {
    let mut group = Group::new(reign(1), true);
    group.tick(1, 0);
    group.heartbeat(&name(0), SESSION, &BTreeMap::new(), 0).unwrap();
    let before = owned(&group.assignment(&name(0), 0).unwrap());
    group.heartbeat(&name(0), SESSION, &before, 1).unwrap();
    group.heartbeat(&name(0), SESSION, &BTreeMap::new(), 2).unwrap();
    let after = owned(&group.assignment(&name(0), 2).unwrap());
    assert!(after[&Partition(0)] > before[&Partition(0)]);
    let late = group.commit(&name(0), &[(Partition(0), Some(before[&Partition(0)]))], 3);
    assert!(matches!(late, Err(Refusal::NotAssigned { reassigned: true, .. })));
    group.commit(&name(0), &[(Partition(0), Some(after[&Partition(0)]))], 3).unwrap();
}

#[test]
fn a_thousand_members_and_no_more() {
    let mut group = Group::new(reign(1), true);
    group.tick(1_024, 0);
    for member in 0..MAX_MEMBERS {
        group.heartbeat(&name(member), SESSION, &BTreeMap::new(), 0).unwrap();
    }
    assert_eq!(group.heartbeat(&name(MAX_MEMBERS), SESSION, &BTreeMap::new(), 0), Err(Refusal::TooMany));
    group.heartbeat(&name(0), SESSION, &BTreeMap::new(), 0).unwrap();
    assert!(group.leave(&name(0)) && !group.leave(&name(0)));
    group.heartbeat(&name(MAX_MEMBERS), SESSION, &BTreeMap::new(), 0).unwrap();
}

#[test]
fn epochs_are_read_as_they_are_written() {
    let epoch = Epoch { reign: Ballot { round: 1 << 40, nonce: u64::MAX }, number: 12 };
    assert_eq!(epoch.to_string().parse(), Ok(epoch));
    for text in ["", ".", "1", "1.2", "1.x.3", "1.2.-3", "a.b.c", "1.2.3.4"] {
        assert!(text.parse::<Epoch>().is_err(), "{text}");
    }
}
