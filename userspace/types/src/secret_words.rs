//! Words by which secrets are known wherever they are looked for: what their names hold, and how issued
//! tokens begin. Whoever looks in one kind of text knows more words for that.

/// Parts of names, without separators and in small letters.
pub const NAMES: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authkey",
    "credential",
];

/// Whole names.
const SHORT_NAMES: [&str; 6] = ["pass", "pwd", "otp", "cvv", "cvv2", "cvc"];

/// How well-known tokens begin.
pub const TOKENS: [&str; 14] = [
    "eyJ",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "sk_live_",
    "rk_live_",
    "AKIA",
    "ASIA",
];

/// A name's letters and digits alone, in small letters, as [`is_name`] takes it.
pub fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether a plain name is a secret's.
pub fn is_name(plain: &str) -> bool {
    NAMES.iter().any(|name| plain.contains(name)) || SHORT_NAMES.contains(&plain)
}

/// Whether a word begins as one of `prefixes` and has at least `more` bytes behind that.
pub fn begins(word: &str, prefixes: &[&str], more: usize) -> bool {
    prefixes.iter().any(|prefix| word.len() >= prefix.len() + more && word.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_however_they_are_written() {
        for name in ["Password", "X-Api-Key", "client_secret", "authToken", "PWD", "c.v.v"] {
            assert!(is_name(&plain(name)), "{name}");
        }
        for name in ["bypass", "monkey", "key", "opt", ""] {
            assert!(!is_name(&plain(name)), "{name}");
        }
    }

    #[test]
    fn a_prefix_alone_is_no_token() {
        assert!(begins("ghp_0123", &TOKENS, 4));
        assert!(!begins("ghp_012", &TOKENS, 4));
        assert!(!begins("x_ghp_0123", &TOKENS, 4));
    }
}
