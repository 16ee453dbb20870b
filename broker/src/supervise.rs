//! Tasks that must not end on their own.
//!
//! A broker whose driver or registrar died would go on answering from a world that stands still.
//! So every lasting task belongs to a [`Crew`], and whoever holds the crew hears of the first that
//! ends.

use std::collections::HashMap;
use tokio::task::{Id, JoinError, JoinSet};

/// Named tasks; those that still run when it is dropped are ended.
#[derive(Default)]
pub struct Crew {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Crew {
    /// Starts a task that is expected to run as long as the broker.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// Waits for the next task that ends, and says which; for ever when there is none left. A task
    /// that panicked is named in the log. May be cancelled without loss.
    pub async fn ended(&mut self) -> &'static str {
        match self.tasks.join_next_with_id().await {
            Some(result) => self.name(result),
            None => std::future::pending().await,
        }
    }

    /// Waits for all of them.
    pub async fn all_ended(&mut self) {
        while let Some(result) = self.tasks.join_next_with_id().await {
            self.name(result);
        }
    }

    /// Tasks that still run.
    pub fn running(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.names.values().copied().collect();
        names.sort_unstable();
        names
    }

    fn name(&mut self, result: Result<(Id, ()), JoinError>) -> &'static str {
        let (id, error) = match result {
            Ok((id, ())) => (id, None),
            Err(error) => (error.id(), Some(error)),
        };
        let name = self.names.remove(&id).unwrap_or("unnamed");
        if let Some(error) = error {
            tracing::error!(task = name, %error, "a task has failed");
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_task_that_ends_is_named_whether_it_returns_or_panics() {
        let mut crew = Crew::default();
        crew.spawn("lasting", std::future::pending());
        crew.spawn("panicking", async { panic!("for the test") });
        assert_eq!(crew.ended().await, "panicking");
        crew.spawn("returning", async {});
        assert_eq!(crew.ended().await, "returning");
        assert_eq!(crew.running(), ["lasting"]);
    }
}
