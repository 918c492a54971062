//! Issuers at work: their keys kept, their tokens judged.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;
use types::clock::Timestamp;
use types::secret::Secret;

use super::compact::Compact;
use super::discovery::{self, DiscoveryError, Metadata};
use super::http::{Http, HttpError};
use super::issuer::{Issuer, IssuerError};
use super::keys::{self, KeySet};
use super::logout::{self, Logout, Replays};
use super::token::{self, Kind, TokenError, Verified};

/// Issuers of one daemon: a bank has one or two, and one of each contractor.
pub const PROVIDERS_MAX: usize = 64;

/// One issuer: what it has said of itself is kept, and fetched again when it is old or a key is not in it.
#[derive(Debug)]
pub struct Provider {
    issuer: Issuer,
    pub(super) http: Http,
    known: RwLock<Option<Arc<Known>>>,
    fetching: Mutex<Fetching>,
    replays: Replays,
}

/// What an issuer said last.
#[derive(Debug)]
struct Known {
    metadata: Metadata,
    keys: KeySet,
    at: Timestamp,
}

/// How the last attempt to fetch went.
#[derive(Debug, Default)]
struct Fetching {
    at: Option<Timestamp>,
    failed: Option<TokenError>,
}

/// Why there is no provider.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The configuration can't be meant.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The way to it can't be set up.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Two have one issuer, or there are more than [`PROVIDERS_MAX`].
    #[error("an issuer is configured twice, or there are more than 64")]
    Providers,
}

/// How the keys of an issuer stand, for whoever looks after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Keys that can be used.
    pub keys: usize,
    /// How old they are, seconds; none if they were never had.
    pub age_s: Option<u64>,
    /// Whether they are accepted, by their age.
    pub stands: bool,
    /// Why the last fetch failed.
    pub failed: Option<TokenError>,
}

impl Provider {
    /// An issuer that nothing was fetched from yet.
    ///
    /// # Errors
    /// If the configuration can't be meant, or nobody would be trusted.
    pub fn new(issuer: Issuer) -> Result<Self, ProviderError> {
        issuer.check()?;
        let http = Http::new(issuer.ca_file.as_deref(), issuer.timeouts)?;
        Ok(Self {
            issuer,
            http,
            known: RwLock::default(),
            fetching: Mutex::default(),
            replays: Replays::default(),
        })
    }

    /// Its configuration.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// If it can't be reached or believed, and what it said last stands no longer.
    pub async fn metadata(&self, now: Timestamp) -> Result<Metadata, TokenError> {
        Ok(self.known(None, now).await?.metadata.clone())
    }

    /// Fetches what will soon be old: called more often than a fifth of [`super::KeyLimits::fresh`], no token waits
    /// for keys that are there. The calls themselves are what notices first that an issuer is away.
    ///
    /// # Errors
    /// Why there was nothing to be had now.
    pub async fn tend(&self, now: Timestamp) -> Result<(), TokenError> {
        let soon_us = self.issuer.keys.fresh.as_micros() / 5 * 4;
        let is_young = |known: &Known| u128::from(now.us_since(known.at)) < soon_us;
        let mut fetching = self.fetching.lock().await;
        if !self.current().is_some_and(|known| is_young(&known)) && self.is_due(&fetching, now) {
            fetching.at = Some(now);
            fetching.failed = self.fetch(now).await.err();
        }
        fetching.failed.map_or(Ok(()), Err)
    }

    /// How its keys stand.
    pub async fn standing(&self, now: Timestamp) -> Standing {
        let known = self.current();
        Standing {
            keys: known.as_ref().map_or(0, |known| known.keys.len()),
            age_s: known.as_ref().map(|known| now.us_since(known.at) / 1_000_000),
            stands: known.is_some_and(|known| self.stands(&known, now)),
            failed: self.fetching.lock().await.failed,
        }
    }

