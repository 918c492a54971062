//! A pgbouncer of one's own before a private PostgreSQL.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::port::Port;
use crate::process::{Running, wait_until};
use crate::{Postgres, bank};

/// A pooler that runs until it is dropped.
#[derive(Debug)]
pub struct Pgbouncer {
    _process: Running,
    port: Port,
    _folder: TempDir,
}

impl Pgbouncer {
    /// Starts one for [`bank::ROLE`], its pool in this mode (pgbouncer.ini(5), `pool_mode`).
    ///
    /// # Errors
    /// If it is not installed, or listens not within ten seconds.
    pub fn start(server: &Postgres, mode: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("vestibule-pool-").tempdir();
        let folder = folder.context("no temporary folder")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .context("the folder's mode")?;
        let port = Port::take()?;
        let users = folder.path().join("users.txt");
        fs::write(&users, format!("\"{}\" \"{}\"\n", bank::ROLE, bank::PASSWORD))
            .context("users.txt")?;
        let config = format!(
            "[databases]\n{database} = host=127.0.0.1 port={upstream}\n\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {users}\npool_mode = {mode}\n\
             ignore_startup_parameters = extra_float_digits\n",
            database = bank::DATABASE,
            upstream = server.port(),
            port = port.number(),
            users = users.display(),
        );
        let path = folder.path().join("pgbouncer.ini");
        fs::write(&path, config).context("pgbouncer.ini")?;
        // It refuses to run as root.
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]);
        command.arg("/usr/sbin/pgbouncer").arg("--quiet").arg(path);
        let log = File::create(folder.path().join("log")).context("its log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone().context("its log")?).stderr(log);
        let mut process = Running::new("pgbouncer", command.current_dir(folder.path()))?;
        wait_until("pgbouncer listens", 10, || {
            if !process.is_running()? {
                let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                bail!("pgbouncer ended: {log}");
            }
            Ok(std::net::TcpStream::connect(("127.0.0.1", port.number())).is_ok())
        })?;
        Ok(Self { _process: process, port, _folder: folder })
    }

    /// Answers its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}
