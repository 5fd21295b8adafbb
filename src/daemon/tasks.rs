//! Every task of the service has a name and is watched: one that ends before it is told to is a
//! defect, and ends the service with its name.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// Time in which tasks that end because of another one follow it: of those the one that panicked
/// is to blame.
const FOLLOWERS: Duration = Duration::from_millis(200);

/// A task that ended.
#[derive(Debug)]
pub(super) struct Ended<T> {
    pub(super) name: String,
    /// What it returned, or the text of its panic.
    pub(super) outcome: Result<T, String>,
}

/// The tasks that run.
#[derive(Debug)]
pub(super) struct Tasks<T> {
    set: JoinSet<Result<T, String>>,
    running: BTreeMap<Id, Running>,
}

#[derive(Debug)]
struct Running {
    name: String,
    handle: AbortHandle,
}

impl<T: Send + 'static> Tasks<T> {
    pub(super) fn new() -> Self {
        Self {
            set: JoinSet::new(),
            running: BTreeMap::new(),
        }
    }

    /// Runs a future as a task.
    pub(super) fn spawn(
        &mut self,
        name: impl Into<String>,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        let handle = self.set.spawn(async move { Ok(task.await) });
        self.watch(name.into(), handle);
    }

    fn watch(&mut self, name: String, handle: AbortHandle) {
        self.running.insert(handle.id(), Running { name, handle });
    }

    /// Runs a function on a thread of its own, which has the task's name.
    pub(super) fn spawn_thread(
        &mut self,
        name: &str,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<()> {
        let (ended, end) = oneshot::channel();
        let thread = std::thread::Builder::new().name(name.to_owned());
        // Not joined: the process doesn't wait for one that is stuck in the store.
        drop(thread.spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(task));
            ended
                .send(outcome.map_err(|panic| panic_text(&*panic)))
                .ok();
        })?);
        let handle = self.set.spawn(async move {
            end.await
                .unwrap_or_else(|_| Err("the thread is gone".to_owned()))
        });
        self.watch(name.to_owned(), handle);
        Ok(())
    }

    /// The next task that ends; `None` if none is left.
    pub(super) async fn next(&mut self) -> Option<Ended<T>> {
        let joined = self.set.join_next_with_id().await?;
        let (id, outcome) = match joined {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Err(join_text(error))),
        };
        Some(Ended {
            name: self
                .running
                .remove(&id)
                .map(|task| task.name)
                .unwrap_or_default(),
            outcome,
        })
    }

    /// Waits until all tasks with such names have ended, within a limit; returns those that ended
    /// meanwhile. What is still there after the limit is cut off at its next wait.
    pub(super) async fn finish(
        &mut self,
        is_one: impl Fn(&str) -> bool,
        limit: Duration,
    ) -> Vec<Ended<T>> {
        let mut all = Vec::new();
        let ends = async {
            while self.running.values().any(|task| is_one(&task.name)) {
                all.extend(self.next().await);
            }
        };
        if tokio::time::timeout(limit, ends).await.is_err() {
            let left = self.running.values().filter(|task| is_one(&task.name));
            for Running { name, handle } in left {
                tracing::warn!(task = name, "did not finish in time");
                handle.abort();
            }
        }
        all
    }

    /// The task to blame where `first` ended and others may end because of it.
    pub(super) async fn blame(&mut self, first: Ended<T>) -> Ended<T> {
        if first.outcome.is_err() {
            return first;
        }
        let followers = async {
            while let Some(ended) = self.next().await {
                if ended.outcome.is_err() {
                    return Some(ended);
                }
            }
            None
        };
        let panicked = tokio::time::timeout(FOLLOWERS, followers).await;
        panicked.ok().flatten().unwrap_or(first)
    }
}

fn join_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic_text(&*panic),
        Err(_) => "it was cancelled".to_owned(),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("it panicked: {}", text.unwrap_or_default())
}

#[cfg(test)]
impl<T> Tasks<T> {
    pub(super) fn names(&self) -> Vec<String> {
        self.running
            .values()
            .map(|task| task.name.clone())
            .collect()
    }

    pub(super) fn kill(&self, name: &str) {
        let mut tasks = self.running.values();
        tasks.find(|task| task.name == name).unwrap().handle.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ended(tasks: &mut Tasks<u32>) -> (String, Result<u32, String>) {
        let first = tasks.next().await.unwrap();
        let Ended { name, outcome } = tasks.blame(first).await;
        (name, outcome)
    }

    #[tokio::test]
    async fn a_task_that_ends_is_named() {
        let mut tasks = Tasks::new();
        tasks.spawn("idle", std::future::pending());
        tasks.spawn("quick", async { 7 });
        assert_eq!(ended(&mut tasks).await, ("quick".to_owned(), Ok(7)));
        tasks.spawn_thread("thread", || 8).unwrap();
        assert_eq!(ended(&mut tasks).await, ("thread".to_owned(), Ok(8)));
    }

    #[tokio::test]
    async fn a_panic_is_named_with_its_text() {
        let mut tasks = Tasks::new();
        tasks.spawn("task", async { panic!("of the task") });
        let expected = Err("it panicked: of the task".to_owned());
        assert_eq!(ended(&mut tasks).await, ("task".to_owned(), expected));
        let number = 3;
        tasks
            .spawn_thread("thread", move || panic!("of thread {number}"))
            .unwrap();
        let expected = Err("it panicked: of thread 3".to_owned());
        assert_eq!(ended(&mut tasks).await, ("thread".to_owned(), expected));
    }

    #[tokio::test]
    async fn the_one_that_panicked_is_to_blame_for_those_that_end_with_it() {
        let mut tasks = Tasks::new();
        let (sender, receiver) = oneshot::channel::<()>();
        tasks.spawn("follower", async {
            receiver.await.ok();
            1
        });
        tasks
            .spawn_thread("leader", move || {
                let _sender = sender;
                panic!("first");
            })
            .unwrap();
        let (name, outcome) = ended(&mut tasks).await;
        assert_eq!(name, "leader", "{outcome:?}");
    }
}
