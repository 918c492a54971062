//! Forward-secure seals: what was committed between two signed checkpoints can't be rewritten later, not by who has this
//! host's root by then.
//!
//! A seal is a frame with a MAC over the chain up to it, and so over all that was committed before. Its key is used for it
//! alone: the next one's is derived from it (HKDF-Expand, RFC 5869 §2.3), and then it is erased, in memory and on disk.
//! Who has kept the first secret, away from this host, derives all of them and checks every seal (Schneier and Kelsey,
//! "Secure Audit Logs to Support Computer Forensics", 1999; systemd's forward-secure sealing is of the kind).
//!
//! A seal comes with the first commit after an interval, and once the interval is over where nothing more is committed.
//! It is durable before its key is given up, so a crash loses none; and a key whose seal is found durable after a crash
//! is given up then, so none is used twice.
//!
//! It does not say that a journal is not cut off behind a seal, and ended there: the next start says that (the key that is
//! kept knows how many seals there were), and whoever knows that the host was at work later.

mod kept;
mod verify;

pub(crate) use kept::{Kept, last_seal};
pub use kept::{KeptError, begin};
pub use verify::{Break, CheckError, Checked, check};

use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec::{Cursor, Malformed, put_u64};
use crate::frame::Chain;
use crate::record::Lsn;

/// What a MAC begins with.
const DOMAIN: &[u8] = b"vestibule/journal-seal/v1\0";

/// Bytes of a seal's body: id, index, time, MAC.
#[cfg(test)]
const BODY_BYTES: usize = 8 + 8 + 8 + 32;

/// The key of one seal, and of all later ones.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// The secret of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The name of a first secret, in seals: it says nothing of it.
    pub fn id(&self) -> [u8; 8] {
        *expand(&self.0, b"id").first_chunk().expect("32 bytes have 8")
    }

    /// The next seal's.
    #[must_use]
    pub fn next(&self) -> Self {
        Self(expand(&self.0, b"next"))
    }

    /// The MAC of a seal.
    fn mac(&self, seal: &Sealed) -> Hmac<Sha256> {
        let mut key = expand(&self.0, b"mac");
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).expect("HMAC takes any key");
        key.zeroize();
        let Sealed { id, index, at_us, lsn, seq, chain } = seal;
        mac.update(DOMAIN);
        mac.update(id);
        mac.update(&index.to_be_bytes());
        mac.update(&at_us.to_be_bytes());
        mac.update(&lsn.0.to_be_bytes());
        mac.update(&seq.to_be_bytes());
        mac.update(chain);
        mac
    }
}

/// One block of HKDF-Expand (RFC 5869 §2.3).
fn expand(key: &[u8; 32], info: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes any key");
    mac.update(DOMAIN);
    mac.update(info);
    mac.update(&[1]);
    mac.finalize().into_bytes().into()
}

/// What a seal covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    /// The first secret's name.
    pub(crate) id: [u8; 8],
    /// Its number, from 0.
    pub(crate) index: u64,
    /// When.
    pub(crate) at_us: i64,
    /// The next counted frame's place, and the next row's number.
    pub(crate) lsn: Lsn,
    pub(crate) seq: u64,
    /// The chain before it.
    pub(crate) chain: Chain,
}

impl Sealed {
    /// Appends the seal's body, with its MAC by `secret`.
    pub(crate) fn put(&self, out: &mut Vec<u8>, secret: &Secret) {
        out.extend_from_slice(&self.id);
        put_u64(out, self.index);
        out.extend_from_slice(&self.at_us.to_be_bytes());
        out.extend_from_slice(&secret.mac(self).finalize().into_bytes());
    }

    /// Whether `secret` made the MAC `mac` of it.
    fn is_by(&self, secret: &Secret, mac: &[u8; 32]) -> bool {
        secret.mac(self).verify_slice(mac).is_ok()
    }
}

/// A seal as it stands in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealBody {
    /// The first secret's name.
    pub id: [u8; 8],
    /// Its number.
    pub index: u64,
    /// When it was made, by the host, microseconds since 1970 UTC.
    pub at_us: i64,
    mac: [u8; 32],
}

impl SealBody {
    /// The seal in a frame's body.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        let seal = Self {
            id: cursor.array()?,
            index: cursor.u64()?,
            at_us: i64::from_be_bytes(cursor.array()?),
            mac: cursor.array()?,
        };
        cursor.finish()?;
        Ok(seal)
    }
}

#[cfg(test)]
mod tests {
    use types::hex::hex;

    use super::*;

    /// The values were computed by a separate program (Python's hmac) from the description above.
    #[test]
    fn golden_seal() {
        let first = Secret::new([7; 32]);
        assert_eq!(hex(&first.id()), "0f51d36eb0030f4c");
        let second = first.next();
        assert_eq!(
            hex(second.expose()),
            "230ae9f2a7a7c78456aa049396ba422f8b69117313c8cb018a0b4759e45035cf"
        );
        let seal = Sealed {
            id: first.id(),
            index: 1,
            at_us: 1_795_302_000_000_000,
            lsn: Lsn(9),
            seq: 5,
            chain: [3; 32],
        };
        let mut body = Vec::new();
        seal.put(&mut body, &second);
        assert_eq!(body.len(), BODY_BYTES);
        assert_eq!(
            hex(&body[24..]),
            "df217481c4b04fbf07757ed4c5e09e9048859f793b97195a1880795d0031750f"
        );
        let parsed = SealBody::parse(&body).unwrap();
        assert!(seal.is_by(&second, &parsed.mac) && !seal.is_by(&first, &parsed.mac));
        assert!(!Sealed { chain: [4; 32], ..seal }.is_by(&second, &parsed.mac));
    }

    #[test]
    fn a_secret_is_in_no_message() {
        assert_eq!(format!("{:?}", Secret::new([7; 32])), "Secret(..)");
    }
}
