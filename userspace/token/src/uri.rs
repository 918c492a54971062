//! Where a token's key is: a PKCS#11 URI (RFC 7512).

use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// A key in a token: `pkcs11:token=TOKEN;object=KEY?module-path=FILE&pin-source=FILE`, with `%` and two
/// hexadecimal digits for what stands for something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUri {
    pub(crate) token: String,
    pub(crate) object: String,
    /// The token's module.
    pub(crate) module: PathBuf,
    /// A file that holds its PIN.
    pub(crate) pin: PathBuf,
    text: String,
}

impl TokenUri {
    /// The key `object` in the token `token`, by the module in a file and the PIN in another.
    pub fn new(token: &str, object: &str, module: PathBuf, pin: PathBuf) -> Self {
        let text = format!(
            "pkcs11:token={};object={}?module-path={}&pin-source={}",
            encoded(token),
            encoded(object),
            encoded(&module.to_string_lossy()),
            encoded(&pin.to_string_lossy())
        );
        let (token, object) = (token.to_owned(), object.to_owned());
        Self { token, object, module, pin, text }
    }

    /// It as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same but for the key's name.
    #[must_use]
    pub fn with_object(&self, object: &str) -> Self {
        Self::new(&self.token, object, self.module.clone(), self.pin.clone())
    }

    /// The key's name.
    pub fn object(&self) -> &str {
        &self.object
    }
}

/// Why a URI is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write pkcs11:token=TOKEN;object=KEY?module-path=FILE&pin-source=FILE")]
pub struct InvalidUri(String);

impl FromStr for TokenUri {
    type Err = InvalidUri;

    fn from_str(text: &str) -> Result<Self, InvalidUri> {
        let rest =
            text.strip_prefix("pkcs11:").ok_or(InvalidUri("this is no PKCS#11 URI".into()))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let names = ["token", "object", "module-path", "pin-source"];
        let mut found: [Option<String>; 4] = Default::default();
        for attribute in path.split(';').chain(query.split('&')).filter(|part| !part.is_empty()) {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let at = names.iter().position(|known| *known == name);
            // A PIN in the URI itself (`pin-value`) would be seen by all.
            let place = at.and_then(|at| found.get_mut(at));
            let place = place.ok_or_else(|| InvalidUri(format!("`{name}` is not understood")))?;
            let value =
                decoded(value).ok_or_else(|| InvalidUri(format!("`{name}` is malformed")))?;
            if place.replace(value).is_some() {
                return Err(InvalidUri(format!("`{name}` stands twice")));
            }
        }
        let missing = |at: usize| InvalidUri(format!("`{}` is missing", names[at]));
        let [token, object, module, pin] = found;
        let file = |path: String| PathBuf::from(path.strip_prefix("file:").unwrap_or(&path));
        Ok(Self {
            token: token.ok_or_else(|| missing(0))?,
            object: object.ok_or_else(|| missing(1))?,
            module: module.map(file).ok_or_else(|| missing(2))?,
            pin: pin.map(file).ok_or_else(|| missing(3))?,
            text: text.to_owned(),
        })
    }
}

/// What of a value is encoded: all but what stands for itself anywhere in a URI (RFC 3986 §2.3), and slashes.
const ENCODED: AsciiSet =
    NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

fn encoded(value: &str) -> String {
    utf8_percent_encode(value, &ENCODED).to_string()
}

/// A value with its `%XX` replaced; `None` where they are none, or it is empty.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let uri: TokenUri =
            "pkcs11:token=The%20bank;object=ca?module-path=/a/m.so&pin-source=file:/b/pin"
                .parse()
                .unwrap();
        assert_eq!((uri.token.as_str(), uri.object.as_str()), ("The bank", "ca"));
        assert_eq!((&uri.module, &uri.pin), (&"/a/m.so".into(), &"/b/pin".into()));
        let made = TokenUri::new("The bank", "ca", "/a/m.so".into(), "/b/pin".into());
        assert_eq!(made.text().parse::<TokenUri>().unwrap(), made);
        assert_eq!(made.with_object("b").object(), "b");
        for (text, why) in [
            ("file:x", "no PKCS#11 URI"),
            ("pkcs11:token=a", "`object` is missing"),
            ("pkcs11:token=a;token=b", "twice"),
            ("pkcs11:token=%4", "malformed"),
            ("pkcs11:token=", "malformed"),
            ("pkcs11:token=a;object=b?module-path=c&pin-value=1", "`pin-value` is not understood"),
        ] {
            let error = text.parse::<TokenUri>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
