//! `[hub]`: where people of several hosts answer, beside this host's own ways.

pub(crate) mod here;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hub::client::{Address, Credentials};
use hub::link::{Link, LinkRules, LinkStatus};
use proxy::door::Door;
use schemars::JsonSchema;
use serde::Deserialize;
use types::control::{Check, HubStanding, Verdict};

use crate::tls;
use here::Here;

/// Hubs: a list that is gone through within a minute when none is there.
const HUBS_MAX: usize = 16;

/// The hub that this host tells what waits for approval, and whose votes it takes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HubRule {
    /// `https://HOST:PORT` of each of its replicas; the next one is asked when one fails.
    urls: Vec<String>,
    /// This host's certificate, PEM: one of its alternative names (DNS) is the node's name. Read anew for each connection.
    certificate: PathBuf,
    /// Its key, PEM, for root's eyes only.
    pub(crate) key: PathBuf,
    /// The authorities that may have signed the hubs' certificates, PEM.
    ca: PathBuf,
}

impl HubRule {
    /// Checks what it says; `node` is this host.
    pub(crate) fn check(&self, node: &str) -> Result<()> {
        self.rules(node).map(drop).context("hub")
    }

    fn rules(&self, node: &str) -> Result<LinkRules> {
        let Self { urls, certificate, key, ca } = self;
        ensure!((1..=HUBS_MAX).contains(&urls.len()), "urls: from 1 to {HUBS_MAX}");
        let hubs = urls.iter().map(|url| Address::new(url)).collect::<Result<_, _>>();
        let is_name = !node.is_empty()
            && node.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        ensure!(is_name, "node: `{node}` is in no certificate; letters, digits, `-`, `.` and `_`");
        tls::private(key)?;
        hub::tls::host(certificate, key, ca)?;
        let credentials =
            Credentials { certificate: certificate.clone(), key: key.clone(), hubs_ca: ca.clone() };
        Ok(LinkRules { node: node.to_owned(), hubs: hubs.context("urls")?, credentials })
    }
}

/// The link, where the configuration has a hub; nothing runs yet.
pub(crate) fn prepare(
    rule: Option<&HubRule>,
    node: &str,
    door: &Door,
) -> Result<Option<Arc<Link>>> {
    let Some(rule) = rule else { return Ok(None) };
    let rules = rule.rules(node).context("hub")?;
    let approvals = Arc::clone(&door.approvals);
    let here = Here { approvals, recorder: door.recorder.clone() };
    Ok(Some(Arc::new(Link::new(rules, Arc::new(here), Arc::clone(&door.clock)))))
}

/// How it is, for `vestibule status`.
pub(crate) fn standing(link: &Link) -> HubStanding {
    let LinkStatus { hub, name, since_us, backlog, votes, error } = link.status();
    let named = |hub| name.map_or_else(|| String::clone(&hub), |name| format!("{hub} ({name})"));
    let backlog = u64::try_from(backlog).unwrap_or(u64::MAX);
    HubStanding { hub: hub.clone().map(named), since_us, backlog, votes, error }
}

/// How it is, for `vestibule doctor`.
pub(crate) fn check(link: &Link, now_us: i64) -> Check {
    let HubStanding { hub, since_us, backlog, votes: _, error } = standing(link);
    let for_s = now_us.saturating_sub(since_us) / 1_000_000;
    let (verdict, detail) = match (hub, error) {
        (Some(hub), _) => {
            (Verdict::Ok, format!("{hub} since {for_s} s, {backlog} requests to tell"))
        }
        (None, error) => {
            let why = error.unwrap_or_else(|| "none answered yet".into());
            let told = format!(
                "none reached for {for_s} s ({why}): what is asked here can be answered on this host alone"
            );
            (Verdict::Fail, told)
        }
    };
    Check { name: "approval hub".into(), verdict, detail }
}
