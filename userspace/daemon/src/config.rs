//! The configuration file: TOML, parsed into types at once, unknown keys refused.

mod archive;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

pub(crate) use self::archive::{Archive, RetentionRule, Timestamps};
use anyhow::{Context, Result, ensure};
use proxy::targets::{Ack, AddressPattern, Protocol, TargetRule, Targets};
use redirect::guard::Mode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::approvals::{self, ApprovalsRule, WebhookRule};
use crate::console::{self, ConsoleRule};
use crate::credential::{self, Catalog, Credential};
use crate::forwarding::{self, ForwardRule};
use crate::journal_prune::{self, PruneJournal};
use crate::journal_seal::SealRule;
use crate::keeper::{IdentityRule, IssuerRule, Logout, Rules};
use crate::link::HubRule;
use crate::profile::{self, ProfileRule};
use crate::recordings::{self, RecordingsRule};
use crate::rules::{self, Engines, EnrollRule};
use crate::secret::VaultServer;
use crate::signing::TokenRule;
use crate::tls::{TargetRules, Tls};

/// The whole file. Everything has a default that works on a plain host, but targets and policies.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where it was read from.
    #[serde(skip)]
    pub(crate) file: PathBuf,
    /// Whether a damaged journal is opened, what is bad set aside; never from the file.
    #[serde(skip)]
    pub(crate) accept_loss: bool,
    /// This node's name in records; the host name where absent.
    pub(crate) node: Option<String>,
    /// Journal, archive and keys; root only.
    #[serde(default = "state_dir")]
    pub(crate) state_dir: PathBuf,
    /// The control socket; root only.
    #[serde(default = "run_dir")]
    pub(crate) run_dir: PathBuf,
    /// Schema, policies and classification.
    #[serde(default = "policy_dir")]
    pub(crate) policy_dir: PathBuf,
    /// The kernel side.
    #[serde(default)]
    pub(crate) kernel: Kernel,
    /// Where redirected connections arrive.
    #[serde(default)]
    pub(crate) listener: Listener,
    /// Agents' look-ups of names.
    #[serde(default)]
    pub(crate) dns: Dns,
    /// The data path.
    #[serde(default)]
    pub(crate) proxy: Proxy,
    /// What agents may reach at all; anything else is refused.
    #[serde(default)]
    pub(crate) target: Vec<Target>,
    /// What sessions at targets are authenticated with, in the agents' place.
    #[serde(default)]
    pub(crate) credential: Vec<Credential>,
    /// Where some of their secrets are.
    pub(crate) vault: Option<VaultServer>,
    /// Whose tokens say whom agents act for.
    #[serde(default)]
    pub(crate) issuer: Vec<IssuerRule>,
    /// As whom the daemon has tokens for agents.
    #[serde(default)]
    pub(crate) identity: Vec<IdentityRule>,
    /// Where they say who logged out.
    #[serde(default)]
    pub(crate) logout: Logout,
    /// Approvals of commands that policies hold.
    #[serde(default)]
    pub(crate) approvals: ApprovalsRule,
    /// Who is told what becomes of them.
    #[serde(default)]
    pub(crate) webhook: Vec<WebhookRule>,
    /// The hub where people of several hosts answer what waits for approval; none where absent.
    pub(crate) hub: Option<HubRule>,
    /// The console, for people who approve and who watch; there is none where absent.
    pub(crate) console: Option<ConsoleRule>,
    /// How agents are started and held.
    #[serde(default)]
    pub(crate) profile: Vec<ProfileRule>,
    /// What becomes an agent without being started as one.
    #[serde(default)]
    pub(crate) enroll: Vec<EnrollRule>,
    /// How container engines are asked about their containers.
    #[serde(default)]
    pub(crate) engines: Engines,
    /// The journal.
    #[serde(default)]
    pub(crate) journal: Journal,
    /// The archive.
    #[serde(default)]
    pub(crate) archive: Archive,
    /// Who gets rows as they are committed.
    #[serde(default)]
    pub(crate) forward: Vec<ForwardRule>,
    /// To whom recordings are sealed; in clear, masked, where absent.
    pub(crate) recordings: Option<RecordingsRule>,
    /// TLS towards agents.
    #[serde(default)]
    pub(crate) tls: Tls,
    /// TLS taps: observation, no control.
    #[serde(default)]
    pub(crate) tap: Tap,
}