    /// What a token says, if it is this issuer's, for us, of this kind, and stands now.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn verify(
        &self,
        token: &Secret<String>,
        kind: Kind,
        now: Timestamp,
    ) -> Result<Verified, TokenError> {
        self.verify_read(&Compact::read(token.expose())?, kind, now).await
    }

    /// Who has logged out, by a logout token that is this issuer's, for us, stands now and was not here before.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn logout(
        &self,
        token: &Secret<String>,
        now: Timestamp,
    ) -> Result<Logout, TokenError> {
        self.logout_read(&Compact::read(token.expose())?, now).await
    }

    async fn verify_read(
        &self,
        compact: &Compact<'_>,
        kind: Kind,
        now: Timestamp,
    ) -> Result<Verified, TokenError> {
        if kind == Kind::LogoutToken {
            return Err(TokenError::WrongKind);
        }
        self.authenticate(compact, kind, now).await?;
        token::judge(compact, &self.issuer, now)
    }

    async fn logout_read(
        &self,
        compact: &Compact<'_>,
        now: Timestamp,
    ) -> Result<Logout, TokenError> {
        self.authenticate(compact, Kind::LogoutToken, now).await?;
        let (logout, until_s) = logout::judge(compact, &self.issuer, now)?;
        self.replays.take(&logout, until_s, now)?;
        Ok(logout)
    }

    /// Whether the issuer has signed it.
    async fn authenticate(
        &self,
        compact: &Compact<'_>,
        kind: Kind,
        now: Timestamp,
    ) -> Result<(), TokenError> {
        token::precheck(compact, &self.issuer, kind)?;
        let known = self.known(Some(&compact.header.key), now).await?;
        let key = known.keys.get(&compact.header.key).ok_or(TokenError::UnknownKey)?;
        token::check_signature(compact, key)
    }

    /// What the issuer said last, with a key in it if there is one; fetched again where that is due.
    async fn known(&self, kid: Option<&str>, now: Timestamp) -> Result<Arc<Known>, TokenError> {
        let has_key = |known: &Known| kid.is_none_or(|kid| known.keys.get(kid).is_some());
        let current = self.current().filter(|known| self.stands(known, now) && has_key(known));
        let mut fetching = match current {
            Some(known) if self.is_fresh(&known, now) => return Ok(known),
            // Nobody waits for a fetch whose outcome changes nothing for them.
            Some(known) => match self.fetching.try_lock() {
                Ok(fetching) => fetching,
                Err(_) => return Ok(known),
            },
            None => self.fetching.lock().await,
        };
        // Whoever had the lock before may have brought it.
        let is_there =
            self.current().is_some_and(|known| self.is_fresh(&known, now) && has_key(&known));
        if !is_there && self.is_due(&fetching, now) {
            fetching.at = Some(now);
            fetching.failed = self.fetch(now).await.err();
        }
        let failed = fetching.failed;
        drop(fetching);
        match self.current().filter(|known| self.stands(known, now)) {
            Some(known) if has_key(&known) => Ok(known),
            // With an issuer that can't be asked, nobody knows whether the key is a new one.
            Some(_) => Err(failed.unwrap_or(TokenError::UnknownKey)),
            None => Err(failed.unwrap_or(TokenError::IssuerUnreachable)),
        }
    }

    async fn fetch(&self, now: Timestamp) -> Result<(), TokenError> {
        let metadata = discovery::fetch(&self.issuer, &self.http).await;
        let metadata = metadata.map_err(|error: DiscoveryError| TokenError::from(&error))?;
        let keys = keys::fetch(&metadata.jwks, &self.http).await;
        let keys = keys.map_err(|error| TokenError::from(&error))?;
        let known = Arc::new(Known { metadata, keys, at: now });
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(())
    }

    /// Whether enough time has gone by since the last attempt.
    fn is_due(&self, fetching: &Fetching, now: Timestamp) -> bool {
        let gap_us = self.issuer.keys.refetch_gap.as_micros();
        fetching.at.is_none_or(|at| u128::from(now.us_since(at)) >= gap_us)
    }

    fn current(&self) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_fresh(&self, known: &Known, now: Timestamp) -> bool {
        u128::from(now.us_since(known.at)) < self.issuer.keys.fresh.as_micros()
    }

    fn stands(&self, known: &Known, now: Timestamp) -> bool {
        u128::from(now.us_since(known.at)) < self.issuer.keys.stale_max.as_micros()
    }
}

/// Every configured issuer.
#[derive(Debug, Default)]
pub struct Providers {
    providers: Vec<Arc<Provider>>,
}

impl Providers {
    /// Takes them together.
    ///
    /// # Errors
    /// If two have one issuer, or there are too many.
    pub fn new(providers: Vec<Arc<Provider>>) -> Result<Self, ProviderError> {
        let is_twice = |(n, one): (usize, &Arc<Provider>)| {
            providers.iter().take(n).any(|other| other.issuer.url == one.issuer.url)
        };
        if providers.len() > PROVIDERS_MAX || providers.iter().enumerate().any(is_twice) {
            return Err(ProviderError::Providers);
        }
        Ok(Self { providers })
    }

    /// The one with an identifier.
    pub fn get(&self, issuer: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.issuer.url == issuer)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter()
    }

    /// As [`Provider::verify`], with the issuer that the token names.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn verify(
        &self,
        token: &Secret<String>,
        kind: Kind,
        now: Timestamp,
    ) -> Result<Verified, TokenError> {
        let compact = Compact::read(token.expose())?;
        self.of(&compact)?.verify_read(&compact, kind, now).await
    }

    /// As [`Provider::logout`], with the issuer that the token names.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn logout(
        &self,
        token: &Secret<String>,
        now: Timestamp,
    ) -> Result<Logout, TokenError> {
        let compact = Compact::read(token.expose())?;
        self.of(&compact)?.logout_read(&compact, now).await
    }

    fn of(&self, compact: &Compact<'_>) -> Result<&Arc<Provider>, TokenError> {
        compact.issuer().and_then(|issuer| self.get(issuer)).ok_or(TokenError::WrongIssuer)
    }
}
