//! How long a certificate is valid.

use std::time::{Duration, SystemTime};

use x509_parser::prelude::{FromDer, X509Certificate};

/// When a certificate (DER) stops being valid (RFC 5280 §4.1.2.5); none where it can't be read, or that
/// was before 1970.
pub fn expiry(certificate: &[u8]) -> Option<SystemTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn the_end_is_read() {
        let mut params = CertificateParams::new(["db.bank.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 1, 2);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let end = expiry(certificate.der()).unwrap();
        // 2031-01-02T00:00:00Z is the 22,281st day after 1970-01-01.
        assert_eq!(end, SystemTime::UNIX_EPOCH + Duration::from_hours(22_281 * 24));
        assert_eq!(expiry(b"no certificate"), None);
    }
}
