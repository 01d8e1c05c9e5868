//! Which member is to have which partition.

use std::{cmp::Reverse, collections::BTreeSet};

/// Who is to have each partition: every member as many as any other, give or take one, and as few partitions as possible
/// taken from those who own them.
///
/// Members are numbers below `members`. `owners` are those who own a partition now, `heirs` those who were to have it so
/// far. The same input always gives the same answer.
///
/// Whoever owns most may keep the odd ones, so that nothing moves which need not. Of those who own too much the partitions
/// go first that they were told to give up before: nobody is asked twice for different ones.
pub(super) fn balance(members: usize, owners: &[Option<usize>], heirs: &[Option<usize>]) -> Vec<Option<usize>> {
    let mut placed = vec![None; owners.len()];
    if members == 0 {
        return placed;
    }
    let mut room = room(members, owners);
    let stays = |at: usize| owners[at].filter(|_| owners[at] == heirs[at]);
    let owned = |at: usize| owners[at];
    let promised = |at: usize| heirs[at];
    let wishes: [&dyn Fn(usize) -> Option<usize>; 3] = [&stays, &owned, &promised];
    for wish in wishes {
        for (at, place) in placed.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
            if let Some(member) = wish(at).filter(|member| room[*member] > 0) {
                room[member] -= 1;
                *place = Some(member);
            }
        }
    }
    let mut open: BTreeSet<_> =
        room.iter().enumerate().filter(|(_, room)| **room > 0).map(|(member, room)| (Reverse(*room), member)).collect();
    for place in placed.iter_mut().filter(|place| place.is_none()) {
        // All places together are as many as there are partitions.
        let Some((Reverse(room), member)) = open.pop_first() else { break };
        *place = Some(member);
        if room > 1 {
            open.insert((Reverse(room - 1), member));
        }
    }
    placed
}

/// How many partitions each member may have.
fn room(members: usize, owners: &[Option<usize>]) -> Vec<usize> {
    let (each, odd) = (owners.len() / members, owners.len() % members);
    let mut owned = vec![0_usize; members];
    owners.iter().flatten().for_each(|member| owned[*member] += 1);
    let mut most: Vec<_> = (0..members).collect();
    most.sort_by_key(|member| Reverse(owned[*member]));
    let mut room = vec![each; members];
    most.into_iter().take(odd).for_each(|member| room[member] += 1);
    room
}
