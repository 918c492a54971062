//! A time-stamp authority of one's own: OpenSSL's (`openssl ts`), behind a few lines of HTTP.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::paths;
use crate::port::Port;
use crate::process::{Running, run, wait_until};

/// What `openssl ts` and `openssl req` go by.
const CONFIGURATION: &str = "
[req]
distinguished_name = name
prompt = no
[name]
CN = Time of the tests
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[stamps]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[tsa]
default_tsa = own
[own]
serial = serial
signer_cert = tsa.pem
certs = ca.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
";

/// The authority; it ends with this.
#[derive(Debug)]
pub struct Tsa {
    port: Port,
    directory: tempfile::TempDir,
    _process: Running,
}

impl Tsa {
    /// Starts one.
    ///
    /// # Errors
    /// If OpenSSL does not make its keys, or it does not listen.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("vestibule-tsa-").tempdir()?;
        let folder = directory.path();
        fs::write(folder.join("tsa.cnf"), CONFIGURATION).context("tsa.cnf")?;
        fs::write(folder.join("serial"), "01\n").context("its serial number")?;
        let openssl = |line: &str| -> Result<String> {
            let mut command = Command::new("openssl");
            run(command.args(line.split(' ')).current_dir(folder), 30)?.ok()
        };
        openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 3650 -config tsa.cnf -extensions authority -subj /CN=Authority -keyout ca.key -out ca.pem",
        )?;
        openssl(
            "req -newkey rsa:2048 -nodes -config tsa.cnf -subj /CN=Clock -keyout tsa.key -out tsa.csr",
        )?;
        openssl(
            "x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile tsa.cnf -extensions stamps -out tsa.pem",
        )?;
        fs::write(folder.join("tsa.py"), include_str!("tsa.py")).context("the authority")?;
        let port = Port::take()?;
        let mut command = Command::new(paths::python());
        command.arg(folder.join("tsa.py")).arg(port.number().to_string()).arg(folder);
        let process = Running::new("tsa", command.stdin(Stdio::null()))?;
        let number = port.number();
        wait_until("the authority listens", 30, || {
            Ok(TcpStream::connect(("127.0.0.1", number)).is_ok())
        })?;
        Ok(Self { port, directory, _process: process })
    }

    /// Answers where it takes requests.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port.number())
    }

    /// Answers the certificate that vouches for it.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Has it refuse from now on, or answer again.
    ///
    /// # Errors
    /// If it can't be told.
    pub fn close(&self, is_closed: bool) -> Result<()> {
        let path = self.directory.path().join("closed");
        let done = if is_closed { fs::write(path, "") } else { fs::remove_file(path) };
        done.context("the authority can't be told")
    }
}
