//! Tokens of one's own: `SoftHSM`, and a TPM in software (`swtpm`) behind `tpm2-pkcs11`.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::port::Port;
use crate::process::{Running, run, wait_until};

/// `SoftHSM`'s module.
pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// The PIN of each token's user.
pub const PIN: &str = "81726354";

/// The PIN of who makes tokens.
const OFFICER: &str = "45362718";

/// Where Debian has the TPM's.
const TPM: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1",
    "/usr/lib/aarch64-linux-gnu/libtpm2_pkcs11.so.1",
];

/// A token with its PIN in a file; what it holds is on disk.
#[derive(Debug)]
pub struct Token {
    module: PathBuf,
    label: &'static str,
    directory: tempfile::TempDir,
    environment: Vec<(String, PathBuf)>,
    _tpm: Option<(Running, [Port; 2])>,
}

impl Token {
    /// A token of `SoftHSM`.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn softhsm(label: &'static str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("vestibule-token-").tempdir()?;
        let (tokens, configuration) =
            (directory.path().join("tokens"), directory.path().join("softhsm2.conf"));
        fs::create_dir(&tokens).context("its folder")?;
        fs::write(&configuration, format!("directories.tokendir = {}\n", tokens.display()))?;
        let environment = vec![("SOFTHSM2_CONF".to_owned(), configuration)];
        let token = Self { module: SOFTHSM.into(), label, directory, environment, _tpm: None };
        let mut make = Command::new("softhsm2-util");
        make.args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", OFFICER]);
        run(token.among(&mut make), 30)?.ok()?;
        token.write_pin(PIN)?;
        Ok(token)
    }

    /// A token in a TPM.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn tpm(label: &'static str) -> Result<Self> {
        let module = TPM.iter().map(PathBuf::from).find(|path| path.exists());
        let module = module.context("no tpm2-pkcs11: run `cargo xtask setup --for test`")?;
        let directory = tempfile::Builder::new().prefix("vestibule-tpm-").tempdir()?;
        let (state, store) = (directory.path().join("state"), directory.path().join("store"));
        fs::create_dir(&state).context("its state")?;
        fs::create_dir(&store).context("its store")?;
        let ports = [Port::take()?, Port::take()?];
        let [server, control] = ports.each_ref().map(Port::number);
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
        command.arg("--tpmstate").arg(format!("dir={}", state.display()));
        command.arg("--server").arg(format!("type=tcp,port={server}"));
        command.arg("--ctrl").arg(format!("type=tcp,port={control}"));
        let log = fs::File::create(directory.path().join("log")).context("its log")?;
        let tpm = Running::new(
            "swtpm",
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log),
        )?;
        // The TPM takes one connection and ends with it; its control channel takes any.
        wait_until("the TPM listens", 30, || {
            Ok(TcpStream::connect(("127.0.0.1", control)).is_ok())
        })?;
        let tcti = PathBuf::from(format!("swtpm:port={server}"));
        let environment = vec![
            ("TPM2_PKCS11_STORE".to_owned(), store),
            ("TPM2_PKCS11_TCTI".to_owned(), tcti),
            ("TSS2_LOG".to_owned(), "all+NONE".into()),
        ];
        let token = Self { module, label, directory, environment, _tpm: Some((tpm, ports)) };
        token.tool(&["--slot", "1", "--init-token", "--label", label, "--so-pin", OFFICER])?;
        token.tool(&["--token-label", label, "--init-pin", "--so-pin", OFFICER, "--pin", PIN])?;
        token.write_pin(PIN)?;
        Ok(token)
    }

    /// Runs OpenSC's `pkcs11-tool` on it.
    ///
    /// # Errors
    /// If that fails.
    pub fn tool(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(&self.module).args(arguments);
        run(self.among(&mut command), 60)?.ok()
    }

    /// The same, for its user.
    ///
    /// # Errors
    /// If that fails.
    pub fn as_user(&self, arguments: &[&str]) -> Result<String> {
        let login = ["--token-label", self.label, "--login", "--pin", PIN];
        self.tool(&[login.as_slice(), arguments].concat())
    }

    /// What the daemon's configuration says of it.
    pub fn rule(&self) -> String {
        format!(
            "[archive.key]\nmodule = \"{}\"\ntoken = \"{}\"\nlabel = \"checkpoints\"\npin_file = \"{}\"\n",
            self.module.display(),
            self.label,
            self.pin_file().display()
        )
    }

    /// How its module finds it.
    pub fn environment(&self) -> &[(String, PathBuf)] {
        &self.environment
    }

    /// Sets what the file with the PIN says.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write_pin(&self, pin: &str) -> Result<()> {
        fs::write(self.pin_file(), format!("{pin}\n")).context("its PIN")?;
        fs::set_permissions(self.pin_file(), fs::Permissions::from_mode(0o600)).context("its mode")
    }

    /// Takes it away (`SoftHSM` alone), or puts it back.
    ///
    /// # Errors
    /// If it is not where it should be.
    pub fn take_away(&self, away: bool) -> Result<()> {
        let (here, there) =
            (self.directory.path().join("tokens"), self.directory.path().join("taken"));
        if !here.exists() && !there.exists() {
            bail!("only a token of SoftHSM is taken away");
        }
        let (from, to) = if away { (&here, &there) } else { (&there, &here) };
        if away {
            fs::rename(from, to)?;
            return fs::create_dir(&here).context("an empty folder");
        }
        fs::remove_dir_all(&here).context("the empty folder")?;
        fs::rename(from, to).context("the token")
    }

    fn pin_file(&self) -> PathBuf {
        self.directory.path().join("pin")
    }

    fn among<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.envs(self.environment.iter().map(|(name, value)| (name, value as &Path)))
    }
}
