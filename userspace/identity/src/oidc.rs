//! OpenID Connect and OAuth 2.0, as far as a token has to be judged or had: who a token speaks of, and whether it
//! still stands.
//!
//! [`Provider`] is one configured issuer: its keys, its endpoints, its tokens. [`Providers`] are all of them, and
//! find the issuer of a token. Nothing here reads a clock or knows agents and sessions. Whatever comes from
//! outside is bounded before it is decoded, and what is not understood is refused; a refusal is one word for the
//! record and never holds any part of a token.

mod actor;
pub mod authorization_code;
mod claims;
pub mod client;
pub mod client_credentials;
mod compact;
pub mod device;
pub mod discovery;
pub mod exchange;
pub mod http;
pub mod introspection;
pub mod issuer;
mod json;
pub mod keys;
pub mod logout;
pub mod presented;
pub mod provider;
pub mod refresh;
pub mod revocation;
pub mod token;
pub mod tokens;
mod typ;

pub use client::Client;
pub use compact::TOKEN_BYTES_MAX;
pub use issuer::{Algorithm, ClaimPath, Issuer, KeyLimits, Timeouts};
pub use logout::{Logout, Replays};
pub use presented::Presented;
pub use provider::{Provider, Providers};
pub use token::{Kind, TokenError, Verified};
pub use tokens::Tokens;
pub use typ::AccessTokenTyp;
