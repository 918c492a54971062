//! How issuers stand, for `vestibule doctor`.

use types::control::{Check, Verdict};

use super::Keeper;
use super::client::OwnClient;

impl Keeper {
    /// Questions to issuers about tokens so far, and how many of them went without an answer.
    pub(crate) fn introspections(&self) -> (u64, u64) {
        self.introspection.counts()
    }

    /// How each issuer's keys and the daemon's own client there stand. May block.
    pub(crate) fn checks(&self) -> Vec<Check> {
        tokio::runtime::Handle::current().block_on(async {
            let mut checks = Vec::new();
            for provider in self.providers.iter() {
                let url = &provider.issuer().url;
                let standing = provider.standing(self.clock.now()).await;
                let keys = match (standing.stands, standing.failed) {
                    (true, None) => (Verdict::Ok, format!("{} keys count", standing.keys)),
                    (true, Some(why)) => {
                        let why = why.reason();
                        (Verdict::Warn, format!("its keys count until their limit: {why}"))
                    }
                    (false, why) => {
                        let why = why.map_or("not asked yet", |why| why.reason());
                        (Verdict::Fail, format!("none of its tokens counts: {why}"))
                    }
                };
                checks.push(check(&format!("issuer {url}"), keys));
                let asked = self.says_of_tokens(url);
                checks.extend(asked.map(|said| check(&format!("introspection at {url}"), said)));
                let Some(client) = self.clients.get(url) else { continue };
                checks.push(check(&format!("client at {url}"), secret(client).await));
            }
            for one in &self.obtained {
                checks.push(check(&format!("identity {}", one.name()), one.checked().await));
            }
            checks
        })
    }

    /// Whether an issuer says of its tokens whether they stand, where it is asked.
    fn says_of_tokens(&self, issuer: &str) -> Option<(Verdict, String)> {
        let rule = self.introspection.rule(issuer)?;
        let (tokens, others) = (self.tokens.of(issuer).len(), self.tokens.by_id_token(issuer));
        let (interval, grace) = (rule.interval.as_secs(), rule.grace.as_secs());
        Some(match self.introspection.failed(issuer) {
            Some("unsupported_token_type") => {
                let told = "it keeps no account of its access tokens (unsupported_token_type): none of them \
                            counts while introspect_interval_s is set";
                (Verdict::Fail, told.to_owned())
            }
            Some(why) => {
                let told = format!(
                    "it does not say ({why}): {tokens} tokens end {grace} s after its last word"
                );
                (Verdict::Fail, told)
            }
            None if others > 0 => {
                let told = format!(
                    "{others} agents act by ID tokens, of which no issuer says whether they stand"
                );
                (Verdict::Warn, told)
            }
            None => (Verdict::Ok, format!("asked about {tokens} tokens every {interval} s")),
        })
    }
}

/// Whether a client's secret is there.
pub(super) async fn secret(client: &OwnClient) -> (Verdict, String) {
    match client.get().await {
        Ok(_) => (Verdict::Ok, "its secret is there".to_owned()),
        Err(error) => (Verdict::Fail, format!("{error:#}")),
    }
}

fn check(name: &str, (verdict, detail): (Verdict, String)) -> Check {
    Check { name: name.into(), verdict, detail }
}
