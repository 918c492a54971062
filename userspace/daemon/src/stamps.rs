//! Has an authority stamp the time on checkpoints (RFC 3161). Where it can't be reached the newest checkpoint waits
//! and is stamped when it can: what it covers is everything before it, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use archive::timestamp::{self, QUERY, RESPONSE_BYTES_MAX};
use archive::{continues, files, layout};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, redirect};
use tracing::{info, warn};

use crate::config::Timestamps;

/// How long an authority is given.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long it is left alone after it gave no token; twice as long after each further time.
const PAUSE_MIN: Duration = Duration::from_secs(10);

/// How long at most.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// The checkpoints of a log, and who stamps them.
pub(crate) struct Stamps {
    client: Client,
    url: String,
    interval: Duration,
    archive: PathBuf,
    origin: String,
}

impl Stamps {
    /// By the authority of the configuration.
    pub(crate) fn new(rules: &Timestamps, archive: PathBuf, origin: String) -> Result<Self> {
        let Timestamps { url, interval_s, ca_file } = rules;
        let is_web = url.starts_with("http://") || url.starts_with("https://");
        ensure!(is_web, "archive.timestamps.url: {url} is no http:// or https:// URL");
        let mut client = Client::builder()
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .user_agent("vestibule");
        if let Some(path) = ca_file {
            let what = || format!("archive.timestamps.ca_file: {}", path.display());
            let pem = fs::read(path).with_context(what)?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).with_context(what)?;
            client = client.tls_certs_merge(certificates);
        }
        let client = client.build().context("a client of the time-stamp authority")?;
        let interval = Duration::from_secs((*interval_s).max(1));
        Ok(Self { client, url: url.clone(), interval, archive, origin })
    }

    /// Has the newest checkpoint stamped, now and at each interval, for ever.
    pub(crate) async fn keep(self) {
        let mut pause = PAUSE_MIN;
        let mut told = false;
        loop {
            match self.stamp().await {
                Ok(stamped) => {
                    if let Some(size) = stamped {
                        info!(rows = size, url = self.url, "time-stamped");
                    }
                    (pause, told) = (PAUSE_MIN, false);
                    // Nothing is sealed yet: before long something is.
                    let wait = if stamped.is_some() {
                        self.interval
                    } else {
                        self.interval.min(PAUSE_MIN)
                    };
                    tokio::time::sleep(wait).await;
                }
                Err(error) => {
                    if !told {
                        warn!(error = format!("{error:#}"), url = self.url, "not time-stamped");
                    }
                    told = true;
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Stamps the newest checkpoint; `None` where there is none, or it is stamped.
    async fn stamp(&self) -> Result<Option<u64>> {
        let Some((note, says)) = continues::newest(&self.archive, &self.origin)? else {
            return Ok(None);
        };
        let folder = self.archive.join(layout::log_dir(&self.origin));
        let path = folder.join(layout::stamped(says.size));
        if path.exists() {
            return Ok(None);
        }
        let nonce = getrandom::u64().context("no random numbers")?;
        let query = timestamp::request(note.as_bytes(), nonce)?;
        let response = self.ask(query).await?;
        timestamp::read(&response, note.as_bytes(), Some(nonce))?;
        write(path, response).await?;
        Ok(Some(says.size))
    }

    async fn ask(&self, query: Vec<u8>) -> Result<Vec<u8>> {
        let asked = self.client.post(&self.url).header(CONTENT_TYPE, QUERY).body(query);
        let mut response = asked.send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await? {
            body.extend_from_slice(&part);
            if body.len() > RESPONSE_BYTES_MAX {
                bail!("its answer is longer than {RESPONSE_BYTES_MAX} bytes");
            }
        }
        Ok(body)
    }
}

async fn write(path: PathBuf, bytes: Vec<u8>) -> Result<()> {
    let write = move || {
        let shown = |path: &Path| path.display().to_string();
        files::write(&path, &bytes, 0o644).with_context(|| shown(&path))
    };
    tokio::task::spawn_blocking(write).await?
}