/// The kernel side.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Kernel {
    /// The cgroup under which agents run, below the cgroup v2 mount; one of systemd's slices where
    /// systemd starts agents.
    pub(crate) slice: String,
    /// Where links and maps are pinned, below a bpffs.
    pub(crate) pin_dir: PathBuf,
    /// Whether BPF LSM programs hold agents that run as root (assurance level A2).
    pub(crate) guard: GuardMode,
    /// Files and directories that guarded agents may read and not change, besides the daemon's own.
    pub(crate) protect: Vec<PathBuf>,
    /// Whom agents may speak to by AF_UNIX where no guard holds them.
    pub(crate) unix: UnixMode,
    /// AF_UNIX sockets that agents may connect to; guarded ones to their own as well.
    pub(crate) allow_unix: Vec<PathBuf>,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            slice: "vestibule.slice".into(),
            pin_dir: "/sys/fs/bpf/vestibule".into(),
            guard: GuardMode::Auto,
            protect: Vec::new(),
            unix: UnixMode::Listed,
            allow_unix: Vec::new(),
        }
    }
}

/// When to guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GuardMode {
    /// Where the kernel runs BPF LSM programs.
    Auto,
    /// Always: the daemon does not start elsewhere.
    Required,
    /// Never.
    Off,
}

/// Which AF_UNIX sockets agents reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnixMode {
    /// Those of `allow_unix`, where the kernel has hooks for it.
    Listed,
    /// All that file modes let them.
    Any,
}

/// Where redirected connections arrive.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listener {
    /// The port on 127.0.0.1 and ::1.
    pub(crate) port: u16,
}

impl Default for Listener {
    fn default() -> Self {
        Self { port: 15_001 }
    }
}

/// Agents' look-ups of names.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Dns {
    /// Whether they are answered; where not, agents have no DNS at all.
    pub(crate) enabled: bool,
    /// The UDP port on 127.0.0.1 and ::1.
    pub(crate) port: u16,
    /// The servers that are asked, `IP` or `IP:PORT`; those of `/etc/resolv.conf` where absent.
    pub(crate) upstream: Vec<String>,
    /// Names that need no server.
    pub(crate) hosts: PathBuf,
    /// Questions that one instance of an agent may ask a second.
    pub(crate) queries_per_second: u32,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            enabled: true,
            port: 15_053,
            upstream: Vec::new(),
            hosts: "/etc/hosts".into(),
            queries_per_second: 50,
        }
    }
}

impl Dns {
    /// The port that the kernel redirects to; 0 where look-ups are not answered.
    pub(crate) fn port(&self) -> u16 {
        if self.enabled { self.port } else { 0 }
    }

    /// The servers.
    pub(crate) fn upstream(&self) -> Result<Vec<SocketAddr>> {
        let server = |text: &String| {
            let ip = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
            let bad = || format!("dns.upstream: `{text}` is neither IP nor IP:PORT");
            ip.or_else(|_| text.parse()).with_context(bad)
        };
        self.upstream.iter().map(server).collect()
    }
}

/// The data path.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Proxy {
    /// Worker threads; half the processors where absent. At most 64.
    pub(crate) workers: Option<usize>,
}

/// Something agents may reach.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// Its name in policies and records.
    pub(crate) name: String,
    /// `IP:PORT`, `[IPv6]:PORT`, `CIDR:PORT`, `NAME:PORT`, `*.NAME:PORT` or `*:PORT`. A name matches
    /// connections to what the agent's own lookups of it were answered.
    pub(crate) address: String,
    /// What it speaks.
    pub(crate) protocol: ProtocolName,
    /// When with TLS, and how it is verified.
    #[serde(default)]
    pub(crate) tls: TargetRules,
    /// How the daemon learns what relations its databases have.
    #[serde(default)]
    pub(crate) catalog: Catalog,
    /// Whether servers are told the session's id, at the end of `application_name` (PostgreSQL), so that their own logs
    /// name it and `vestibule reconcile` can hold them against the archive.
    #[serde(default = "yes")]
    pub(crate) mark_sessions: bool,
    /// What waits until a command's record is on disk. Its answer always does.
    #[serde(default)]
    pub(crate) ack: AckMode,
}

