//! The little of DER (X.690) that keys and signatures in tokens need.

/// prime256v1 as an object identifier (RFC 5480 §2.1.1.1).
pub(crate) const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// id-Ed25519 as an object identifier (RFC 8410 §3), as PKCS#11 3.0 has the curve in `CKA_EC_PARAMS`.
pub(crate) const ED25519: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];

/// The same curve by its name, a `PrintableString`, as some modules want it (PKCS#11 3.0 §2.3.5).
pub(crate) const EDWARDS25519: &[u8] = b"\x13\x0cedwards25519";

/// An ECDSA signature as certificates and notes have it, a sequence of two numbers (RFC 3279 §2.2.3), from r and s,
/// each of 32 bytes.
pub(crate) fn signature(r: &[u8; 32], s: &[u8; 32]) -> Vec<u8> {
    let numbers = [integer(r), integer(s)].concat();
    let length = u8::try_from(numbers.len()).expect("at most 2 × 35 bytes");
    [&[0x30, length], numbers.as_slice()].concat()
}

/// A positive INTEGER: no zeros before it but one where the first bit is set.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = bytes.get(zeros..).filter(|digits| !digits.is_empty()).unwrap_or(&[0]);
    let sign: &[u8] =
        if digits.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
    let length = u8::try_from(sign.len() + digits.len()).expect("at most 33 bytes");
    [&[0x02, length], sign, digits].concat()
}

/// What is in an OCTET STRING of less than 128 bytes, or the bytes as they are where they are none: some modules give
/// points bare.
pub(crate) fn bare(point: &[u8]) -> &[u8] {
    match point {
        [0x04, length, rest @ ..] if usize::from(*length) == rest.len() => rest,
        _ => point,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_der() {
        for (bytes, der) in [
            (&[0, 0, 0][..], &[2, 1, 0][..]),
            (&[0, 0x7f], &[2, 1, 0x7f]),
            (&[0x80, 1], &[2, 3, 0, 0x80, 1]),
        ] {
            assert_eq!(integer(bytes), der);
        }
    }

    #[test]
    fn points_are_found_in_octet_strings() {
        assert_eq!(bare(&[4, 2, 7, 8]), [7, 8]);
        assert_eq!(bare(&[4, 7, 8, 9]), [4, 7, 8, 9]);
    }
}
