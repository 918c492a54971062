//! The file in which audit keeps the first secret of a journal's seals: a line, `vestibule-seal-secret-1` and 64 hexadecimal
//! digits.

use journal::sealing::Secret;
use types::hex::{hex, unhex};

const MAGIC: &str = "vestibule-seal-secret-1";

/// The file's text.
pub fn text(secret: &Secret) -> String {
    format!("{MAGIC} {}\n", hex(secret.expose()))
}

/// The secret in such a text; `None` where it is none.
pub fn parse(text: &str) -> Option<Secret> {
    let digits = text.trim_end().strip_prefix(MAGIC)?.strip_prefix(' ')?;
    unhex(digits).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_back_from_its_text() {
        let secret = Secret::new([9; 32]);
        assert_eq!(parse(&text(&secret)), Some(secret));
        for wrong in ["", "vestibule-seal-secret-1 09", "vestibule-seal-secret-2 09"] {
            assert_eq!(parse(wrong), None);
        }
    }
}
