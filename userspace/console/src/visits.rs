//! People who are signed in by a browser, and sign-ins under way: in memory alone, so that a restart ends them.
//!
//! Of the names in cookies only digests are kept. A visit belongs to the browser that it began in: to a second cookie
//! that is older than it, and to how the browser calls itself. Who has copied one cookie has nothing; who has copied
//! all of them out of the browser and calls itself alike is not told apart, which is what the short life is for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use types::clock::Timestamp;

use crate::people::Asking;
use crate::random::{self, NoRandom, digest};

/// Visits at once, each about 400 B: 1.6 MiB.
const VISITS_MAX: usize = 4_096;

/// Visits of one person: one more ends the oldest.
const VISITS_OF_ONE_MAX: usize = 16;

/// Sign-ins under way, each about 500 B.
const UNDER_WAY_MAX: usize = 1_024;

/// How long one may take to type a password at the issuer.
const UNDER_WAY_LIFE: Duration = Duration::from_mins(10);

/// How long visits last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Since the person last did something.
    pub idle: Duration,
    /// At most.
    pub most: Duration,
}

/// A visit, as a request finds it.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    /// The login that it goes by.
    pub(crate) login: Arc<str>,
    /// What its forms carry.
    pub(crate) csrf: Arc<str>,
    /// The digest of its name.
    key: [u8; 32],
}

/// Why there is no visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoVisit {
    /// None by that name: never, or no more.
    None,
    /// It was idle for too long, or has lasted long enough; its login.
    Over(Arc<str>),
    /// Its name came from another browser, so it is over; its login.
    OtherBrowser(Arc<str>),
}

/// A browser: the name in its own cookie, and what it calls itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Browser<'a> {
    pub(crate) name: &'a str,
    pub(crate) agent: &'a str,
}

impl Browser<'_> {
    fn digest(self) -> [u8; 32] {
        digest(&format!("{}\n{}", self.name, self.agent))
    }
}

/// All visits, and sign-ins under way.
#[derive(Debug)]
pub(crate) struct Visits {
    life: Life,
    standing: Mutex<HashMap<[u8; 32], Standing>>,
    under_way: Mutex<HashMap<[u8; 32], UnderWay>>,
}

#[derive(Debug)]
struct Standing {
    login: Arc<str>,
    person: String,
    csrf: Arc<str>,
    browser: [u8; 32],
    began: Timestamp,
    used: Timestamp,
}

#[derive(Debug)]
struct UnderWay {
    asking: Asking,
    browser: [u8; 32],
    to: String,
    began: Timestamp,
}

impl Visits {
    pub(crate) fn new(life: Life) -> Self {
        Self { life, standing: Mutex::default(), under_way: Mutex::default() }
    }

    /// Enters a sign-in; false where too many are under way.
    pub(crate) fn ask(
        &self,
        asking: Asking,
        browser: Browser<'_>,
        to: String,
        now: Timestamp,
    ) -> bool {
        let mut under_way = lock(&self.under_way);
        under_way.retain(|_, one| is_within(one.began, now, UNDER_WAY_LIFE));
        if under_way.len() >= UNDER_WAY_MAX {
            return false;
        }
        let key = digest(&asking.state);
        let one = UnderWay { asking, browser: browser.digest(), to, began: now };
        under_way.insert(key, one);
        true
    }

    /// The sign-in that an answer is to, once, if it comes from the browser that began it; and where to go then.
    pub(crate) fn answered(
        &self,
        state: &str,
        browser: Browser<'_>,
        now: Timestamp,
    ) -> Option<(Asking, String)> {
        let one = lock(&self.under_way).remove(&digest(state))?;
        let UnderWay { asking, browser: its, to, began } = one;
        let is_its = its == browser.digest() && is_within(began, now, UNDER_WAY_LIFE);
        is_its.then_some((asking, to))
    }

    /// Begins a visit: the name for its cookie, and the logins that make room for it.
    pub(crate) fn begin(
        &self,
        login: &str,
        person: String,
        browser: Browser<'_>,
        now: Timestamp,
    ) -> Result<(String, Vec<Arc<str>>), NoRandom> {
        let (name, csrf) = (random::name()?, random::name()?.into());
        let mut standing = lock(&self.standing);
        let mut ended = Vec::new();
        standing.retain(|_, one| {
            let stays = self.stands(one, now);
            if !stays {
                ended.push(Arc::clone(&one.login));
            }
            stays
        });
        let own = |standing: &HashMap<_, Standing>| {
            standing.values().filter(|one| one.person == person).count()
        };
        while own(&standing) >= VISITS_OF_ONE_MAX {
            ended.extend(take_oldest(&mut standing, |one| one.person == person));
        }
        while standing.len() >= VISITS_MAX {
            ended.extend(take_oldest(&mut standing, |_| true));
        }
        let one = Standing {
            login: login.into(),
            person,
            csrf,
            browser: browser.digest(),
            began: now,
            used: now,
        };
        standing.insert(digest(&name), one);
        Ok((name, ended))
    }

    /// The visit of a name, for the browser that it began in; one that comes from another is over. What a page does
    /// by itself is no use of it.
    pub(crate) fn find(
        &self,
        name: &str,
        browser: Option<Browser<'_>>,
        is_use: bool,
        now: Timestamp,
    ) -> Result<Visit, NoVisit> {
        let key = digest(name);
        let mut standing = lock(&self.standing);
        let one = standing.get_mut(&key).ok_or(NoVisit::None)?;
        let over = if browser.map(Browser::digest) != Some(one.browser) {
            Some(NoVisit::OtherBrowser(Arc::clone(&one.login)))
        } else if !self.stands(one, now) {
            Some(NoVisit::Over(Arc::clone(&one.login)))
        } else {
            None
        };
        if let Some(over) = over {
            standing.remove(&key);
            return Err(over);
        }
        if is_use {
            one.used = now;
        }
        Ok(Visit { login: Arc::clone(&one.login), csrf: Arc::clone(&one.csrf), key })
    }

