//! `brigade shard`.

use clap::{Args, Subcommand};

use super::{
    CliError, Context,
    output::{count, print_json, print_line, print_table, table},
    region::{PROGRESS, progress_cells},
    units::shown_time,
};
use crate::client::{Shard, ShardList};

const AFTER_HELP: &str = "\
Examples:
  brigade shard list
  brigade shard list --output json

Under-replicated are partitions of which a region that votes is not in sync.
Offline are partitions for which the server knows of no leader that can commit.";

/// Arguments of `brigade shard`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ShardArgs {
    #[command(subcommand)]
    command: ShardCommand,
}

#[derive(Debug, Subcommand)]
enum ShardCommand {
    /// List the shards with their leaders, partitions and regions
    List,
}

/// Runs `brigade shard`.
pub(super) async fn run(context: &Context, args: ShardArgs) -> Result<(), CliError> {
    let ShardCommand::List = args.command;
    let list = context.client.shards().await?;
    if context.json() { print_json(&list) } else { show(&list) }
}

fn show(list: &ShardList) -> Result<(), CliError> {
    let header = [
        "shard",
        "leader",
        "address",
        "ballot",
        "committed",
        "takeover took",
        "partitions",
        "under-replicated",
        "offline",
    ];
    let mut rows = table(&header, &[0, 4, 5, 6, 7, 8, 9]);
    list.shards.iter().for_each(|shard| {
        rows.add_row(cells(shard));
    });
    print_table(&rows)?;
    print_line("")?;
    let mut rows = table(&[&["shard", "region", "votes"], &PROGRESS[..]].concat(), &[0, 4, 5, 6, 7, 8, 9]);
    for shard in &list.shards {
        for region in &shard.regions {
            let votes = if region.votes { "yes" } else { "no" };
            let which = [shard.shard.to_string(), region.name.clone(), votes.to_owned()];
            rows.add_row(which.into_iter().chain(progress_cells(&region.progress)));
        }
    }
    print_table(&rows)
}

fn cells(shard: &Shard) -> [String; 9] {
    let or_dash = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    [
        shard.shard.to_string(),
        or_dash(shard.node.clone()),
        or_dash(shard.address.clone()),
        shard.ballot.clone(),
        shard.committed.to_string(),
        or_dash(shard.takeover_ms.map(shown_time)),
        count(shard.partitions.total),
        count(shard.partitions.under_replicated),
        count(shard.partitions.offline),
    ]
}
