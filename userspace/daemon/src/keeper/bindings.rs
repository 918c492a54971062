//! What agents' identities come from, and who is cut off: kept over restarts, or one would lift a cut.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use types::identity::{Identity, Subject};

/// Cuts kept: each about 200 B in memory and on disk, 13 MiB. One more is refused, loudly.
const CUTS_MAX: usize = 65_536;

/// How long a cut made by a logout is kept, in seconds: tokens that live longer are refused
/// ([`super::LIFE_S_MAX`]), and so is any from before it by then.
const KEPT_S: i64 = super::LIFE_S_MAX + 3_600;

/// All of it, as it is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bindings {
    /// By the agent's name and instance.
    pub(crate) agents: BTreeMap<String, Binding>,
    cuts: Vec<Cut>,
    /// The file is not as this is: it could not be written.
    #[serde(skip)]
    unkept: bool,
}

/// What one agent's identity comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Binding {
    /// The file that holds its token.
    pub(crate) token_file: Option<PathBuf>,
    /// The name of the `[[identity]]` that it acts by; never a token of it.
    #[serde(rename = "as")]
    pub(crate) identity: Option<String>,
    /// It came from a token that the agent showed, which is kept nowhere.
    pub(crate) presented: bool,
    /// The name and instance of the agent that it is inside of, with whose token its own is had.
    pub(crate) inside: Option<String>,
    /// The login of whoever started it, which it ends with; where it has no token of its own, it acts for that person.
    pub(crate) login: Option<String>,
    /// Who answers for it: `sub@issuer` by that login, or the word of whoever started it.
    pub(crate) owner: Option<String>,
}

/// Somebody who lost access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cut {
    /// The issuer; any where absent.
    pub(crate) idp: Option<String>,
    /// The issuer's key for the person, or the person's name; anybody in `session` where absent.
    pub(crate) subject: Option<String>,
    /// The session at the issuer; all where absent.
    pub(crate) session: Option<String>,
    /// Tokens issued later, in seconds since 1970 UTC, are not meant; all are where absent.
    pub(crate) before_s: Option<i64>,
    /// Why, in a fixed word.
    pub(crate) why: CutBy,
}

/// What cut somebody off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CutBy {
    /// The issuer said that they logged out.
    LoggedOut,
    /// An operator did.
    Revoked,
    /// The issuer said that the token holds no more.
    TokenRevoked,
}

impl CutBy {
    /// The word in records, and to agents.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::LoggedOut => "logged_out",
            Self::Revoked => "revoked",
            Self::TokenRevoked => "token_revoked",
        }
    }
}

impl Binding {
    /// Whether it says anything.
    pub(crate) fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// Why an agent that is enrolled with it acts for nobody until that was looked at.
    pub(crate) fn not_yet(&self) -> Option<&'static str> {
        self.is_given().then_some(super::NOT_YET)
    }

    /// Whether the agent acts by a token of its own.
    pub(crate) fn has_token(&self) -> bool {
        let Self { token_file, identity, inside, presented: _, login: _, owner: _ } = self;
        token_file.is_some() || identity.is_some() || inside.is_some()
    }
}

impl Cut {
    /// Whether an identity is meant: the person's own, by this or an earlier token.
    pub(crate) fn meets(&self, identity: &Identity) -> bool {
        let Some(Subject { user, idp, sub, token, .. }) = &identity.subject else { return false };
        let is_of = self.idp.as_deref().is_none_or(|wanted| *wanted == **idp);
        let is_who =
            self.subject.as_deref().is_none_or(|wanted| *wanted == **sub || *wanted == **user);
        // A token that names no session may be of any.
        let is_in = match (&self.session, &token.session) {
            (Some(wanted), Some(session)) => **wanted == **session,
            (Some(_), None) => self.subject.is_some(),
            (None, _) => true,
        };
        is_of && is_who && is_in && self.before_s.is_none_or(|before| token.issued_s <= before)
    }
}

