//! Who people are: what the console asks of whoever knows issuers and their tokens.

use approval::desk::Later;
use types::identity::Subject;
use types::secret::Secret;

/// Who people and programs are, by their issuers.
pub trait People: Send + Sync {
    /// Where a browser goes to sign in.
    fn ask<'a>(&'a self, asking: &'a Asking) -> Later<'a, Result<String, Unproven>>;

    /// Who comes back from there with this code. The login stands until [`People::forget`], or its issuer says no
    /// more; `iss` is what the answer says of itself (RFC 9207).
    fn came_back<'a>(
        &'a self,
        asking: &'a Asking,
        code: Secret<String>,
        iss: Option<String>,
    ) -> Later<'a, Result<(Box<str>, Subject), Unproven>>;

    /// Who a login is of now, groups included.
    ///
    /// # Errors
    /// Why it stands no longer.
    fn now<'a>(&'a self, login: &'a str) -> Later<'a, Result<Subject, Unproven>>;

    /// Forgets a login.
    fn forget(&self, login: &str);

    /// Whose an access token (RFC 9068) of a program's request is.
    fn caller(&self, token: Secret<String>) -> Later<'_, Result<Caller, Unproven>>;
}

/// A sign-in under way; all of it is random and good for one answer.
#[derive(Clone, Debug)]
pub struct Asking {
    /// Where the browser comes back to, to the byte as it is registered.
    pub redirect_uri: String,
    /// What the answer must carry (RFC 6749 §10.12).
    pub state: String,
    /// What the ID token must carry (OpenID Connect Core 1.0 §3.1.2.1).
    pub nonce: String,
    /// What the code is exchanged with (RFC 7636).
    pub verifier: Secret<String>,
}

/// Who calls with an access token.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Whom the token speaks of.
    pub subject: Subject,
    /// Its audiences.
    pub audiences: Vec<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Somebody acts with it for the person (RFC 8693 `act`).
    pub is_delegated: bool,
}

/// Why nobody is proven: a fixed word, and whether it may be otherwise later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unproven {
    /// The word for the record.
    pub why: &'static str,
    /// The issuer could not be asked.
    pub may_pass: bool,
}
