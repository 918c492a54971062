//! Time-stamp tokens (RFC 3161) of signed checkpoints: that they were there at a time, by the word of an authority that
//! is neither the node's nor a witness's.
//!
//! A token's signature is OpenSSL's to verify (`openssl ts -verify`); what it is of is read here.

use std::path::Path;
use std::process::Command;

use cms::signed_data::SignedData;
use der::asn1::{Int, OctetString};
use der::oid::ObjectIdentifier;
use der::{Any, Decode, Encode};
use sha2::{Digest, Sha256};
use x509_tsp::{MessageImprint, TimeStampReq, TimeStampResp, TspVersion, TstInfo};

/// Bytes of a response at most: a token with the authority's chain of certificates is some 6 KiB.
pub const RESPONSE_BYTES_MAX: usize = 256 * 1024;

/// The media type of a request (RFC 3161, section 3.4).
pub const QUERY: &str = "application/timestamp-query";

/// `id-sha256` (RFC 5754, section 2.2).
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// `id-ct-TSTInfo` (RFC 3161, section 2.4.2).
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");

/// Why a response holds no token of what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TimestampError {
    /// Not as RFC 3161 has it.
    #[error("it is no time-stamp response: {0}")]
    Malformed(String),
    /// The authority refused.
    #[error("the authority refused, status {0} (RFC 3161, section 2.4.2)")]
    Refused(u8),
    /// It is of something else.
    #[error("it is of other bytes than these")]
    Other,
    /// It answers another request.
    #[error("it answers another request")]
    Nonce,
}

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// When, seconds since 1970 UTC.
    pub at_s: u64,
}

/// A request to have `bytes` stamped, with the authority's certificates in the answer.
///
/// # Errors
/// None that these bytes can cause.
pub fn request(bytes: &[u8], nonce: u64) -> Result<Vec<u8>, TimestampError> {
    let hash_algorithm =
        cms::cert::x509::spki::AlgorithmIdentifier { oid: SHA_256, parameters: None };
    let hashed_message = OctetString::new(Sha256::digest(bytes).as_slice()).map_err(malformed)?;
    let request = TimeStampReq {
        version: TspVersion::V1,
        message_imprint: MessageImprint { hash_algorithm, hashed_message },
        req_policy: None,
        nonce: Some(positive(nonce)?),
        cert_req: true,
        extensions: None,
    };
    request.to_der().map_err(malformed)
}

/// What a response says of `bytes`; `nonce` is that of the request, where it is known.
///
/// # Errors
/// If it is no token of these bytes, or answers another request.
pub fn read(response: &[u8], bytes: &[u8], nonce: Option<u64>) -> Result<Stamped, TimestampError> {
    let response = TimeStampResp::from_der(response).map_err(malformed)?;
    let status = response.status.status as u8;
    // granted, grantedWithMods
    if status > 1 {
        return Err(TimestampError::Refused(status));
    }
    let token = response.time_stamp_token.ok_or_else(|| malformed("without a token"))?;
    let signed: SignedData = token.content.decode_as().map_err(malformed)?;
    let content = signed.encap_content_info;
    if content.econtent_type != TST_INFO {
        return Err(malformed("the token is of another kind"));
    }
    let content: Any = content.econtent.ok_or_else(|| malformed("the token is empty"))?;
    let info: OctetString = content.decode_as().map_err(malformed)?;
    let info = TstInfo::from_der(info.as_bytes()).map_err(malformed)?;
    let MessageImprint { hash_algorithm, hashed_message } = &info.message_imprint;
    if hash_algorithm.oid != SHA_256
        || hashed_message.as_bytes() != Sha256::digest(bytes).as_slice()
    {
        return Err(TimestampError::Other);
    }
    if let Some(nonce) = nonce
        && info.nonce != Some(positive(nonce)?)
    {
        return Err(TimestampError::Nonce);
    }
    Ok(Stamped { at_s: info.gen_time.to_unix_duration().as_secs() })
}

/// Whether OpenSSL finds that the response in `response` is a token of the file `data`, by an authority that the
/// certificates in `authority` (PEM) vouch for; else its words.
///
/// # Errors
/// If there is no OpenSSL.
pub fn verify(
    response: &Path,
    data: &Path,
    authority: &Path,
) -> std::io::Result<Result<(), String>> {
    let mut openssl = Command::new("openssl");
    openssl.args(["ts", "-verify", "-in"]).arg(response).arg("-data").arg(data);
    let output = openssl.arg("-CAfile").arg(authority).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let is_good = output.status.success()
        && String::from_utf8_lossy(&output.stdout).contains("Verification: OK");
    let why = said.lines().rfind(|line| line.contains("error")).unwrap_or("refused");
    Ok(if is_good { Ok(()) } else { Err(why.chars().take(200).collect()) })
}

/// An INTEGER of DER that is not negative.
fn positive(number: u64) -> Result<Int, TimestampError> {
    let bytes = number.to_be_bytes();
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
    let mut shortest = bytes.get(first..).unwrap_or_default().to_vec();
    if shortest.first().is_some_and(|byte| byte & 0x80 != 0) {
        shortest.insert(0, 0);
    }
    Int::new(&shortest).map_err(malformed)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn malformed(why: impl ToString) -> TimestampError {
    TimestampError::Malformed(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_shortest_that_are_not_negative() {
        for (number, bytes) in [
            (0, vec![0]),
            (0x7f, vec![0x7f]),
            (0x80, vec![0, 0x80]),
            (0x0100, vec![1, 0]),
            (u64::MAX, [vec![0], vec![0xff; 8]].concat()),
        ] {
            assert_eq!(positive(number).unwrap().as_bytes(), bytes, "{number:#x}");
        }
    }

    #[test]
    fn what_is_no_response_is_refused() {
        let request = request(b"a checkpoint", 7).unwrap();
        for bytes in [&b""[..], b"0", &[0x30, 0x80], &request, &[0x30; 4096]] {
            assert!(matches!(read(bytes, b"", None), Err(TimestampError::Malformed(_))));
        }
        // A refusal: PKIStatusInfo with status 2 and nothing else.
        let refusal = [0x30, 0x05, 0x30, 0x03, 0x02, 0x01, 0x02];
        assert!(matches!(read(&refusal, b"", None), Err(TimestampError::Refused(2))));
    }
}