    /// Ends a visit.
    pub(crate) fn end(&self, visit: &Visit) {
        lock(&self.standing).remove(&visit.key);
    }

    fn stands(&self, one: &Standing, now: Timestamp) -> bool {
        is_within(one.began, now, self.life.most) && is_within(one.used, now, self.life.idle)
    }
}

fn take_oldest(
    standing: &mut HashMap<[u8; 32], Standing>,
    is_meant: impl Fn(&Standing) -> bool,
) -> Option<Arc<str>> {
    let meant = standing.iter().filter(|(_, one)| is_meant(one));
    let oldest = meant.min_by_key(|(_, one)| one.used.mono_ns).map(|(key, _)| *key)?;
    standing.remove(&oldest).map(|one| one.login)
}

fn is_within(from: Timestamp, now: Timestamp, life: Duration) -> bool {
    u128::from(now.us_since(from)) < life.as_micros()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use types::secret::Secret;

    use super::*;

    const LIFE: Life = Life { idle: Duration::from_mins(1), most: Duration::from_mins(5) };
    const OWN: Browser<'static> = Browser { name: "b", agent: "Mozilla" };

    fn at(seconds: u64) -> Timestamp {
        Timestamp { mono_ns: seconds * 1_000_000_000, unix_us: 0 }
    }

    fn begin(visits: &Visits, login: &str, person: &str, now: Timestamp) -> String {
        visits.begin(login, person.into(), OWN, now).unwrap().0
    }

    #[test]
    fn a_visit_is_of_one_browser() {
        let visits = Visits::new(LIFE);
        for other in [
            None,
            Some(Browser { name: "c", agent: "Mozilla" }),
            Some(Browser { name: "b", agent: "curl" }),
        ] {
            let name = begin(&visits, "l", "ann", at(0));
            assert!(visits.find(&name, Some(OWN), true, at(1)).is_ok());
            let found = visits.find(&name, other, true, at(1)).unwrap_err();
            assert_eq!(found, NoVisit::OtherBrowser("l".into()));
            let found = visits.find(&name, Some(OWN), true, at(1)).unwrap_err();
            assert_eq!(found, NoVisit::None, "whoever has the other one can't go on either");
        }
        assert_eq!(visits.find("forged", Some(OWN), true, at(1)).unwrap_err(), NoVisit::None);
    }

    #[test]
    fn a_visit_ends_by_idling_and_by_time() {
        let visits = Visits::new(LIFE);
        let name = begin(&visits, "l", "ann", at(0));
        assert!(visits.find(&name, Some(OWN), false, at(59)).is_ok());
        let idle = visits.find(&name, Some(OWN), true, at(61)).unwrap_err();
        assert_eq!(idle, NoVisit::Over("l".into()), "a page that asks by itself is no use");
        let name = begin(&visits, "l", "ann", at(0));
        for second in (30..300).step_by(30) {
            assert!(visits.find(&name, Some(OWN), true, at(second)).is_ok());
        }
        assert!(visits.find(&name, Some(OWN), true, at(300)).is_err());
        let name = begin(&visits, "l", "ann", at(0));
        let visit = visits.find(&name, Some(OWN), true, at(1)).unwrap();
        visits.end(&visit);
        assert!(visits.find(&name, Some(OWN), true, at(1)).is_err());
    }

    #[test]
    fn each_visit_has_names_of_its_own_and_one_person_few() {
        let visits = Visits::new(LIFE);
        let first = begin(&visits, "0", "ann", at(0));
        let csrf = visits.find(&first, Some(OWN), false, at(0)).unwrap().csrf;
        for number in 1..VISITS_OF_ONE_MAX {
            begin(&visits, &number.to_string(), "ann", at(1));
        }
        let other = begin(&visits, "b", "bob", at(0));
        assert_ne!(visits.find(&other, Some(OWN), false, at(1)).unwrap().csrf, csrf);
        let (_, ended) = visits.begin("x", "ann".into(), OWN, at(2)).unwrap();
        assert_eq!(ended, ["0".into()]);
        assert!(visits.find(&first, Some(OWN), false, at(2)).is_err());
        assert!(visits.find(&other, Some(OWN), false, at(2)).is_ok());
        let debug = format!("{visits:?}");
        assert!(!debug.contains(&first) && !debug.contains(&other));
    }

    #[test]
    fn an_answer_counts_once_and_in_the_browser_that_asked() {
        let visits = Visits::new(LIFE);
        let asking = |state: &str| Asking {
            redirect_uri: "https://console.bank.example/signed-in".into(),
            state: state.into(),
            nonce: "n".into(),
            verifier: Secret::new("v".into()),
        };
        let other = Browser { name: "c", agent: "Mozilla" };
        for (state, browser, second, counts) in
            [("a", OWN, 1, true), ("b", other, 1, false), ("c", OWN, 601, false)]
        {
            assert!(visits.ask(asking(state), OWN, "/".into(), at(0)));
            assert_eq!(visits.answered(state, browser, at(second)).is_some(), counts, "{state}");
            assert!(visits.answered(state, OWN, at(1)).is_none(), "{state}: again");
        }
        for number in 0..UNDER_WAY_MAX {
            assert!(visits.ask(asking(&number.to_string()), OWN, "/".into(), at(0)));
        }
        assert!(!visits.ask(asking("more"), OWN, "/".into(), at(1)));
        assert!(visits.ask(asking("more"), OWN, "/".into(), at(601)), "the others are over");
    }
}
