//! Which host a certificate speaks for.

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The hosts that may come, as the configuration names them.
#[derive(Clone, Debug)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Those of these names; `*.DOMAIN` stands for all names of one label more.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_lowercase()).collect())
    }

    /// Whether a host may come.
    pub(crate) fn may(&self, node: &str) -> bool {
        let node = node.to_lowercase();
        self.0.iter().any(|allowed| match allowed.strip_prefix("*.") {
            None => *allowed == node,
            Some(domain) => node
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == domain),
        })
    }
}

/// Whether a certificate, verified already, is that of `node`: one of its alternative names is that very DNS name.
/// Its common name does not count (RFC 9525 §2), and what has a wildcard names nobody.
pub(crate) fn is_of(certificate: &[u8], node: &str) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(name) => !name.contains('*') && name.eq_ignore_ascii_case(node),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named() {
        let hosts =
            Hosts::new(&["db-1.bank.example".into(), "*.app.example".into(), "solo".into()]);
        for (node, may) in [
            ("db-1.bank.example", true),
            ("DB-1.bank.example", true),
            ("db-2.bank.example", false),
            ("a.app.example", true),
            ("app.example", false),
            (".app.example", false),
            ("a.b.app.example", false),
            ("solo", true),
            ("", false),
        ] {
            assert_eq!(hosts.may(node), may, "{node}");
        }
    }
}
