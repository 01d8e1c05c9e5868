//! The race for one key: the test that most stores fail that fail any.

use bytes::Bytes;
use futures::future::join_all;
use object_store::{Error, PutMode, PutOptions, path::Path};

use super::{Component, Problem, Run, ensure};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Won,
    Lost,
    /// Neither: the store failed, and may have stored the object all the same.
    Unclear,
}

impl Run {
    pub(super) async fn race(&self) -> Result<(), Problem> {
        for round in 0..self.options.rounds {
            let key = self.key(&format!("race/{round}"));
            self.round(&key).await?;
        }
        Ok(())
    }

    async fn round(&self, key: &Path) -> Result<(), Problem> {
        let bodies: Vec<Bytes> = (0..self.options.writers).map(|_| self.object(500).1).collect();
        let answers = join_all(bodies.iter().map(|body| self.attempt(key, body))).await;
        let winners: Vec<usize> = (0..answers.len()).filter(|writer| answers[*writer] == Answer::Won).collect();
        ensure(winners.len() <= 1, || {
            format!("{} of {} concurrent creates of one key were told that they won", winners.len(), bodies.len())
        })?;
        let kept = self.region.get(Component::Bucket, key).await?;
        let kept = bodies.iter().position(|body| Some(body) == kept.as_ref());
        match (winners.first(), kept) {
            (Some(winner), Some(kept)) => {
                ensure(*winner == kept, || "the object is not the one of the writer that won".into())?;
            }
            // Nobody heard of winning: fine when the winner's answer was an error that leaves it open.
            (None, Some(kept)) => {
                ensure(answers[kept] == Answer::Unclear, || "the writer that won was told that it lost".into())?;
            }
            (_, None) => {
                let problem = "the key holds none of the objects that raced for it";
                return Err(Problem::Broken(problem.into()));
            }
        }
        let late = self.attempt(key, &self.object(500).1).await;
        ensure(late != Answer::Won, || "a create after the race was told that it won".into())?;
        let still = self.region.get(Component::Bucket, key).await?;
        ensure(still.as_ref() == kept.map(|kept| &bodies[kept]), || "the winner's object was overwritten later".into())
    }

    async fn attempt(&self, key: &Path, body: &Bytes) -> Answer {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.region.raw().put_opts(key, body.clone().into(), options).await {
            Ok(_) => Answer::Won,
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Answer::Lost,
            Err(_) => Answer::Unclear,
        }
    }
}
