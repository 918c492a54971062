//! A vault of one's own: `OpenBao`, which serves HashiCorp Vault's HTTP API, over TLS.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::paths;
use crate::port::Port;
use crate::process::{Running, run, wait_until};

/// What lets in whoever sets it up; nothing of the daemon's.
const ROOT_TOKEN: &str = "root-of-a-vault-that-is-gone-soon";

/// A running vault, unsealed, with KV version 2 at `secret`, and AppRole.
#[derive(Debug)]
pub struct Vault {
    server: Option<Running>,
    /// Where it is set up, in clear.
    clear: Port,
    /// Where clients reach it.
    tls: Port,
    directory: TempDir,
}

impl Vault {
    /// Starts one with the server's certificate of these; its name is `localhost`. Who has the policy
    /// `bank` reads what is below `secret/bank/`.
    ///
    /// # Errors
    /// If OpenBao is not installed or does not start.
    pub fn start(certificates: &Certificates) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("vestibule-vault-").tempdir()?;
        let (clear, tls) = (Port::take()?, Port::take()?);
        let configuration = format!(
            "listener \"tcp\" {{\n  address = \"127.0.0.1:{}\"\n  tls_cert_file = \"{}\"\n  tls_key_file = \"{}\"\n}}\n",
            tls.number(),
            certificates.path("server.crt").display(),
            certificates.path("server.key").display(),
        );
        fs::write(directory.path().join("vault.hcl"), configuration).context("vault.hcl")?;
        let mut own = Self { server: None, clear, tls, directory };
        own.restart()?;
        own.bao(&["auth", "enable", "approle"])?;
        let policy = own.directory.path().join("bank.hcl");
        let text = "path \"secret/data/bank/*\" {\n  capabilities = [\"read\"]\n}\n";
        fs::write(&policy, text).context("a policy")?;
        own.bao(&["policy", "write", "bank", &policy.display().to_string()])?;
        let role = ["token_policies=bank", "token_ttl=20m"];
        own.bao(&["write", "auth/approle/role/vestibule", role[0], role[1]])?;
        Ok(own)
    }

    /// Starts it (again), with nothing in it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        let log = File::create(self.directory.path().join("vault.log")).context("its log")?;
        let mut command = Self::program()?;
        command.args(["server", "-dev", "-dev-no-store-token"]);
        command.arg(format!("-dev-root-token-id={ROOT_TOKEN}"));
        command.arg(format!("-dev-listen-address=127.0.0.1:{}", self.clear.number()));
        command.arg(format!("-config={}", self.directory.path().join("vault.hcl").display()));
        command.env("HOME", self.directory.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().context("its log")?).stderr(log);
        self.server = Some(Running::new("bao", &mut command)?);
        wait_until("the vault answers", 30, || {
            let server = self.server.as_mut().context("it was started")?;
            if !server.is_running()? {
                let log = fs::read_to_string(self.directory.path().join("vault.log"));
                bail!("the vault ended: {}", log.unwrap_or_default());
            }
            Ok(self.bao(&["secrets", "list"]).is_ok_and(|list| list.contains("secret/")))
        })
    }

    /// Ends it.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    /// Answers its address, for whoever trusts its certificate.
    pub fn address(&self) -> String {
        format!("https://localhost:{}", self.tls.number())
    }

    /// Writes a version of `secret/PATH`.
    ///
    /// # Errors
    /// If it is refused.
    pub fn put(&self, path: &str, key: &str, secret: &str) -> Result<()> {
        self.bao(&["kv", "put", "-mount=secret", path, &format!("{key}={secret}")]).map(drop)
    }

    /// Answers a token of the policy `bank`.
    ///
    /// # Errors
    /// If there is none.
    pub fn token(&self) -> Result<String> {
        Ok(self.bao(&["token", "create", "-policy=bank", "-field=token"])?.trim().to_owned())
    }

    /// Answers what a daemon logs in with by AppRole: the role's id and a secret id.
    ///
    /// # Errors
    /// If there is none.
    pub fn role(&self) -> Result<(String, String)> {
        let role = "auth/approle/role/vestibule";
        let id = self.bao(&["read", "-field=role_id", &format!("{role}/role-id")])?;
        let secret =
            self.bao(&["write", "-f", "-field=secret_id", &format!("{role}/secret-id")])?;
        Ok((id.trim().to_owned(), secret.trim().to_owned()))
    }

    /// Takes a token back.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn revoke(&self, token: &str) -> Result<()> {
        self.bao(&["token", "revoke", token]).map(drop)
    }

    /// Runs its own command as its root.
    ///
    /// # Errors
    /// With what it says, if it fails.
    pub fn bao(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Self::program()?;
        command.args(arguments).env("BAO_TOKEN", ROOT_TOKEN).env("HOME", self.directory.path());
        command.env("BAO_ADDR", format!("http://127.0.0.1:{}", self.clear.number()));
        run(&mut command, 30)?.ok()
    }

    fn program() -> Result<Command> {
        let program = paths::root().join("target/venv/bin/bao");
        if !program.exists() {
            bail!("no OpenBao in target/venv: cargo xtask setup");
        }
        Ok(Command::new(program))
    }
}
