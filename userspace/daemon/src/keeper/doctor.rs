//! How issuers stand, for `vestibule doctor`.

use types::control::{Check, Verdict};

use super::Keeper;

impl Keeper {
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
                let Some(client) = self.clients.get(url) else { continue };
                let secret = match client.get().await {
                    Ok(_) => (Verdict::Ok, "its secret is there".to_owned()),
                    Err(error) => (Verdict::Fail, format!("{error:#}")),
                };
                checks.push(check(&format!("client at {url}"), secret));
            }
            checks
        })
    }
}

fn check(name: &str, (verdict, detail): (Verdict, String)) -> Check {
    Check { name: name.into(), verdict, detail }
}