/// What waits until a command's record is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AckMode {
    /// What changes something goes to the server only then.
    #[default]
    Wal,
    /// Plain changes of data go to the server meanwhile, as reads do, and their answers wait: after a crash within that
    /// time one may have taken effect that has no record. What defines, is privileged, unknown or approved waits.
    /// PostgreSQL only.
    Group,
}

fn yes() -> bool {
    true
}

/// The protocols there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProtocolName {
    /// PostgreSQL.
    Postgresql,
    /// HTTP/1.1.
    Http,
}

impl From<ProtocolName> for Protocol {
    fn from(name: ProtocolName) -> Self {
        match name {
            ProtocolName::Postgresql => Self::Postgresql,
            ProtocolName::Http => Self::Http,
        }
    }
}

/// The journal.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Journal {
    /// Where it lies; `journal` below the state directory where absent.
    pub(crate) dir: Option<PathBuf>,
    /// The size of a segment; 64 MiB where absent.
    pub(crate) segment_bytes: Option<u64>,
    /// Free space below which nothing more is accepted; 5 % + 1 GiB of the file system where absent.
    pub(crate) reserve_bytes: Option<u64>,
    /// When segments go whose rows are safe elsewhere; `witnessed` where there are a store and witnesses, else `never`.
    pub(crate) prune: Option<PruneJournal>,
    /// Days for which they stay nevertheless; longer where a start reads back further: for approvals a day and two hours,
    /// for limits over windows as long as the longest.
    pub(crate) keep_days: u32,
    /// Forward-secure seals between checkpoints; none where absent.
    pub(crate) seal: Option<SealRule>,
}

impl Default for Journal {
    /// A week, in which what went wrong elsewhere is noticed.
    fn default() -> Self {
        Self {
            dir: None,
            segment_bytes: None,
            reserve_bytes: None,
            prune: None,
            keep_days: 7,
            seal: None,
        }
    }
}

/// TLS taps: what agents say through libssl, observed and recorded, masked.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tap {
    /// Whether there are any.
    pub(crate) enabled: bool,
    /// Files tapped from the start, where they exist; others are found once an agent has them mapped.
    pub(crate) libraries: Vec<PathBuf>,
    /// Calls recorded of one agent within one second; more are counted.
    pub(crate) records_per_second: u32,
}

impl Default for Tap {
    /// Twenty records of 4 KiB are 80 KiB a second and agent, at most.
    fn default() -> Self {
        let libraries = redirect::tap::SYSTEM_LIBRARIES.map(PathBuf::from).into();
        Self { enabled: false, libraries, records_per_second: 20 }
    }
}

