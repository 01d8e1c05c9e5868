//! Waiting for a change of the regions, with its progress.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    cli::{CliError, Context, output, progress::Backlog},
    client::{RegionList, RetryPolicy, WantedRegion},
};

/// Between two looks: quick enough to be watched, and rare enough to cost nothing.
const PAUSE: Duration = Duration::from_millis(500);

/// Resolves with the regions when no change is under way any more.
///
/// # Errors
/// When other regions than `wanted` vote then, or the server is away for a minute.
pub(super) async fn follow(context: &Context, wanted: &[WantedRegion]) -> Result<RegionList, CliError> {
    let backlog = Backlog::new(context.json());
    loop {
        // Another node may take over meanwhile, and goes on with the change.
        let (list, _) = context.client.retry(&RetryPolicy::default(), || context.client.regions()).await?;
        let Some(change) = &list.change else { return finished(list, wanted) };
        let entries =
            shards(&list).map(|(_, shard)| shard.behind_entries + shard.copies_missing + shard.files_missing).sum();
        backlog.show(entries, describe(change, &list));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Regions that are not in sync yet, each with a shard.
fn shards(list: &RegionList) -> impl Iterator<Item = (&str, &crate::client::RegionProgress)> {
    let late = list.regions.iter().filter(|region| region.state != "in_sync");
    late.flat_map(|region| region.shards.iter().map(|shard| (region.name.as_str(), &shard.progress)))
}

fn describe(change: &str, list: &RegionList) -> String {
    let late = shards(list).map(|(name, shard)| {
        let (entries, bytes) = (output::count(shard.behind_entries), output::bytes(shard.behind_bytes));
        format!("; {name} {}: {entries} entries, {bytes} behind", shard.state)
    });
    std::iter::once(change.to_owned()).chain(late).collect()
}

fn finished(list: RegionList, wanted: &[WantedRegion]) -> Result<RegionList, CliError> {
    let asked: BTreeSet<_> = wanted.iter().map(|region| region.name.as_str()).collect();
    let voters: BTreeSet<_> = list.voters.iter().map(String::as_str).collect();
    if asked == voters {
        return Ok(list);
    }
    let voters = list.voters.join(", ");
    Err(CliError::Failed(format!("the change ended, but not as asked for: the regions that vote are {voters}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn list() -> RegionList {
        let region = |name: &str, state: &str, behind: u64| {
            json!({"number": 0, "name": name, "url": "", "votes": true, "state": state, "shards": [
                {"shard": 0, "state": state, "behind_entries": behind, "behind_bytes": 2048},
            ]})
        };
        from_value(json!({"regions": [region("a", "in_sync", 0), region("b", "joining", 1500)], "voters": ["a"]}))
            .unwrap()
    }

    #[test]
    fn only_regions_that_are_late_are_described() {
        assert_eq!(describe("adding b", &list()), "adding b; b joining: 1,500 entries, 2.00 KiB behind");
    }

    #[test]
    fn a_change_that_ended_otherwise_is_an_error() {
        let wanted = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| WantedRegion { name: (*name).to_owned(), url: String::new() }).collect()
        };
        assert!(finished(list(), &wanted(&["a"])).is_ok());
        assert!(finished(list(), &wanted(&["a", "b", "c"])).unwrap_err().to_string().contains("vote are a"));
    }
}
