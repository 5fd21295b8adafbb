//! Who changes a store: this process, or the service that runs on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Method, StatusCode};

use super::args::StoreArgs;
use crate::admin::{Answer, Collection, Item, MAX_IDS, Problem};
use crate::config::Settings;
use crate::store::{StoreError, Writer, socket_of};

/// Longest wait for an answer: as many commits as a request may have ids, on a slow disk.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Where changes go.
pub(super) enum Target {
    /// Nobody uses the store: it is changed here.
    Offline(Box<(Writer, Settings)>),
    /// A service has the store.
    Service(Client),
}

impl Target {
    /// Takes the store if it is free; else finds its service.
    pub(super) fn open(
        args: &StoreArgs,
        environment: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let settings = args.config.load(environment)?;
        let path = args.store.as_ref().unwrap_or(&settings.store.path).clone();
        // Opening for writing would make one.
        if !path.exists() {
            return Err(StoreError::Missing { path }.into());
        }
        match Writer::open(&path) {
            Ok(writer) => Ok(Self::Offline(Box::new((writer, settings)))),
            Err(locked @ StoreError::Locked { .. }) => {
                let socket = socket_of(&path);
                if !socket.exists() {
                    let socket = socket.display();
                    let text = format!("there is no {socket} by which that process could be asked");
                    return Err(anyhow::Error::new(locked).context(text));
                }
                Ok(Self::Service(Client { socket }))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Asks a running service.
pub(super) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(super) fn drop(&self, collection: Collection, ids: &[i64]) -> anyhow::Result<Vec<Item>> {
        self.ask(ids, |ids| (Method::DELETE, collection.path(ids)))
    }

    pub(super) fn retry(&self, collection: Collection, ids: &[i64]) -> anyhow::Result<Vec<Item>> {
        self.ask(ids, |ids| (Method::POST, collection.path(ids) + "/retry"))
    }

    /// Asks in parts that the service accepts.
    fn ask(
        &self,
        ids: &[i64],
        request: impl Fn(&[i64]) -> (Method, String),
    ) -> anyhow::Result<Vec<Item>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to start the runtime")?;
        let mut items = Vec::new();
        for part in ids.chunks(MAX_IDS) {
            let (method, path) = request(part);
            let answer = runtime.block_on(self.send(method, &path));
            let answer = answer.with_context(|| {
                let done = items.len();
                let socket = self.socket.display();
                format!(
                    "failed to ask the service at {socket}, {done} of {} are done",
                    ids.len()
                )
            })?;
            items.extend(answer.items);
        }
        Ok(items)
    }

    async fn send(&self, method: Method, path: &str) -> anyhow::Result<Answer> {
        let client = reqwest::Client::builder()
            .unix_socket(self.socket.as_path())
            .no_proxy()
            .timeout(ANSWER_LIMIT)
            .build()?;
        // The name of the host says nothing on a Unix socket.
        let request = client.request(method, format!("http://localhost{path}"));
        let response = request.send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body)
                .context("it answered what this hearthd doesn't know: are both the same version?");
        }
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        match problem.detail.as_str() {
            "" => bail!("it answered {status} {}", problem.title),
            detail => bail!("it answered {status}: {detail}"),
        }
    }
}
