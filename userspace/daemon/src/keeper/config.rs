//! `[[issuer]]` and `[logout]`: whose tokens count, and where issuers say that somebody logged out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use identity::oidc::{AccessTokenTyp, Algorithm, ClaimPath, Issuer, Provider, Providers};
use schemars::JsonSchema;
use serde::Deserialize;

use super::client::{ClientRule, OwnClient};
use super::exchange::{Exchange, ExchangeRule};
use super::introspection::{self, Introspection};
use super::obtained::{self, IdentityRule};
use crate::secret::{Place, Stores};

/// An OpenID Connect issuer whose tokens say whom agents act for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerRule {
    /// Its identifier, to the byte what `iss` says; https, or http on this host.
    url: String,
    /// Audiences of which a token must name one: the API that access tokens are for, the client that ID tokens are
    /// for, and the client that logouts are told to.
    audiences: Vec<String>,
    /// Clients that tokens may have been issued to; any that had one for the audiences where absent.
    #[serde(default)]
    clients: Vec<String>,
    /// Signature algorithms: RS256, ES256, EdDSA where absent.
    #[serde(default)]
    algorithms: Vec<String>,
    /// What the header of its access tokens says: `at+jwt` (RFC 9068), which is so where absent, or `JWT`, as
    /// Keycloak's do, with `Bearer` for the claim `typ`.
    access_token_typ: Option<String>,
    /// The claim with the person's groups, `.` between the parts of a nested one; `groups` where absent.
    groups_claim: Option<String>,
    /// The claim with the name to read; `name` where absent.
    name_claim: Option<String>,
    /// Seconds that its clock and ours may differ by, at most 300; 60 where absent.
    clock_skew_s: Option<u64>,
    /// Certificates (PEM) of authorities to trust beside the system's.
    ca_file: Option<PathBuf>,
    /// The daemon's own client there.
    client: Option<ClientRule>,
    /// Seconds, 1 to 3600, after which it is asked again whether an access token that agents act by stands (RFC 7662);
    /// it is not asked where absent. Needs `client`.
    introspect_interval_s: Option<u64>,
    /// Seconds, at most 86400, that tokens count without its word; five times the interval where absent.
    introspect_grace_s: Option<u64>,
    /// What it is asked for when an agent that acts by its token starts another (RFC 8693): a token for that one, which
    /// is not started without. Needs `client`; the inner agent acts by the outer one's where absent.
    exchange: Option<ExchangeRule>,
}

/// Where issuers say that somebody logged out (OpenID Connect Back-Channel Logout 1.0).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Logout {
    /// The address to listen at, of this host alone: what ends TLS stands before it. Nobody listens where absent.
    pub(crate) listen: Option<SocketAddr>,
}

impl Logout {
    /// An error where tokens of others could be read on their way.
    pub(crate) fn check(&self) -> Result<()> {
        let is_local = self.listen.is_none_or(|addr| addr.ip().is_loopback());
        ensure!(is_local, "logout: listen: an address of this host alone, such as 127.0.0.1:9181");
        Ok(())
    }
}

impl IssuerRule {
    /// Its identifier.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Checks what it says, without asking anybody; `has_vault` where there is one.
    fn check(&self, has_vault: bool) -> Result<()> {
        self.issuer()?.check()?;
        let is_asked = self.introspection()?.is_some();
        ensure!(!is_asked || self.client.is_some(), "introspect_interval_s: needs a client");
        if let Some(exchange) = &self.exchange {
            ensure!(self.client.is_some(), "exchange: needs a client");
            exchange.check(&self.audiences).context("exchange")?;
        }
        self.client.as_ref().map_or(Ok(()), |client| client.check(has_vault)).context("client")
    }

    fn introspection(&self) -> Result<Option<introspection::Rule>> {
        introspection::Rule::of(self.introspect_interval_s, self.introspect_grace_s)
    }

    fn issuer(&self) -> Result<Issuer> {
        let mut issuer = Issuer::new(&self.url, self.audiences.clone());
        issuer.authorized_parties.clone_from(&self.clients);
        if !self.algorithms.is_empty() {
            let named = self.algorithms.iter().map(|name| {
                Algorithm::named(name).with_context(|| format!("algorithms: `{name}` is not taken"))
            });
            issuer.algorithms = named.collect::<Result<_>>()?;
        }
        issuer.access_token_typ = match self.access_token_typ.as_deref() {
            None | Some("at+jwt") => AccessTokenTyp::AtJwt,
            Some("JWT") => AccessTokenTyp::Jwt,
            Some(other) => bail!("access_token_typ: at+jwt or JWT, not `{other}`"),
        };
        if let Some(claim) = &self.groups_claim {
            issuer.groups = ClaimPath::parse(claim);
        }
        if let Some(claim) = &self.name_claim {
            issuer.name = ClaimPath::parse(claim);
        }
        if let Some(skew) = self.clock_skew_s {
            issuer.clock_skew_s = skew;
        }
        issuer.ca_file.clone_from(&self.ca_file);
        Ok(issuer)
    }
}