impl Bindings {
    /// Reads what was kept; nothing where there is no file.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        match fs::read(path) {
            Ok(text) => {
                let what = || format!("{}: not as it was written", path.display());
                serde_json::from_slice(&text).with_context(what)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("{}", path.display())),
        }
    }

    /// Writes it, durably, in the place of what was there.
    pub(crate) fn store(&mut self, path: &Path) -> Result<()> {
        self.unkept = true;
        self.write(path)?;
        self.unkept = false;
        Ok(())
    }

    /// Writes it where it could not be written before; false where it still can't.
    pub(crate) fn store_again(&mut self, path: &Path) -> bool {
        !self.unkept || self.store(path).is_ok()
    }

    fn write(&self, path: &Path) -> Result<()> {
        let beside = path.with_extension("new");
        let mut file = File::create(&beside).with_context(|| format!("{}", beside.display()))?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        let dir = path.parent().context("a file in a directory")?;
        Ok(File::open(dir)?.sync_all()?)
    }

    /// Adds a cut; those that no token can meet any more go.
    pub(crate) fn cut(&mut self, cut: Cut, now_s: i64) -> Result<()> {
        self.cuts.retain(|one| one.before_s.is_none_or(|before| before + KEPT_S >= now_s));
        if self.cuts.contains(&cut) {
            return Ok(());
        }
        ensure!(self.cuts.len() < CUTS_MAX, "{CUTS_MAX} people are cut off: lift some");
        self.cuts.push(cut);
        Ok(())
    }

    /// Takes back what an operator cut; answers whether there was any.
    pub(crate) fn lift(&mut self, subject: &str, idp: Option<&str>) -> bool {
        let before = self.cuts.len();
        self.cuts.retain(|cut| {
            let is_meant = cut.why == CutBy::Revoked
                && cut.subject.as_deref() == Some(subject)
                && cut.idp.as_deref() == idp;
            !is_meant
        });
        self.cuts.len() < before
    }

    /// Why an identity does not count, where it does not.
    pub(crate) fn cut_of(&self, identity: &Identity) -> Option<CutBy> {
        self.cuts.iter().find(|cut| cut.meets(identity)).map(|cut| cut.why)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use types::identity::Token;

    use super::*;

    fn person(sub: &str, session: Option<&str>, issued_s: i64) -> Identity {
        let token = Token { session: session.map(Into::into), issued_s, ..Token::default() };
        let subject = Subject {
            user: format!("{sub}@bank.example").into(),
            idp: "https://idp.example".into(),
            sub: sub.into(),
            groups: Arc::default(),
            token: token.into(),
        };
        Identity { subject: Some(subject), ..Identity::default() }
    }

    fn logout(subject: Option<&str>, session: Option<&str>, before_s: i64) -> Cut {
        Cut {
            idp: Some("https://idp.example".into()),
            subject: subject.map(Into::into),
            session: session.map(Into::into),
            before_s: Some(before_s),
            why: CutBy::LoggedOut,
        }
    }

    #[test]
    fn a_logout_meets_the_tokens_of_before() {
        let all = logout(Some("carl"), None, 100);
        assert!(all.meets(&person("carl", None, 100)) && all.meets(&person("carl", Some("s"), 9)));
        assert!(!all.meets(&person("carl", None, 101)), "logged in again");
        assert!(!all.meets(&person("ada", None, 100)));
        let one = logout(None, Some("s1"), 100);
        assert!(one.meets(&person("carl", Some("s1"), 100)));
        assert!(!one.meets(&person("carl", Some("s2"), 100)));
        assert!(!one.meets(&person("carl", None, 100)), "nobody knows whose session it was");
        let both = logout(Some("carl"), Some("s1"), 100);
        assert!(both.meets(&person("carl", None, 100)), "its token names no session");
        assert!(!both.meets(&person("carl", Some("s2"), 100)));
        let elsewhere = Cut { idp: Some("https://other.example".into()), ..all };
        assert!(!elsewhere.meets(&person("carl", None, 1)));
        assert!(!one.meets(&Identity::default()));
    }

    #[test]
    fn what_was_cut_stays_cut_over_a_restart_until_it_is_lifted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identities.json");
        let mut bindings = Bindings::load(&path).unwrap();
        let subject = Some("carl@bank.example".to_owned());
        let cut = Cut { idp: None, subject, session: None, before_s: None, why: CutBy::Revoked };
        bindings.cut(cut, 0).unwrap();
        bindings.store(&path).unwrap();
        let mut bindings = Bindings::load(&path).unwrap();
        assert_eq!(bindings.cut_of(&person("carl", None, i64::MAX)), Some(CutBy::Revoked));
        assert!(!bindings.lift("carl", None) && bindings.lift("carl@bank.example", None));
        assert_eq!(bindings.cut_of(&person("carl", None, 1)), None);
    }

    #[test]
    fn cuts_that_no_token_can_meet_are_forgotten() {
        let mut bindings = Bindings::default();
        bindings.cut(logout(Some("carl"), None, 100), 100).unwrap();
        bindings.cut(logout(Some("ada"), None, 100 + KEPT_S), 100 + KEPT_S).unwrap();
        assert_eq!(bindings.cuts.len(), 2);
        bindings.cut(logout(Some("bob"), None, 1), 101 + KEPT_S).unwrap();
        assert_eq!(bindings.cuts.len(), 2);
    }

    #[test]
    fn a_damaged_file_is_no_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identities.json");
        fs::write(&path, "{").unwrap();
        assert!(Bindings::load(&path).is_err());
    }
}
