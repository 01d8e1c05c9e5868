//! `brigade region`.

use clap::{Args, Subcommand};

use super::{
    CliError, Context,
    output::{bytes, count, print_json, print_line, print_table, table},
    serve::RegionArg,
};
use crate::client::{RegionList, RegionProgress};

mod follow;
mod plan;

use plan::Edit;

const AFTER_HELP: &str = "\
Examples:
  brigade region list
  brigade region add eu-2=s3://bucket-2 eu-3=s3://bucket-3
      from one region to three: a cluster has 1, 3 or 5
  brigade region replace eu-2 eu-4=s3://bucket-4
  brigade region remove eu-3 eu-4

A new region is first sent everything and then votes, so that nothing becomes less safe on the way.
The command shows the progress until the change is done; interrupting it does not stop the change.
Regions are named without credentials: every node takes them from its own settings and environment.";

/// Arguments of `brigade region`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct RegionArgs {
    #[command(subcommand)]
    command: RegionCommand,
}

#[derive(Debug, Subcommand)]
enum RegionCommand {
    /// List the regions, and how far each shard has come in each
    List,
    /// Add regions to those there are
    Add {
        /// Regions to add, each with the URL of its store
        #[arg(required = true, value_name = "NAME=URL")]
        regions: Vec<RegionArg>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Remove regions; their stores keep what they hold
    Remove {
        /// Names of the regions to remove
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Put a new region in the place of one that is lost or no longer wanted
    Replace {
        /// Name of the region to remove
        #[arg(value_name = "OLD")]
        old: String,
        /// The region to add
        #[arg(value_name = "NAME=URL")]
        new: RegionArg,
        #[command(flatten)]
        wait: WaitArgs,
    },
    /// Name all regions that are to be
    Set {
        /// All regions, those that are there already too
        #[arg(required = true, value_name = "NAME=URL")]
        regions: Vec<RegionArg>,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Args, Clone, Copy, Debug)]
struct WaitArgs {
    /// Return as soon as the change has begun
    #[arg(long)]
    no_wait: bool,
}

/// Runs `brigade region`.
pub(super) async fn run(context: &Context, args: RegionArgs) -> Result<(), CliError> {
    let (edit, wait) = match args.command {
        RegionCommand::List => return show(context, &context.client.regions().await?),
        RegionCommand::Add { regions, wait } => (Edit::Add(regions), wait),
        RegionCommand::Remove { names, wait } => (Edit::Remove(names), wait),
        RegionCommand::Replace { old, new, wait } => (Edit::Replace { old, new }, wait),
        RegionCommand::Set { regions, wait } => (Edit::Set(regions), wait),
    };
    change(context, edit, wait).await
}

async fn change(context: &Context, edit: Edit, wait: WaitArgs) -> Result<(), CliError> {
    let wanted = plan::wanted(&context.client.regions().await?, edit)?;
    let begun = context.client.change_regions(&wanted).await?;
    if !wait.no_wait {
        return show(context, &follow::follow(context, &wanted).await?);
    }
    match begun.change {
        _ if context.json() => print_json(&begun),
        Some(change) => print_line(format_args!("begun: {change}; brigade region list shows how far it is")),
        None => print_line("these are the regions already"),
    }
}

/// Columns of a region's progress, behind those that say which region it is.
pub(super) const PROGRESS: [&str; 7] =
    ["state", "accepted", "behind", "bytes", "seconds", "copies missing", "files missing"];

/// The cells of these columns.
pub(super) fn progress_cells(progress: &RegionProgress) -> [String; 7] {
    [
        progress.state.clone(),
        progress.accepted.to_string(),
        count(progress.behind_entries),
        bytes(progress.behind_bytes),
        format!("{:.1}", progress.behind_ms as f64 / 1000.0),
        count(progress.copies_missing),
        count(progress.files_missing),
    ]
}

fn show(context: &Context, list: &RegionList) -> Result<(), CliError> {
    if context.json() {
        return print_json(list);
    }
    let header = [&["region", "votes", "shard"], &PROGRESS[..], &["url"]].concat();
    let mut rows = table(&header, &[2, 4, 5, 6, 7, 8, 9]);
    for region in &list.regions {
        let votes = if region.votes { "yes" } else { "no" };
        for shard in &region.shards {
            let which = [region.name.clone(), votes.to_owned(), shard.shard.to_string()];
            rows.add_row(which.into_iter().chain(progress_cells(&shard.progress)).chain([region.url.clone()]));
        }
    }
    print_table(&rows)?;
    for region in &list.regions {
        if let Some(problem) = &region.problem {
            print_line(format_args!("region {}: {problem}", region.name))?;
        }
        if let Some(hint) = &region.hint {
            print_line(format_args!("hint: {hint}"))?;
        }
    }
    print_line(format_args!("quorum: {} of {}", list.quorum, list.voters.join(", ")))?;
    list.change.iter().try_for_each(|change| print_line(format_args!("under way: {change}")))
}
