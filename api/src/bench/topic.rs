//! The topic a benchmark runs on.

use super::args::TopicArgs;
use crate::{
    cli::{CliError, Context},
    client::{ErrorKind, Topic, TopicSettings},
};

/// A topic that was there, or one that is deleted when the benchmark ends.
#[derive(Debug)]
pub(super) struct BenchTopic {
    pub(super) name: String,
    delete: bool,
}

impl BenchTopic {
    /// Opens the named topic, or creates it.
    pub(super) async fn open(context: &Context, args: &TopicArgs) -> Result<Self, CliError> {
        let client = &context.client;
        if let Some(name) = &args.topic {
            match client.topic(name).await {
                Ok(_) => return Ok(Self { name: name.clone(), delete: false }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        let name = args.topic.clone().unwrap_or_else(|| format!("bench-{:08x}", client.env().entropy.next_u64() >> 32));
        let settings = TopicSettings { partitions: Some(args.partitions), ..TopicSettings::default() };
        client.create_topic(&name, &settings).await?;
        Ok(Self { name, delete: !args.keep_topic })
    }

    /// The topic with the state of its partitions.
    pub(super) async fn describe(&self, context: &Context) -> Result<Topic, CliError> {
        Ok(context.client.topic(&self.name).await?)
    }

    /// Deletes what was created.
    pub(super) async fn close(self, context: &Context) -> Result<(), CliError> {
        if self.delete {
            context.client.delete_topic(&self.name).await?;
        }
        Ok(())
    }
}
