//! Who answers a request for approval: a person, by a login on this host or by a token.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use approval::Approver;
use types::identity::{Identity, Subject};

use super::{Keeper, ends};
use crate::asker::HostUser;

impl Keeper {
    /// Whether anybody's token counts here.
    pub(crate) fn knows_people(&self) -> bool {
        self.providers.iter().next().is_some()
    }

    /// Who somebody on this host is by a login: root is nobody without.
    ///
    /// # Errors
    /// If nobody is logged in, or that counts no more.
    pub(crate) fn voter(&self, person: HostUser) -> Result<Approver> {
        let login = self.logins.of(person).with_context(|| {
            format!("{person}: nobody is logged in: `vestibule login` first, or --token-file; root alone is nobody")
        })?;
        let proven = login.proven.now();
        let ended = proven.raw.as_ref().and_then(|raw| raw.ended());
        let is_over = ends(&proven.identity) <= self.clock.now().unix_us;
        let why = ended.or(is_over.then_some("expired"));
        ensure!(why.is_none(), "the login does not count: {}", why.unwrap_or_default());
        approver(&proven.identity)
    }

    /// Who somebody is by the token in a file. May block.
    ///
    /// # Errors
    /// If it does not count.
    pub(crate) fn voter_by_token(&self, file: &Path) -> Result<Approver> {
        ensure!(file.is_absolute(), "the token file's path must be absolute");
        let runtime = tokio::runtime::Handle::current();
        let proven = runtime.block_on(self.identity(file.to_owned()));
        let proven = proven.map_err(|refused| {
            anyhow::anyhow!("the token in {} does not count: {}", file.display(), refused.as_str())
        })?;
        approver(&proven.now().identity)
    }
}

/// A person: nobody who acts for one, and no program.
fn approver(identity: &Identity) -> Result<Approver> {
    let subject = identity.subject.as_ref().context("the token names nobody")?;
    ensure!(identity.actors.is_empty(), "the token says that somebody acts for {}", subject.user);
    let Subject { user, idp, sub, groups, token } = subject;
    // RFC 9068 §2.2: the subject of a token that a client got for itself is the client.
    ensure!(token.client.as_ref() != Some(sub), "the token is a program's: {sub}");
    let text = |text: &Arc<str>| text.as_ref().to_owned();
    Ok(Approver {
        idp: text(idp),
        sub: text(sub),
        user: text(user),
        groups: groups.iter().map(text).collect(),
    })
}

#[cfg(test)]
mod tests {
    use types::identity::{Actor, Token};

    use super::*;

    fn identity(client: Option<&str>, actors: &[&str]) -> Identity {
        let token = Token { client: client.map(Into::into), ..Token::default() };
        let subject = Subject {
            user: "Ann".into(),
            idp: "https://idp.example".into(),
            sub: "ann".into(),
            groups: ["dba".into()].into(),
            token: token.into(),
        };
        let actor = |sub: &&str| Actor {
            idp: "https://idp.example".into(),
            sub: (*sub).into(),
            client: None,
        };
        Identity { subject: Some(subject), actors: actors.iter().map(actor).collect(), owner: None }
    }

    #[test]
    fn people_vote_and_nobody_in_their_place() {
        let ann = approver(&identity(Some("vestibule"), &[])).unwrap();
        assert_eq!(
            (ann.key().as_str(), &*ann.groups),
            ("ann@https://idp.example", &["dba".to_owned()][..])
        );
        for (identity, why) in [
            (identity(Some("ann"), &[]), "a program's"),
            (identity(None, &["bot"]), "acts for Ann"),
            (Identity::default(), "names nobody"),
        ] {
            let error = approver(&identity).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
