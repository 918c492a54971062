//! rsyslog as a receiver, over TCP or TLS: what it took stands in a file. It can be killed and started again.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::certificates::Certificates;
use crate::port::Port;
use crate::process::{Running, wait_until};

/// A receiver; dead or alive.
#[derive(Debug)]
pub struct Rsyslog {
    process: Option<Running>,
    port: Port,
    directory: tempfile::TempDir,
}

impl Rsyslog {
    /// Starts one; with TLS by the server's certificate of `certificates`.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn start(certificates: Option<&Certificates>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("vestibule-rsyslog-").tempdir()?;
        let port = Port::take()?;
        let stream = match certificates {
            None => String::new(),
            Some(certificates) => format!(
                "global(defaultNetstreamDriver=\"ossl\" defaultNetstreamDriverCAFile=\"{}\"\n\
                 defaultNetstreamDriverCertFile=\"{}\" defaultNetstreamDriverKeyFile=\"{}\")\n",
                certificates.path("bank.crt").display(),
                certificates.path("server.crt").display(),
                certificates.path("server.key").display(),
            ),
        };
        let driver = if certificates.is_some() {
            "StreamDriver.Name=\"ossl\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\""
        } else {
            ""
        };
        let took = directory.path().join("took");
        let configuration = format!(
            "global(workDirectory=\"{work}\" maxMessageSize=\"128k\")\n{stream}\
             module(load=\"imtcp\" {driver})\n\
             input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\n\
             template(name=\"whole\" type=\"string\" string=\"%rawmsg-after-pri%\\n\")\n\
             action(type=\"omfile\" file=\"{took}\" template=\"whole\" asyncWriting=\"off\" flushOnTXEnd=\"on\")\n",
            work = directory.path().display(),
            port = port.number(),
            took = took.display(),
        );
        fs::write(directory.path().join("rsyslog.conf"), configuration).context("rsyslog.conf")?;
        let mut own = Self { process: None, port, directory };
        own.restart()?;
        Ok(own)
    }

    /// Starts it (again); what it took stays.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn restart(&mut self) -> Result<()> {
        let folder = self.directory.path();
        let pid = folder.join("pid");
        fs::remove_file(&pid).ok();
        let log = fs::File::options().create(true).append(true).open(folder.join("log"))?;
        let mut command = Command::new("rsyslogd");
        command.arg("-n").arg("-f").arg(folder.join("rsyslog.conf")).arg("-i").arg(&pid);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.process = Some(Running::new("rsyslogd", &mut command)?);
        let port = self.port.number();
        wait_until("rsyslog listens", 30, || Ok(TcpStream::connect(("127.0.0.1", port)).is_ok()))
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// What it took, a line a message.
    pub fn took(&self) -> String {
        let path: PathBuf = self.directory.path().join("took");
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }
}
