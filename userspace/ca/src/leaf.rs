//! Certificates for single servers, which live for a day.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::authority::random;
use crate::{Authority, CaError, Name};

/// Clocks of agents may differ from ours by so much.
const EARLIER: Duration = Duration::from_hours(1);

/// How long a leaf holds. It is minted anew at half of this ([`Leaf::is_fresh`]).
const VALID: Duration = Duration::from_hours(48);

/// A certificate for one server, with its key.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate; its issuer is in the agents' trust stores.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    stale_at: SystemTime,
}

impl Leaf {
    /// Whether it holds for another day at least.
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        now < self.stale_at
    }
}

impl Authority {
    /// Vouches for a server: a certificate for the first of `names`, and for those of the others
    /// that the authority is for.
    ///
    /// # Errors
    /// If the authority is not for the first name, or not valid at `now`.
    pub fn mint(&self, names: &[Name], now: SystemTime) -> Result<Leaf, CaError> {
        let Some(first) = names.first() else { return Err(CaError::NotPermitted(Name::new(""))) };
        if !self.permits().covers(first) {
            return Err(CaError::NotPermitted(first.clone()));
        }
        if !self.is_valid(now) {
            return Err(CaError::Expired);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name(first));
        for name in names.iter().filter(|name| self.permits().covers(name)) {
            params.subject_alt_names.push(match name {
                Name::Dns(name) => {
                    SanType::DnsName(name.as_str().try_into().map_err(CaError::Sign)?)
                }
                Name::Ip(ip) => SanType::IpAddress(*ip),
            });
        }
        params.not_before = (now - EARLIER).into();
        params.not_after = (now + VALID).into();
        params.serial_number = Some(SerialNumber::from_slice(&random()?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate =
            params.signed_by(self.leaf_key(), self.issuer()).map_err(CaError::Sign)?;
        let key = PrivatePkcs8KeyDer::from(self.leaf_key().serialize_der());
        Ok(Leaf {
            certificate: certificate.der().clone(),
            key: key.into(),
            stale_at: now + VALID / 2,
        })
    }
}

/// For people; clients read the alternative names. Nothing that could be a domain name: OpenSSL would
/// hold it to the constraints. At most 64 characters (RFC 5280, ub-common-name).
fn common_name(name: &Name) -> String {
    let text = format!("vestibule for {name}");
    if text.len() <= 64 { text } else { "vestibule for a long name".to_owned() }
}
