//! `brigade compactor`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{
    CliError, Context,
    output::{bytes, count, print_json, print_line, print_table, table},
    times::shown_point,
    units::shown_time,
};
use crate::client::{Compactor, CompactorRun};

const AFTER_HELP: &str = "\
Examples:
  brigade compactor status
      what the compactor does, what waits for it, and what regions miss
  brigade compactor run
      archive everything now, merge and drop what can be, delete what nothing refers to
  brigade compactor run --topic orders

Neighbouring files are merged when there are enough of them: 3 or more that make a full file, or 32. A run merges no
sooner than that.

The compactor works by itself beside the leader; a run is for tests, and before a planned outage.";

/// How long one request of a run waits for its end.
const WAIT: Duration = Duration::from_secs(20);

/// Arguments of `brigade compactor`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct CompactorArgs {
    #[command(subcommand)]
    command: Option<CompactorCommand>,
}

#[derive(Debug, Subcommand)]
enum CompactorCommand {
    /// Show what the compactor does, what waits for it, and how repairing regions comes on (the default)
    Status,
    /// Archive everything now, merge and drop what can be, delete what nothing refers to, and wait until that is done
    Run {
        /// Only this topic is archived, merged and compacted
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
        /// Return as soon as the run has begun
        #[arg(long)]
        no_wait: bool,
    },
}

/// Runs `brigade compactor`.
pub(super) async fn run(context: &Context, args: CompactorArgs) -> Result<(), CliError> {
    match args.command.unwrap_or(CompactorCommand::Status) {
        CompactorCommand::Status => {
            let status = context.client.compactor().await?;
            if context.json() { print_json(&status) } else { show(&status) }
        }
        CompactorCommand::Run { topic, no_wait } => {
            let wait = if no_wait { Duration::ZERO } else { WAIT };
            let mut run = context.client.run_compactor(topic.as_deref(), wait).await?;
            while !run.done && !no_wait {
                run = context.client.wait_for_run(run.run, WAIT).await?;
            }
            report(context, &run)
        }
    }
}

fn report(context: &Context, run: &CompactorRun) -> Result<(), CliError> {
    if context.json() {
        print_json(run)?;
    } else if run.done {
        let CompactorRun { archived, merged, compacted, trimmed, deleted_files, deleted_objects, .. } = run;
        let mut rows = table(&["what", "count"], &[1]);
        for (what, number) in [
            ("archive jobs", archived),
            ("merges", merged),
            ("key compactions", compacted),
            ("partitions trimmed", trimmed),
            ("archive files deleted", deleted_files),
            ("journal objects deleted", deleted_objects),
        ] {
            rows.add_row([what.to_owned(), count(*number)]);
        }
        print_table(&rows)?;
    } else {
        print_line(format_args!("begun: run {}; brigade compactor status shows how far it is", run.run))?;
    }
    if !context.json() {
        run.warnings.iter().try_for_each(|warning| print_line(format_args!("warning: {warning}")))?;
    }
    if run.problems.is_empty() {
        return Ok(());
    }
    Err(CliError::Failed(format!("not everything was done: {}", run.problems.join("; "))))
}

fn show(status: &Compactor) -> Result<(), CliError> {
    if !status.enabled {
        print_line("the compactor is switched off (compact.enabled)")?;
    }
    match &status.job {
        Some(job) => {
            let topic = job.topic.as_deref().unwrap_or("-");
            let (kind, partitions, input) = (&job.kind, job.partitions, bytes(job.input_bytes));
            let since = shown_point(job.since_ms);
            print_line(format_args!(
                "under way: {kind} of {partitions} partitions, topic {topic}, {input}, since {since}"
            ))?;
        }
        None => print_line("under way: nothing")?,
    }
    let mut rows = table(&["jobs", "done", "failed", "read", "written"], &[1, 2, 3, 4]);
    for jobs in &status.jobs {
        let (done, failed) = (count(jobs.done), count(jobs.failed));
        rows.add_row([jobs.kind.clone(), done, failed, bytes(jobs.read_bytes), bytes(jobs.written_bytes)]);
    }
    print_table(&rows)?;
    if let Some(amplification) = status.write_amplification {
        print_line(format_args!("write amplification: {amplification:.2}"))?;
    }
    let waits = status.backlog;
    print_line(format_args!("not archived: {} in {} runs", bytes(waits.bytes), count(waits.runs)))?;
    print_line(format_args!("claims: {}", count(waits.claims)))?;
    print_line(format_args!("to be deleted: {} objects, {}", count(waits.garbage), bytes(waits.garbage_bytes)))?;
    if status.repairs.iter().any(|repair| repair.files_missing + repair.copies_missing + repair.copied_objects > 0) {
        let header = ["region", "files missing", "bytes", "copies missing", "copied", "bytes", "a second", "left"];
        let mut rows = table(&header, &[1, 2, 3, 4, 5, 6, 7]);
        for repair in &status.repairs {
            let left = repair.remaining_ms.map_or_else(|| "-".to_owned(), |ms| shown_time(ms.next_multiple_of(1_000)));
            rows.add_row([
                repair.region.clone(),
                count(repair.files_missing),
                bytes(repair.bytes_missing),
                count(repair.copies_missing),
                count(repair.copied_objects),
                bytes(repair.copied_bytes),
                bytes(repair.bytes_per_second),
                left,
            ]);
        }
        print_table(&rows)?;
    }
    status.last_error.iter().try_for_each(|error| {
        print_line(format_args!("last error, at {}: {}", shown_point(error.time_ms), error.problem))
    })
}
