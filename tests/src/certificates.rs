//! A server's certificate and the authority behind it, made by OpenSSL; and the host's own authority.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::process::run;
use crate::{paths, postgres};

/// Files in a folder of their own.
#[derive(Debug)]
pub struct Certificates(TempDir);

impl Certificates {
    /// Makes an authority of a bank, and a certificate of its for a server with these alternative
    /// names (as `subjectAltName` of OpenSSL).
    ///
    /// # Errors
    /// If OpenSSL is not there.
    pub fn make(names: &str) -> Result<Self> {
        let own = Self(tempfile::Builder::new().prefix("vestibule-tls-").tempdir()?);
        fs::set_permissions(own.0.path(), fs::Permissions::from_mode(0o755))?;
        fs::write(own.path("names"), format!("subjectAltName={names}\n"))?;
        fs::write(own.path("pg_hba.conf"), "host all all all trust\n")?;
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        own.openssl(&format!(
            "req -x509 {key} -days 2 -subj /CN=bank -keyout bank.key -out bank.crt"
        ))?;
        own.openssl(&format!(
            "req -new {key} -subj /CN=server -keyout server.key -out server.csr"
        ))?;
        own.openssl(
            "x509 -req -in server.csr -CA bank.crt -CAkey bank.key -CAcreateserial -days 2 \
             -extfile names -out server.crt",
        )?;
        let key = own.path("server.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        run(Command::new("chown").arg(postgres::SUPERUSER).arg(&key), 10)?.ok()?;
        Ok(own)
    }

    /// Makes a certificate of a client of this name by the bank's authority: `NAME.crt`, `NAME.key`.
    ///
    /// # Errors
    /// If OpenSSL fails.
    pub fn make_client(&self, name: &str) -> Result<()> {
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} \
             -keyout {name}.key -out {name}.csr"
        ))?;
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA bank.crt -CAkey bank.key -CAcreateserial -days 2 \
             -extfile names -out {name}.crt"
        ))
        .map(drop)
    }

    /// Makes a certificate by the bank's authority with these alternative names: `NAME.crt`, `NAME.key`.
    ///
    /// # Errors
    /// If OpenSSL fails.
    pub fn make_named(&self, name: &str, names: &str) -> Result<()> {
        fs::write(self.path(&format!("{name}.names")), format!("subjectAltName={names}\n"))?;
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} \
             -keyout {name}.key -out {name}.csr"
        ))?;
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA bank.crt -CAkey bank.key -CAcreateserial -days 2 \
             -extfile {name}.names -out {name}.crt"
        ))
        .map(drop)
    }

    /// Revokes a certificate of the bank's authority: `revoked.pem` lists it.
    ///
    /// # Errors
    /// If OpenSSL fails.
    pub fn revoke(&self, name: &str) -> Result<()> {
        let authority = "[ca]\ndefault_ca = bank\n[bank]\ndatabase = index\ncrlnumber = crlnumber\n\
                         certificate = bank.crt\nprivate_key = bank.key\ndefault_md = sha256\n\
                         default_crl_days = 2\n";
        for (file, text) in [("authority", authority), ("index", ""), ("crlnumber", "01\n")] {
            fs::write(self.path(file), text)?;
        }
        self.openssl(&format!("ca -config authority -revoke {name}.crt"))?;
        self.openssl("ca -config authority -gencrl -out revoked.pem").map(drop)
    }

    /// Has a server that is started later let in whom these rules (`pg_hba.conf`) let in, and the
    /// superuser by password.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn admit(&self, rules: &str) -> Result<()> {
        let superuser = postgres::SUPERUSER;
        let rules = format!("host all {superuser} all scram-sha-256\n{rules}\n");
        fs::write(self.path("pg_hba.conf"), rules).context("the rules can't be written")
    }

    /// Makes the host's own authority as an operator does; for addresses of loopback and `localhost`.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn make_authority(&self) -> Result<()> {
        let mut command = Command::new(paths::programs()?.join("vestibule"));
        command.args(["ca", "init", "--permit", "127.0.0.0/8", "--permit", "localhost", "--dir"]);
        run(command.arg(self.path("host")), 10)?.ok().map(drop)
    }

    /// Answers a file's path: `bank.crt`, `server.crt`, `server.key`, `host/ca.crt`, …
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Answers what a server is started with to speak TLS, and to take everybody's word for who they are.
    pub fn server_settings(&self) -> Vec<String> {
        let file = |setting: &str, name: &str| format!("{setting}={}", self.path(name).display());
        vec![
            "ssl=on".into(),
            "log_connections=on".into(),
            file("ssl_cert_file", "server.crt"),
            file("ssl_key_file", "server.key"),
            file("hba_file", "pg_hba.conf"),
        ]
    }

    /// Answers the daemon's configuration to offer agents TLS, and rules for the target's.
    pub fn daemon_settings(&self, target: &str) -> String {
        format!(
            "[tls]\nca_dir = \"{}\"\nbundle = \"{}\"\n[target.tls]\n{}\n",
            self.path("host").display(),
            self.path("bundle.pem").display(),
            target.replace("BANK_CA", &self.path("bank.crt").display().to_string()),
        )
    }

    /// Answers the SHA-256 of a certificate, in lower-case hexadecimal digits.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn fingerprint(&self, name: &str) -> Result<String> {
        let said = self.openssl(&format!("x509 -noout -fingerprint -sha256 -in {name}"))?;
        let (_, digits) = said.trim().split_once('=').context("no fingerprint")?;
        Ok(digits.replace(':', "").to_lowercase())
    }

    /// Runs OpenSSL in the folder, with arguments that have no blanks; answers what it says.
    ///
    /// # Errors
    /// If it fails.
    pub fn openssl(&self, arguments: &str) -> Result<String> {
        let mut command = Command::new("openssl");
        run(command.args(arguments.split_whitespace()).current_dir(self.directory()), 20)?.ok()
    }

    fn directory(&self) -> &Path {
        self.0.path()
    }
}