/// The issuers; nothing is fetched from them yet.
pub(super) struct Issuers {
    /// Their keys, and what judges their tokens.
    pub(super) providers: Providers,
    /// The daemon's own client at each that it has one at.
    pub(super) clients: HashMap<String, OwnClient>,
    /// Those that are asked about their tokens.
    pub(super) introspection: Introspection,
    /// Those that are asked for tokens of inner agents.
    pub(super) exchange: Exchange,
}

impl Issuers {
    /// Those of the configuration, with secrets from these stores.
    pub(super) fn open(rules: &[IssuerRule], stores: Stores<'_>) -> Result<Self> {
        let (mut providers, mut clients) = (Vec::new(), HashMap::new());
        let (mut asked, mut exchanged) = (HashMap::new(), HashMap::new());
        for rule in rules {
            let context = || format!("issuer `{}`", rule.url);
            let provider = rule.issuer().and_then(|issuer| Ok(Provider::new(issuer)?));
            providers.push(Arc::new(provider.with_context(context)?));
            if let Some(introspection) = rule.introspection().with_context(context)? {
                asked.insert(rule.url.clone(), introspection);
            }
            if let Some(exchange) = &rule.exchange {
                exchanged.insert(rule.url.clone(), exchange.clone());
            }
            if let Some(client) = &rule.client {
                let own = client.own(stores).context("client").with_context(context)?;
                clients.insert(rule.url.clone(), own);
            }
        }
        let introspection = Introspection::new(asked);
        let (providers, exchange) = (Providers::new(providers)?, Exchange::new(exchanged));
        Ok(Self { providers, clients, introspection, exchange })
    }
}

/// What the configuration says of identities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'c> {
    /// `[[issuer]]`.
    pub(crate) issuers: &'c [IssuerRule],
    /// `[[identity]]`.
    pub(crate) identities: &'c [IdentityRule],
}

impl<'c> Rules<'c> {
    /// Checks it without asking anybody; `has_vault` where there is one.
    pub(crate) fn check(self, has_vault: bool) -> Result<()> {
        self.issuers.iter().try_for_each(|rule| {
            rule.check(has_vault).with_context(|| format!("issuer `{}`", rule.url))
        })?;
        obtained::check(self.identities, self.issuers, has_vault)
    }

    /// Whether the daemon has a client at that issuer.
    pub(crate) fn has_client(self, url: &str) -> bool {
        self.issuers.iter().any(|rule| rule.url == url && rule.client.is_some())
    }

    /// Whether tokens of that issuer may be for this audience.
    pub(crate) fn has_audience(self, url: &str, audience: &str) -> bool {
        let of = self.issuers.iter().find(|rule| rule.url == url);
        of.is_some_and(|rule| rule.audiences.iter().any(|known| known == audience))
    }

    /// The names of each `[[identity]]`.
    pub(crate) fn names(self) -> Vec<&'c str> {
        self.identities.iter().map(IdentityRule::name).collect()
    }

    /// Where the secrets of clients are said to be.
    pub(crate) fn places(self) -> impl Iterator<Item = Place<'c>> {
        let own = self.issuers.iter().filter_map(|rule| rule.client.as_ref()?.place());
        own.chain(obtained::places(self.identities))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        issuer: Vec<IssuerRule>,
    }

    #[test]
    fn mistakes_are_named() {
        let told = |more: &str| {
            let text = format!("[[issuer]]\nurl='https://v'\naudiences=['a']\n{more}");
            let File { issuer } = toml::from_str(&text).unwrap();
            let rules = Rules { issuers: &issuer, identities: &[] };
            rules.check(false).map_or_else(|error| format!("{error:#}"), |()| "ok".to_owned())
        };
        assert_eq!(told("client={id='a'}\nintrospect_interval_s=5"), "ok");
        for (more, wanted) in [
            ("client={id='',secret_env='X'}", "client: id"),
            ("client={id='a',secret_env='X',secret_file='/x'}", "one of secret_file"),
            ("client={id='a',secret_vault={path='b'}}", "there is no [vault]"),
            ("introspect_interval_s=5", "needs a client"),
            ("client={id='a'}\nintrospect_interval_s=0", "introspect_interval_s: from 1"),
            ("introspect_grace_s=5", "introspect_grace_s"),
            ("access_token_typ='jwt'", "access_token_typ: at+jwt or JWT"),
            ("exchange={}", "exchange: needs a client"),
            ("client={id='a'}\nexchange={resource='b'}", "exchange: resource: one of"),
        ] {
            let told = told(more);
            assert!(told.contains(wanted), "{told}");
        }
    }
}