impl Config {
    /// Reads and checks a file; says the line and column of what is wrong.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} can't be read", path.display()))?;
        let mut config: Self =
            toml::from_str(&text).with_context(|| format!("{} is not right", path.display()))?;
        path.clone_into(&mut config.file);
        ensure!(
            !journal::imported::is_import(&config.node()),
            "node: a host can't be called `{}`: imports of captures are; set `node` to another name",
            config.node()
        );
        config.targets()?;
        credential::check(&config)?;
        config.identities().check(config.vault.is_some())?;
        approvals::check(&config)?;
        config.hub.as_ref().map_or(Ok(()), |hub| hub.check(&config.node()))?;
        console::check(&config)?;
        let Archive { witnesses, ship, compact, .. } = &config.archive;
        ship.as_ref().map_or(Ok(()), |ship| ship.check(witnesses.is_some()))?;
        config.archive.key.as_ref().map_or(Ok(()), |key| key.pin().map(drop))?;
        forwarding::check(&config.forward)?;
        journal_prune::check(&config)?;
        let prune = ship.as_ref().map(|ship| ship.prune);
        compact
            .as_ref()
            .map_or(Ok(()), |compact| compact.check(prune, config.archive.immutable))?;
        profile::check(&config.profile)?;
        config.recordings.as_ref().map_or(Ok(()), |rule| rule.keys().map(drop))?;
        config.journal.seal.as_ref().map_or(Ok(()), |rule| rule.keys().map(drop))?;
        rules::check(&config.enroll, &config.identities().names())?;
        config.dns.upstream()?;
        ensure!(config.dns.port != 0, "dns.port: must not be 0; to have none, dns.enabled = false");
        ensure!(config.dns.queries_per_second > 0, "dns.queries_per_second: at least 1");
        ensure!(config.workers() <= WORKERS_MAX, "proxy.workers: at most {WORKERS_MAX}");
        ensure!(config.listener.port != 0, "listener.port: must not be 0");
        ensure!(
            config.tap.records_per_second <= TAP_RECORDS_MAX,
            "tap.records_per_second: at most {TAP_RECORDS_MAX}"
        );
        let slice = &config.kernel.slice;
        ensure!(
            !slice.is_empty() && !slice.starts_with('/') && !slice.split('/').any(|p| p == ".."),
            "kernel.slice: a path below the cgroup mount, such as `vestibule`"
        );
        Ok(config)
    }

    /// What it says of identities.
    pub(crate) fn identities(&self) -> Rules<'_> {
        Rules { issuers: &self.issuer, identities: &self.identity }
    }

    /// Where the host's certificate authority is.
    pub(crate) fn ca_dir(&self) -> PathBuf {
        self.tls.ca_dir.clone().unwrap_or_else(|| self.state_dir.join("ca"))
    }

    /// The targets, in order.
    pub(crate) fn targets(&self) -> Result<Targets> {
        let rule = |target: &Target| -> Result<TargetRule> {
            let Target { name, address, protocol, tls, catalog, mark_sessions, ack } = target;
            let address: AddressPattern =
                address.parse().with_context(|| format!("target `{name}`: address"))?;
            let protocol = Protocol::from(*protocol);
            // A path of policies is this name and a path: none may be read as another target's.
            let is_name = protocol != Protocol::Http || !name.contains('/');
            ensure!(is_name, "target `{name}`: name: no slash, where the protocol is http");
            ensure!(
                protocol != Protocol::Http || *ack == AckMode::Wal,
                "target `{name}`: ack: `group` is for protocol postgresql"
            );
            let tls = tls.compile(protocol).with_context(|| format!("target `{name}`"))?;
            let interval = catalog.interval();
            let catalog_interval = interval.with_context(|| format!("target `{name}`: catalog"))?;
            let name = name.as_str().into();
            let marks_sessions = *mark_sessions;
            let ack = match ack {
                AckMode::Wal => Ack::Wal,
                AckMode::Group => Ack::Group,
            };
            Ok(TargetRule { name, address, protocol, tls, catalog_interval, marks_sessions, ack })
        };
        Ok(Targets::new(self.target.iter().map(rule).collect::<Result<_>>()?))
    }

    /// What guarded agents are kept from: the daemon's state and run directories altogether, its
    /// policies, configuration and program from being changed, secrets altogether. All must be there.
    pub(crate) fn guard(&self) -> Result<redirect::Guard> {
        let Kernel { guard, protect, .. } = &self.kernel;
        let mut protected = protect.clone();
        protected.extend([self.policy_dir.clone(), self.file.clone()]);
        protected.extend(recordings::protected(self.recordings.as_ref()).map(Path::to_owned));
        protected.push(std::env::current_exe().context("the daemon's own program is unknown")?);
        protected.extend(self.archive.key.as_ref().map(|key| key.module().to_owned()));
        let mut hidden = credential::hidden(self)?;
        hidden.extend(self.archive.key.as_ref().map(TokenRule::pin).transpose()?);
        hidden.extend(self.hub.as_ref().map(|hub| hub.key.clone()));
        hidden.extend(self.archive.ship.as_ref().and_then(|ship| ship.credentials.clone()));
        hidden.extend(self.console.as_ref().and_then(|console| console.key.clone()));
        hidden.extend([
            self.state_dir.clone(),
            self.run_dir.clone(),
            self.journal_dir(),
            self.archive_dir(),
        ]);
        hidden.extend(self.recordings.as_ref().and_then(|rule| rule.vault.clone()));
        Ok(redirect::Guard {
            mode: match guard {
                GuardMode::Auto => Mode::Auto,
                GuardMode::Required => Mode::Required,
                GuardMode::Off => Mode::Off,
            },
            hidden,
            protected,
        })
    }

    /// What of AF_UNIX agents may use.
    pub(crate) fn unix(&self) -> redirect::Unix {
        let mode = match self.kernel.unix {
            UnixMode::Listed => redirect::unix::Mode::Listed,
            UnixMode::Any => redirect::unix::Mode::Any,
        };
        let control = Some(self.control_socket());
        redirect::Unix { mode, allow: self.kernel.allow_unix.clone(), control }
    }

    /// This node's name.
    pub(crate) fn node(&self) -> String {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.node.clone().unwrap_or_else(host)
    }

    /// Worker threads.
    pub(crate) fn workers(&self) -> usize {
        let half = || std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2));
        self.proxy.workers.unwrap_or_else(half).max(1)
    }

    /// Where the journal lies.
    pub(crate) fn journal_dir(&self) -> PathBuf {
        self.journal.dir.clone().unwrap_or_else(|| self.state_dir.join("journal"))
    }

    /// Where the archive lies.
    pub(crate) fn archive_dir(&self) -> PathBuf {
        self.archive.dir.clone().unwrap_or_else(|| self.state_dir.join("archive"))
    }

    /// Where keys lie.
    pub(crate) fn keys_dir(&self) -> PathBuf {
        self.state_dir.join("keys")
    }

    /// The control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }
}

