//! The members of a stream, for people and programs.

use crate::{
    cli::{
        CliError, Context,
        output::{count, print_json, print_table, table},
        units::shown_time,
    },
    client::Assignment,
};

/// Prints the members.
pub(super) fn show(context: &Context, members: &[Assignment]) -> Result<(), CliError> {
    if context.json() {
        return print_json(&members);
    }
    let mut rows = table(&["member", "partitions", "gives up", "lag", "session"], &[3, 4]);
    for member in members {
        rows.add_row([
            member.member.clone(),
            numbers(member.partitions.iter().map(|assigned| assigned.partition)),
            numbers(member.revoke.iter().copied()),
            count(member.partitions.iter().map(|assigned| assigned.lag).sum()),
            shown_time(member.session_timeout_ms),
        ]);
    }
    print_table(&rows)
}

fn numbers(numbers: impl Iterator<Item = u32>) -> String {
    let numbers: Vec<_> = numbers.map(|number| number.to_string()).collect();
    if numbers.is_empty() { "-".to_owned() } else { numbers.join(",") }
}
