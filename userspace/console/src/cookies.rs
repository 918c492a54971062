//! The console's two cookies.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;

/// Bytes of a cookie's value that is read: 43 characters of a name made here.
const VALUE_BYTES_MAX: usize = 64;

/// A cookie of the console's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// The name of a visit.
    Visit,
    /// The name of a browser, which is older than its visits.
    Browser,
}

/// How cookies are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cookies {
    /// Over https, with `__Host-` before their names: no other host and no plain connection can set them (RFC 6265bis
    /// §4.1.3.2). Else plain ones, which only a loopback address has.
    pub(crate) is_https: bool,
}

impl Cookies {
    fn name(self, cookie: Cookie) -> &'static str {
        match (cookie, self.is_https) {
            (Cookie::Visit, true) => "__Host-vestibule",
            (Cookie::Visit, false) => "vestibule",
            (Cookie::Browser, true) => "__Host-vestibule-browser",
            (Cookie::Browser, false) => "vestibule-browser",
        }
    }

    /// A cookie's value, where it came once.
    pub(crate) fn get(self, headers: &HeaderMap, cookie: Cookie) -> Option<String> {
        let name = self.name(cookie);
        let sent = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs =
            sent.flat_map(|value| value.split(';')).filter_map(|one| one.trim().split_once('='));
        let mut values = pairs.filter(|(is, _)| *is == name).map(|(_, value)| value);
        // Two of one name: nobody knows which is whose.
        let (value, None) = (values.next()?, values.next()) else { return None };
        let is_sound = !value.is_empty() && value.len() <= VALUE_BYTES_MAX;
        is_sound.then(|| value.to_owned())
    }

    /// The header that sets a cookie. `Lax`: a link in a message opens the page that it is to; no request that changes
    /// anything goes by the cookie alone.
    pub(crate) fn set(self, cookie: Cookie, value: &str) -> String {
        let secure = if self.is_https { "; Secure" } else { "" };
        // A visit's goes with the browser's window; a browser's name stays, and is good for nothing alone.
        let life = match cookie {
            Cookie::Visit => "",
            Cookie::Browser => "; Max-Age=31536000",
        };
        format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{life}", self.name(cookie))
    }

    /// The header that takes a cookie away.
    pub(crate) fn take(self, cookie: Cookie) -> String {
        let secure = if self.is_https { "; Secure" } else { "" };
        format!("{}=; Path=/; HttpOnly; SameSite=Lax{secure}; Max-Age=0", self.name(cookie))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_https_cookies_are_of_this_host_alone() {
        let cookies = Cookies { is_https: true };
        assert_eq!(
            cookies.set(Cookie::Visit, "v"),
            "__Host-vestibule=v; Path=/; HttpOnly; SameSite=Lax; Secure"
        );
        assert!(cookies.take(Cookie::Visit).ends_with("Secure; Max-Age=0"));
        assert!(
            cookies.set(Cookie::Browser, "b").starts_with("__Host-vestibule-browser=b; Path=/;")
        );
        assert!(!Cookies { is_https: false }.set(Cookie::Visit, "v").contains("Secure"));
    }

    #[test]
    fn a_cookie_is_found_once_or_not_at_all() {
        let long = format!("__Host-vestibule={}", "a".repeat(65));
        for (sent, found) in [
            (&["__Host-vestibule=a"][..], Some("a")),
            (&["x=1; __Host-vestibule=a;y=2"], Some("a")),
            (&["x=1", "__Host-vestibule=a"], Some("a")),
            (&["__Host-vestibule=a; __Host-vestibule=b"], None),
            (&["__Host-vestibule=a", "__Host-vestibule=a"], None),
            (&["vestibule=a"], None),
            (&["__host-vestibule=a"], None),
            (&["__Host-vestibule="], None),
            (&[&long], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in sent {
                headers.append(COOKIE, value.parse().unwrap());
            }
            let cookies = Cookies { is_https: true };
            assert_eq!(cookies.get(&headers, Cookie::Visit).as_deref(), found, "{sent:?}");
        }
    }
}
