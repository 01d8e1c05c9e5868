//! Scenario `publish`: connections that each have one request in flight, closed loop, or open loop at a given rate.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    args::LoadArgs,
    bodies::Bodies,
    connection::{Connection, Outcome, Target},
    report::Report,
    tally::{Tally, Window},
    topic::BenchTopic,
    window::{self, Counted, Measured},
};
use crate::cli::{CliError, Context};

/// Runs the scenario.
pub(super) async fn run(
    context: &Context,
    topic: &BenchTopic,
    load: &LoadArgs,
    name: &str,
) -> Result<Report, CliError> {
    let messages = load.messages_per_request as usize;
    let bodies =
        Arc::new(Bodies::build(load.message.seed, messages, load.message.message_bytes as usize, load.publish_format)?);
    let target = Target::new(context.client.base(), &topic.name)?;
    let connections = usize::from(load.connections);
    let schedule = load.rate.map(|rate| Schedule::new(rate, load.messages_per_request, connections as u32));
    let Measured { tally, seconds, used } =
        window::measure(context, name, &load.time, connections, |number, window| {
            let worker = Worker {
                connection: Connection::new(target.clone()),
                // Neighbours begin far from each other, so that their bodies differ at any moment.
                place: number * bodies.len() / connections,
                bodies: Arc::clone(&bodies),
                messages: messages as u64,
                tally: Tally::new(window),
            };
            worker.run(window, schedule, number as u32)
        })
        .await?;
    let value_bytes = tally.messages * u64::from(load.message.message_bytes);
    Ok(Report::new(name, connections, Some(load.messages_per_request), seconds, value_bytes, &tally, used))
}

/// When requests ought to start, whatever became of those before them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    begin: Instant,
    interval: Duration,
    /// Requests are dealt out to the connections in turn.
    step: u32,
}

impl Schedule {
    /// `rate` messages a second from now on.
    pub(super) fn new(rate: u32, messages_per_request: u32, connections: u32) -> Self {
        let interval = Duration::from_secs_f64(f64::from(messages_per_request) / f64::from(rate));
        Self { begin: Instant::now(), interval, step: connections }
    }

    pub(super) fn at(&self, round: u32, number: u32) -> Instant {
        let request = f64::from(round) * f64::from(self.step) + f64::from(number);
        self.begin + self.interval.mul_f64(request)
    }
}

struct Worker {
    connection: Connection,
    bodies: Arc<Bodies>,
    place: usize,
    messages: u64,
    tally: Tally,
}

impl Worker {
    async fn run(mut self, window: Window, schedule: Option<Schedule>, number: u32) -> Result<Tally, CliError> {
        let mut round = 0;
        loop {
            let mut started = Instant::now();
            if let Some(schedule) = schedule {
                // A connection that is late starts at once, and its lateness counts as latency.
                started = schedule.at(round, number);
                sleep_until(started.min(window.to)).await;
                round += 1;
            }
            if Instant::now() >= window.to {
                return Ok(self.tally);
            }
            self.publish(started).await;
        }
    }

    async fn publish(&mut self, started: Instant) {
        let body = self.bodies.at(self.place);
        self.place += 1;
        let length = body.len() as u64;
        let request = self.connection.target().publish(self.bodies.format().media_type(), body);
        match self.connection.exchange(request).await {
            Outcome::Done(..) => self.tally.done(started, Instant::now(), self.messages, length),
            Outcome::Refused(code, wait) => self.tally.refused(code, wait).await,
            Outcome::Broken => self.tally.refused("connection_broken".to_owned(), None).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Schedule;

    #[test]
    fn requests_are_dealt_out_evenly() {
        let begin = Instant::now();
        let schedule = Schedule { begin, interval: Duration::from_millis(10), step: 3 };
        let at = |round, number| (schedule.at(round, number) - begin).as_millis();
        assert_eq!([at(0, 0), at(0, 1), at(0, 2), at(1, 0), at(2, 2)], [0, 10, 20, 30, 80]);
    }
}
