//! Cosignatures of witnesses: C2SP tlog-cosignature, version 1 with Ed25519.

use ed25519_dalek::{Signer, SigningKey};

use crate::note::{Algorithm, Line, PublicKey};

/// The signature line of a witness over a checkpoint's text at a time, POSIX seconds.
pub fn cosign(text: &str, time_s: u64, key: &SigningKey, public: &PublicKey) -> String {
    let mut bytes = time_s.to_be_bytes().to_vec();
    bytes.extend_from_slice(&key.sign(message(text, time_s).as_bytes()).to_bytes());
    Line { name: public.name.clone(), id: public.id(), bytes }.to_string()
}

/// When the witness of `key` cosigned the checkpoint `text`, by one of `lines`; `None` where it did not, or
/// a line of its name and id holds no signature of it.
pub fn time_s(text: &str, lines: &[Line], key: &PublicKey) -> Option<u64> {
    if key.algorithm != Algorithm::Cosignature {
        return None;
    }
    let line = lines.iter().find(|line| line.name == key.name && line.id == key.id())?;
    let (time, signature) = line.bytes.split_first_chunk::<8>()?;
    let time = u64::from_be_bytes(*time);
    key.key.verifies(message(text, time).as_bytes(), signature).then_some(time)
}

fn message(text: &str, time_s: u64) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note;

    #[test]
    fn a_cosignature_is_of_its_text_time_and_key() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let public = |name: &str| PublicKey {
            name: name.to_owned(),
            key: key.verifying_key().into(),
            algorithm: Algorithm::Cosignature,
        };
        let public_key = public("w.example/1");
        assert_eq!(PublicKey::parse(&public_key.line()), Some(public_key.clone()));
        let text = "o\n5\nAAAA\n";
        let line = cosign(text, 1_700_000_000, &key, &public_key);
        let lines = note::lines(&line).unwrap();
        assert_eq!(time_s(text, &lines, &public_key), Some(1_700_000_000));
        assert_eq!(time_s("o\n6\nAAAA\n", &lines, &public_key), None);
        assert_eq!(time_s(text, &lines, &public("w.example/2")), None);
        let mut later = lines;
        later[0].bytes[7] ^= 1;
        assert_eq!(time_s(text, &later, &public_key), None);
    }
}
