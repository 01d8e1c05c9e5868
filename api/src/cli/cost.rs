//! `brigade cost`.

use std::{fs, path::PathBuf, time::Duration};

use brigade_index::env::Env;
use clap::Args;

use super::{
    CliError, Context,
    output::{bytes, count, print_json, print_line, print_table, table},
};
use crate::cost::{BUILT_IN, Bill, Line, Meter, PricesError, Table};

const AFTER_HELP: &str = "\
Examples:
  brigade cost                         since the server started, at the prices of S3 Standard
  brigade cost --seconds 60            what the next minute costs
  brigade cost --store r2
  brigade cost --home region-1         bytes to and from other regions are transferred, too
  brigade cost --print-prices > prices.toml
  brigade cost --prices prices.toml --store mine

Requests that write or list are PUT-class, those that read are GET-class. Every node counts its own
requests: of a cluster of several, add up what each of them says (--server); what is stored, the
leader says. Messages and archive files are counted as stored, not snapshots and what waits to be
deleted.";

/// Arguments of `brigade cost`.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct CostArgs {
    /// Store whose prices count: s3-standard, s3-express, gcs, r2, or one of the file
    #[arg(long, default_value = "s3-standard", value_name = "NAME")]
    store: String,
    /// TOML file with prices, like the one that --print-prices prints
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Print the prices that are built in, and end
    #[arg(long)]
    print_prices: bool,
    /// Measure for so long instead of counting from the server's start
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// Region that the node runs in
    #[arg(long, value_name = "REGION")]
    home: Option<String>,
}

/// Runs `brigade cost`.
pub(super) async fn run(context: &Context, args: CostArgs) -> Result<(), CliError> {
    if args.print_prices {
        return print_line(BUILT_IN.trim_end());
    }
    let text = match &args.prices {
        None => BUILT_IN.to_owned(),
        Some(file) => {
            fs::read_to_string(file).map_err(|source| CliError::Io { what: file.display().to_string(), source })?
        }
    };
    let name = args.prices.as_ref().map_or_else(|| "built in".to_owned(), |file| file.display().to_string());
    let refused = |error: PricesError| CliError::Input {
        message: format!("prices ({name}): {error}"),
        hint: "begin with what brigade cost --print-prices prints".to_owned(),
    };
    let table = Table::parse(&text).map_err(refused)?;
    let prices = table.of(&args.store).map_err(refused)?;
    let before = Meter::parse(&context.client.metrics().await?);
    let (meter, seconds) = match args.seconds {
        None => {
            let now = Env::system().clock.now_ms() as f64 / 1000.0;
            let seconds = (now - before.started).max(0.0);
            (before, seconds)
        }
        Some(seconds) => {
            tokio::time::sleep(Duration::from_secs(seconds.into())).await;
            let after = Meter::parse(&context.client.metrics().await?);
            let again = || CliError::Failed("the server was started again meanwhile".to_owned());
            (after.since(&before).ok_or_else(again)?, f64::from(seconds))
        }
    };
    if let Some(home) = args.home.as_deref().filter(|home| !meter.regions().contains(home)) {
        let regions = meter.regions().join(", ");
        let message = format!("the server has no region {home:?}");
        return Err(CliError::Input { message, hint: format!("name one of: {regions}") });
    }
    let bill = Bill::new(&meter, prices, seconds, args.home.as_deref());
    if context.json() {
        return print_json(&bill);
    }
    show(&bill, args.home.is_none() && meter.regions().len() > 1)
}

fn show(bill: &Bill, untold: bool) -> Result<(), CliError> {
    let covered = indicatif::HumanDuration(Duration::from_secs_f64(bill.seconds.max(0.0)));
    print_line(format_args!("{covered} at the prices of {}", bill.store))?;
    let header = ["component", "put-class", "get-class", "deletes", "sent", "received", "dollars"];
    let mut rows = table(&header, &[1, 2, 3, 4, 5, 6]);
    for line in bill.lines.iter().chain([&bill.total]) {
        let Line { component, put_class, get_class, deletes, sent_bytes, received_bytes, dollars } = line;
        rows.add_row([
            component.clone(),
            count(*put_class),
            count(*get_class),
            count(*deletes),
            bytes(*sent_bytes),
            bytes(*received_bytes),
            format!("{dollars:.6}"),
        ]);
    }
    print_table(&rows)?;
    let (published, messages) = (bytes(bill.published_bytes), count(bill.published_messages));
    print_line(format_args!("published: {messages} messages, {published}"))?;
    if let (Some(puts), Some(gets), Some(dollars)) =
        (bill.put_class_per_gib, bill.get_class_per_gib, bill.dollars_per_gib)
    {
        print_line(format_args!(
            "for each GiB published: {puts:.0} PUT-class and {gets:.0} GET-class requests, ${dollars:.6}"
        ))?;
    }
    let (journal, archive) = (bytes(bill.journal_bytes), bytes(bill.archive_bytes));
    let storage = bill.storage_a_month;
    print_line(format_args!("stored: {journal} in the journal, {archive} in the archive: ${storage:.4} a month"))?;
    if let Some(dollars) = bill.dollars_a_month {
        print_line(format_args!("at this rate: ${dollars:.2} a month without storage"))?;
    }
    if untold {
        print_line("Transfer between regions is not counted: name the node's own region with --home.")?;
    }
    Ok(())
}
