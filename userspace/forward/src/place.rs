//! Where rows go, by a URL.

use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `file:///PATH`: lines at its end.
    File(PathBuf),
    /// `syslog+tcp://HOST:PORT` (RFC 6587, counted octets), or `syslog+tls://HOST:PORT` (RFC 5425).
    Syslog {
        /// The host, to connect to and to verify.
        host: String,
        /// The port.
        port: u16,
        /// Whether with TLS.
        tls: bool,
    },
    /// `otlp+http://…` or `otlp+https://…`: OTLP/HTTP with JSON; the path is `/v1/logs` where there is none.
    Otlp(String),
}

/// No such place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is none of file:///PATH, syslog+tcp://HOST:PORT, syslog+tls://HOST:PORT, otlp+http://HOST:PORT and otlp+https://HOST:PORT"
)]
pub struct InvalidPlace(String);

/// RFC 5425 §4.1.
const SYSLOG_TLS_PORT: u16 = 6514;

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let wrong = || InvalidPlace(text.to_owned());
        let (scheme, _) = text.split_once("://").ok_or_else(wrong)?;
        if let Some(web) = text.strip_prefix("otlp+") {
            let mut url = Url::parse(web).map_err(|_| wrong())?;
            let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
            // A password in a URL would be seen by all.
            if !is_web || !url.username().is_empty() || url.password().is_some() {
                return Err(wrong());
            }
            if url.path() == "/" {
                url.set_path("/v1/logs");
            }
            return Ok(Self::Otlp(url.into()));
        }
        let url = Url::parse(text).map_err(|_| wrong())?;
        if scheme == "file" {
            let path = url.to_file_path().map_err(|()| wrong())?;
            return path.file_name().is_some().then(|| Self::File(path.clone())).ok_or_else(wrong);
        }
        let tls = match scheme {
            "syslog+tcp" => false,
            "syslog+tls" => true,
            _ => return Err(wrong()),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port().or(tls.then_some(SYSLOG_TLS_PORT)).ok_or_else(wrong)?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        if is_bare { Ok(Self::Syslog { host, port, tls }) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::Syslog { host, port, tls } => {
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                let scheme = if *tls { "syslog+tls" } else { "syslog+tcp" };
                write!(f, "{scheme}://{open}{host}{close}:{port}")
            }
            Self::Otlp(url) => write!(f, "otlp+{url}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, shown) in [
            ("file:///var/log/v.jsonl", "file:///var/log/v.jsonl"),
            ("syslog+tcp://10.0.0.1:601", "syslog+tcp://10.0.0.1:601"),
            ("syslog+tls://siem.bank.example", "syslog+tls://siem.bank.example:6514"),
            ("syslog+tls://[::1]:7000", "syslog+tls://[::1]:7000"),
            ("otlp+http://127.0.0.1:4318", "otlp+http://127.0.0.1:4318/v1/logs"),
            ("otlp+https://o.example/x/logs", "otlp+https://o.example/x/logs"),
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), shown);
        }
        for wrong in [
            "",
            "file:relative",
            "file:///",
            "syslog+tcp://h",
            "syslog+tcp://h:1/x",
            "udp://h:1",
            "otlp+ftp://h",
            "otlp+http://u:p@h",
            "http://h",
        ] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