/// Each worker has an epoll instance, a 64 KiB buffer and a stack: 64 are 10 MiB.
const WORKERS_MAX: usize = 64;

/// One agent's calls recorded within a second: 1,000 × about 5 KiB, a thirteenth of a segment.
const TAP_RECORDS_MAX: u32 = 1000;

fn state_dir() -> PathBuf {
    "/var/lib/vestibule".into()
}

fn run_dir() -> PathBuf {
    "/run/vestibule".into()
}

fn policy_dir() -> PathBuf {
    "/etc/vestibule/policies".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        Config::load(file.path())
    }

    #[test]
    fn an_empty_file_works() {
        let config = load("").unwrap();
        assert_eq!(config.listener.port, 15_001);
        assert!(config.workers() >= 1);
    }

    #[test]
    fn mistakes_about_evidence_are_named() {
        for (text, told) in [
            ("[[forward]]\nname='a'\nto='udp://h:1'", "`udp://h:1` is none of file://"),
            ("[[forward]]\nname='a b'\nto='file:///l'", "name: letters"),
            (
                "[[forward]]\nname='a'\nto='file:///l'\n[[forward]]\nname='a'\nto='file:///m'",
                "a name that no other has",
            ),
            (
                "[[forward]]\nname='a'\nto='syslog+tcp://h:1'\nformat='json'",
                "over syslog it is syslog's own",
            ),
            ("[journal]\nprune = 'after-remote'", "journal.prune: \"after-remote\" needs a store"),
            ("[journal]\nprune = 'witnessed'", "needs a store and witnesses"),
            ("[journal]\nprune = 'always'", "unknown variant `always`"),
            ("[journal.seal]\nrecipients = []", "journal.seal.recipients: at least one"),
            ("[journal.seal]\nrecipients = ['/a']\ninterval_ms = 1", "journal.seal.interval_ms"),
            ("[archive.key]\nmodule='/m'\ntoken='t'", "one of pin_file and pin_credential"),
            ("[archive.key]\nmodule='/m'\ntoken='t'\npin='1'", "unknown field `pin`"),
        ] {
            let error = format!("{:#}", load(text).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, told) in [
            ("nod = 'x'", "unknown field `nod`"),
            ("[proxy]\nworker = 3", "unknown field `worker`"),
            ("[proxy]\nworkers = 65", "proxy.workers"),
            ("[tap]\nrecords_per_second = 1001", "tap.records_per_second"),
            ("[kernel]\nslice = '../x'", "kernel.slice"),
            ("[kernel]\nguard = 'on'", "unknown variant `on`"),
            ("[recordings]\nrecipients = []", "recordings.recipients: at least one"),
            ("[recordings]\nrecipients = ['/none.pub']", "/none.pub"),
            ("[dns]\nport = 0", "dns.port"),
            ("[dns]\nupstream = ['10.0.0.53', 'ns.example']", "`ns.example` is neither"),
            (
                "[[target]]\nname='a'\naddress='x..y:1'\nprotocol='postgresql'",
                "`x..y:1` is no address",
            ),
            ("[[target]]\nname='a'\naddress='*:1'\nprotocol='http'\nack='group'", "ack: `group`"),
            ("[[target]]\nname='a'\naddress='*:1'\nprotocol='mysql'", "unknown variant `mysql`"),
            ("[[credential]]\ntarget='a'\naccount='x'\nsecret_file='/s'", "`a` is none"),
            ("[[credential]]\ntarget='a'\naccount='x'\npassword='y'", "unknown field `password`"),
            (
                "[[target]]\nname='a'\naddress='*:1'\nprotocol='postgresql'\n\
                 [[credential]]\ntarget='a'\naccount='x'\nsecret_env='X'\nephemeral={prefix='pg_x'}",
                "prefix: 1 to 16",
            ),
            (
                "[[target]]\nname='a'\naddress='*:1'\nprotocol='postgresql'\n\
                 [[credential]]\ntarget='a'\naccount='x'\nsecret_env='X'\nephemeral={}\n\
                 [[credential]]\ntarget='a'\naccount='x'\nsecret_env='Y'",
                "a name that no other has",
            ),
            ("[[issuer]]\nurl='http://v'\naudiences=['a']", "issuer `http://v`: an issuer is"),
            ("[archive.ship]\nurl='ftp://b'", "s3://, gs://"),
            ("[archive.ship]\nurl='s3://b'\nbucket='b'", "unknown field `bucket`"),
            ("[archive.ship]\nurl='s3://b'\nprune='always'", "unknown variant `always`"),
            ("[archive.ship]\nurl='s3://b'\nprune='witnessed'", "needs archive.witnesses"),
            ("[archive.ship]\nurl='gs://b'\nlock={mode='compliance'}", "s3:// alone"),
            ("[archive.compact]\nafter_days=0", "at least 1, the next day"),
            (
                "[archive.compact]\n[archive.ship]\nurl='s3://b'\nprune='after-remote'",
                "archive.ship.prune must be",
            ),
            ("[vault]\naddress='https://v'", "one of token_file, token_credential and role_id"),
            ("[vault]\naddress='https://v'\nrole_id='x'", "one of secret_id_file"),
            ("[vault]\naddress='https://v'\ntoken_file='/t'\ncache_s=0", "cache_s"),
            (
                "[[target]]\nname='a'\naddress='*:1'\nprotocol='postgresql'\n\
                 [[credential]]\ntarget='a'\naccount='x'\nsecret_vault={path='b'}",
                "there is no [vault]",
            ),
            (
                "[[target]]\nname='a'\naddress='*:1'\nprotocol='postgresql'\n\
                 [[credential]]\ntarget='a'\naccount='x'\nsecret_env='X'\nsecret_file='/s'",
                "one of secret_file, secret_credential, secret_env and secret_vault",
            ),
            (
                "[[target]]\nname='a'\naddress='*:1'\nprotocol='postgresql'\ncatalog={interval_s=0}",
                "target `a`: catalog: interval_s",
            ),
            (
                "[[target]]\nname='a'\naddress='*:1'\nprotocol='postgresql'\ncatalog={secret_file='/s'}",
                "account: the role",
            ),
            (
                "[[target]]\nname='a'\naddress='*:1'\nprotocol='postgresql'\ncatalog={account='x'}",
                "one of secret_file, secret_credential, secret_env and secret_vault",
            ),
        ] {
            let error = format!("{:#}", load(text).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }
}
