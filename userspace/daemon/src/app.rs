//! Wiring: what is made in which order, and how it ends.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use archive::layout;
use identity::names::Names;
use identity::{Enrollments, Processes};
use journal::clock::SystemClock;
use journal::recorder::{Options, Recorder, Reserve};
use policy::{PolicySet, PolicySource};
use proto::sql::Analyzer;
use proxy::accept::Running;
use proxy::approvals::Approvals;
use proxy::catalogs::Catalogs;
use proxy::counters::Counters;
use proxy::credentials::Credentials;
use proxy::door::{Door, LocalService, MaskSets, Netns};
use proxy::durability::Durability;
use proxy::ephemeral::{self, Roles};
use proxy::flows::Flows;
use proxy::recount::recount;
use proxy::sessions::Sessions;
use proxy::sparing::Sparing;
use proxy::windows::Windows;
use redirect::Kernel;
use redirect::event::Event;
use redirect_common::MAX_LISTENERS;
use resolver::Progress;
use resolver::hosts::Hosts;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;
use tracing::{info, warn};
use types::clock::Clock;
use types::limits::SESSIONS_MAX;

use crate::agents::Agents;
use crate::approvals::{self, HostApprovals};
use crate::archiver::{Archiver, Vault};
use crate::compactor::Compactor;
use crate::config::Config;
use crate::desk::Desk;
use crate::enroller::Enroller;
use crate::environment::Environment;
use crate::execs::Follower;
use crate::forwarding::Forwarding;
use crate::inside::{self, Inside};
use crate::journal_prune::Pruner;
use crate::keeper::{self, Bearers, Keeper};
use crate::kernel::Records;
use crate::names::Service;
use crate::namespaces::Namespaces;
use crate::secret::Stores;
use crate::stamps::Stamps;
use crate::tap::{Surroundings, Taps};
use crate::watch::Watch;
use crate::{
    blinding, bundle, console, control, credential, durable, guard, journal_prune, journal_seal,
    link, recordings, sources, tls,
};

/// How often agents whose last process ended are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How often cgroups and processes are held against the enrolment rules.
const RULES_INTERVAL: Duration = Duration::from_secs(1);

/// How often a heartbeat row says that nothing is silent (EVIDENCE: at least every 60 s).
const HEARTBEAT_INTERVAL: Duration = Duration::from_mins(1);

/// Why the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to: agents are refused.
    Stopped,
    /// Agents were let go.
    Disarmed,
    /// A cgroup lost its hooks: the next start arms it again.
    Severed,
}

/// Runs the daemon until SIGTERM or SIGINT: agents are refused from the moment it ends. Or until
/// agents are let go.
pub(crate) fn run(config: &Config, environment: &Environment) -> Result<Ended> {
    leave_no_core()?;
    let sessions_max = raise_descriptor_limit();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let vault = credential::vault(config)?;
    let stores = Stores { environment: Some(environment), vault: vault.as_ref() };
    let (inside, knocks) = Inside::new();
    let (bearers, asking) = Bearers::of(&config.issuer);
    let handed = (inside, bearers);
    let desk = Arc::new(prepare(config, stores, (clock, sessions_max), handed)?);
    let kernel = Arc::clone(&desk.agents.kernel);
    let _follower = Follower::start(kernel, Arc::clone(&desk.door.processes))?;
    let adopted = desk.agents.adopt()?;
    desk.keeper.resume();
    let events = desk.agents.kernel.take_events().context("the kernel's events are taken")?;
    let namespaces = Arc::clone(&desk.agents.namespaces);
    let announced = move |event: &Event| {
        namespaces.announced(event.netns_cookie, event.tgid, event.cgroup);
    };
    let watch = Watch::start(Arc::clone(&desk.door), events, Box::new(announced))?;
    let (stop, stopped) = watch::channel(false);
    let door = Arc::clone(&desk.door);
    let (running, accepting) = proxy::accept::start(&door, config.workers(), &stopped)?;
    let resolving = if config.dns.enabled {
        let agents = (&desk.agents.kernel, Arc::new(Hosts::load(&config.dns.hosts)?));
        Some(desk.names.start(config, &door, agents, stopped.clone())?)
    } else {
        None
    };
    desk.agents.namespaces.open(accepting)?;
    let taps = Taps::start(&config.tap, Surroundings::of(&desk))?;
    let console = console::start(config, &desk, stopped.clone())?;
    sources::private_dir(&config.run_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let answering = Arc::clone(&desk);
    let seal_interval = Duration::from_secs(config.archive.seal_interval_s.max(1));
    let path = config.control_socket();
    config.logout.check()?;
    let logout = config.logout.listen;
    let stamps = stamps(config)?;
    let ended = local.block_on(&runtime, async move {
        let socket = control::listen(&path)?;
        if let Some(addr) = logout {
            let listener = TcpListener::bind(addr).await;
            let listener = listener.with_context(|| format!("logout: {addr}"))?;
            let keeper = Arc::clone(&answering.keeper);
            tokio::task::spawn_local(keeper::serve_logout(listener, keeper));
        }
        tokio::task::spawn_local(Arc::clone(&answering.keeper).watch());
        if let Some(stamps) = stamps {
            tokio::task::spawn_local(stamps.keep());
        }
        tokio::task::spawn_local(inside::serve(knocks, Arc::clone(&answering)));
        tokio::task::spawn_local(Arc::clone(&answering.keeper).answer(asking));
        tokio::task::spawn_local(Arc::clone(&answering.approvals).attend());
        if let Some(link) = answering.link.clone() {
            tokio::task::spawn_local(async move { link.run().await });
        }
        info!(node = desk.node, adopted, workers = config.workers(), "ready");
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            warn!(%error, "the service supervisor could not be told");
        }
        attend(answering, socket, seal_interval).await
    })?;
    drop(local);
    drop(runtime);
    drop(taps);
    drop(watch);
    end(&door, &stop, (running, resolving, console))?;
    Ok(ended)
}

/// What is in memory goes to no file when the daemon crashes, and is no other process's to attach to
/// that has not CAP_SYS_PTRACE (prctl(2): PR_SET_DUMPABLE).
pub(crate) fn leave_no_core() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("core dumps")?;
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, nothing).context("core dumps")
}

/// Two sockets a session, four sockets and a namespace for each network namespace there may be,
/// and the daemon's own files.
const DESCRIPTORS_WANTED: u64 = 2 * SESSIONS_MAX as u64 + 5 * MAX_LISTENERS as u64 + 256;

/// Raises the limit of open files as far as sessions may need, or as it goes; answers how many
/// sessions there may be then, with a quarter of few files left for everything else: out of files,
/// nobody could be told anything.
fn raise_descriptor_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = maximum.unwrap_or(u64::MAX).min(DESCRIPTORS_WANTED);
    let sessions = (most - most / 4) / 2;
    let sessions = if most < DESCRIPTORS_WANTED { sessions } else { SESSIONS_MAX as u64 };
    if current.is_none_or(|current| current >= most) {
        return sessions;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }) {
        warn!(%error, "the limit of open files stays");
    }
    if most < DESCRIPTORS_WANTED {
        warn!(most, sessions, "few files may be open; raise LimitNOFILE");
    }
    sessions
}

/// The log's epoch. A new one starts a new log; that comes with the collector.
pub(crate) const EPOCH: u32 = 1;

/// Everything but sockets: journal, policy, kernel hooks.
#[expect(clippy::too_many_lines, reason = "one thing after the other, each once")]
fn prepare(
    config: &Config,
    stores: Stores<'_>,
    (clock, sessions_max): (Arc<dyn Clock>, u64),
    (inside, bearers): (Inside, Option<Arc<dyn proxy::bearer::Bearers>>),
) -> Result<Desk> {
    let started = clock.now();
    let (source, policy) = compile(config)?;
    let credentials = credentials(config, stores)?;
    sources::private_dir(&config.state_dir)?;
    let masking_key = sources::masking_key(&config.keys_dir())?;
    let durability = Durability::new(config.workers());
    let vault = Vault::open(config)?;
    let names = Arc::new(Service::default());
    let waiting = (&durability, &names.progress);
    let recorder = open_journal(config, &vault, &clock, waiting)?;
    bundle::record(&recorder, &config.state_dir, &source, &policy)?;
    // The guard learns which directories these are.
    sources::private_dir(&config.run_dir)?;
    let kernel = arm(config)?;
    guard::record_state(&recorder, &kernel)?;
    let enrollments: Arc<Enrollments> = Arc::default();
    let listening = (config.listener.port, Arc::clone(&names));
    let namespaces = Arc::new(Namespaces::new(Arc::clone(&kernel), recorder.clone(), listening));
    let approvals =
        Approvals::new(recorder.clone(), Arc::clone(&clock), &config.node(), masking_key.expose());
    let blind = blinding::keys(config, policy.classification(), &recorder, clock.now())?;
    let door = Arc::new(Door {
        kernel: Arc::new(Records(Arc::clone(&kernel))),
        netns: Arc::clone(&namespaces) as Arc<dyn Netns>,
        guarded: kernel.guard_armed(),
        enrollments: Arc::clone(&enrollments),
        processes: Arc::new(Processes::new(Records(Arc::clone(&kernel)))),
        targets: config.targets()?,
        tls: tls::offer(config)?,
        credentials,
        bearers,
        roles: Roles::new(&config.node(), config.state_dir.join("ephemeral-roles.json")),
        cancels: Arc::default(),
        sessions: Sessions::default(),
        windows: windows(config, &policy, &recorder, clock.as_ref()),
        policy: Arc::new(policy),
        masking_key,
        analyzer: Arc::new(if blind.is_some() {
            Analyzer::keeping_values()
        } else {
            Analyzer::new()
        }),
        blind,
        catalogs: Catalogs::default(),
        approvals: Arc::new(approvals),
        recordings: recordings::sealing(config, &recorder)?,
        recorder: recorder.clone(),
        durability,
        counters: Arc::new(Counters::default()),
        clock: Arc::clone(&clock),
        masks: MaskSets::default(),
        strangers: Sparing::default(),
        sessions_max,
        flows: Flows::default(),
        names: Arc::new(Names::new(Hosts::load(&config.dns.hosts)?.pairs())),
        name_service: config.dns.enabled.then(|| Arc::clone(&names) as Arc<dyn LocalService>),
        inside: Arc::new(inside),
    });
    let agents = Agents {
        kernel,
        namespaces,
        enrollments,
        recorder: recorder.clone(),
        profiles: config.profile.clone(),
        trust: door.tls.is_offered().then(|| config.tls.bundle.clone()),
    };
    let keeper = Arc::new(keep(config, stores, &agents, &clock)?);
    let approvals = Arc::new(resume_approvals(config, stores, &door)?);
    let link = link::prepare(config.hub.as_ref(), &config.node(), &door)?;
    let forwarding = Forwarding::start(config, &recorder, &clock)?;
    let (own_recorder, own_clock) = (recorder.clone(), Arc::clone(&clock));
    let archiver = Archiver::start(config, stores.environment, vault, recorder, clock)?;
    let compactor = Compactor::start(config, archiver.shipment(), own_recorder, own_clock)?;
    let pruner = Pruner::new(config, &door.policy)?;
    let (letting_go, disarmed) = (AtomicBool::new(false), Notify::new());
    Ok(Desk {
        node: config.node(),
        started,
        door,
        agents,
        keeper,
        names,
        approvals,
        link,
        archiver,
        blind_keys: blinding::dir(config),
        forwarding,
        compactor,
        pruner,
        key_vault: recordings::vault_dir(config),
        enroller: Enroller::new(config.enroll.clone(), config.engines.clone()),
        letting_go,
        disarmed,
    })
}

/// What agents' sessions are authenticated with; all of it can be used.
fn credentials(config: &Config, stores: Stores<'_>) -> Result<Credentials> {
    let credentials = credential::credentials(config, stores)?;
    credentials.check().context("a credential can't be used")?;
    Ok(credentials)
}

/// Who stamps the time on checkpoints, where that is configured.
fn stamps(config: &Config) -> Result<Option<Stamps>> {
    let Some(rules) = &config.archive.timestamps else { return Ok(None) };
    let origin = layout::origin(&config.node(), i32::try_from(EPOCH)?);
    Stamps::new(rules, config.archive_dir(), origin).map(Some)
}

/// The policies of the configured directory, as they stand there and compiled.
fn compile(config: &Config) -> Result<(PolicySource, PolicySet)> {
    let source = sources::policies(&config.policy_dir)?;
    let what = || format!("policies in {}", config.policy_dir.display());
    let policies = PolicySet::compile(&source).with_context(what)?;
    Ok((source, policies))
}

/// What keeps whom agents act for.
fn keep(
    config: &Config,
    stores: Stores<'_>,
    agents: &Agents,
    clock: &Arc<dyn Clock>,
) -> Result<Keeper> {
    let (enrollments, recorder) = (Arc::clone(&agents.enrollments), agents.recorder.clone());
    let rules = (config.identities(), stores);
    Keeper::open(rules, &config.state_dir, enrollments, recorder, Arc::clone(clock))
}

/// What waits for people and what they granted, as the journal has it, and who is told.
fn resume_approvals(config: &Config, stores: Stores<'_>, door: &Door) -> Result<HostApprovals> {
    let hooks = approvals::hooks(config, stores)?;
    let journal_dir = config.journal_dir();
    let dirs = (config.state_dir.as_path(), journal_dir.as_path());
    let asks = door.policy.asks_people();
    HostApprovals::resume(&door.approvals, (&door.recorder, &door.clock), dirs, hooks, asks)
}

pub(crate) fn open_journal(
    config: &Config,
    vault: &Vault,
    clock: &Arc<dyn Clock>,
    (durability, progress): (&Arc<Durability>, &Arc<Progress>),
) -> Result<Recorder> {
    let dir = config.journal_dir();
    sources::private_dir(&dir)?;
    let mut options = Options::new(&dir, config.node(), EPOCH);
    options.checkpointed_rows = vault.sealed_rows(EPOCH)?;
    options.accept_loss = config.accept_loss;
    let (seals, sealing) = journal_seal::prepare(config)?.unzip();
    options.seals = seals;
    if let Some(bytes) = config.journal.segment_bytes {
        options.segment_bytes = bytes;
    }
    if let Some(bytes) = config.journal.reserve_bytes {
        options.reserve = Reserve { percent: 0, bytes };
    }
    let on_durable = durable::tell(Arc::clone(durability), Arc::clone(progress));
    let (recorder, recovery) = Recorder::open(&options, Arc::clone(clock), on_durable)
        .with_context(|| format!("journal in {}", dir.display()))?;
    for damage in &recovery.accepted {
        warn!(damage, set_aside = ?recovery.set_aside, "loss accepted");
    }
    info!(?recovery, "journal open");
    if let Some(detail) = &sealing {
        journal_seal::say(&recorder, detail)?;
    }
    Ok(recorder)
}

/// What agents used of limits over windows, as the journal has it.
fn windows(config: &Config, policy: &PolicySet, recorder: &Recorder, clock: &dyn Clock) -> Windows {
    let windows = Windows::default();
    let journal = (&*config.journal_dir(), recorder.durable());
    match recount(&windows, &policy.windows(), journal, clock.now()) {
        Ok(0) => {}
        Ok(commands) => info!(commands, "windows of limits are counted from the journal"),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            warn!(error, "windows of limits can't be counted: they count as used up");
        }
    }
    windows
}

fn arm(config: &Config) -> Result<Arc<Kernel>> {
    let kernel = Kernel::arm(redirect::Options {
        cgroup_root: None,
        slice: config.kernel.slice.clone(),
        pin_dir: config.kernel.pin_dir.clone(),
        listener_port: config.listener.port,
        dns_port: config.dns.port(),
        guard: config.guard()?,
        unix: config.unix(),
    })
    .context("the kernel side can't be armed; `vestibule doctor` says what this host lacks")?;
    Ok(Arc::new(kernel))
}

/// Answers the control socket and keeps house until a signal says stop.
async fn attend(desk: Arc<Desk>, socket: UnixListener, seal_interval: Duration) -> Result<Ended> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
    let mut rules = tokio::time::interval(RULES_INTERVAL);
    rules.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut heartbeat = tokio::time::interval(HEARTBEAT_INTERVAL);
    let mut seal = tokio::time::interval(seal_interval);
    seal.reset();
    let mut prune = tokio::time::interval(journal_prune::INTERVAL);
    prune.reset();
    tokio::task::spawn_local(control::serve(socket, Arc::clone(&desk)));
    tokio::task::spawn_local(ephemeral::keep(Arc::clone(&desk.door)));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(Ended::Stopped),
            _ = interrupt.recv() => return Ok(Ended::Stopped),
            () = desk.disarmed.notified() => return Ok(Ended::Disarmed),
            _ = rules.tick() => {
                let desk = Arc::clone(&desk);
                tokio::task::spawn_blocking(move || desk.enroller.look(&desk.agents, &desk.keeper));
            }
            _ = sweep.tick() => {
                guard::record_refusals(&desk.agents);
                desk.agents.sweep();
                if desk.agents.is_severed() {
                    return Ok(Ended::Severed);
                }
            }
            _ = heartbeat.tick() => desk.heartbeat(),
            _ = seal.tick() => {
                let desk = Arc::clone(&desk);
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = desk.seal() {
                        warn!(error = format!("{error:#}"), "not sealed");
                    }
                    desk.compactor.wake();
                });
            }
            _ = prune.tick() => {
                let desk = Arc::clone(&desk);
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = desk.pruner.run(&desk, false) {
                        warn!(error = format!("{error:#}"), "the journal's segments stay");
                    }
                });
            }
        }
    }
}

fn end(
    door: &Arc<Door>,
    stop: &watch::Sender<bool>,
    (running, resolving, console): (Running, Option<JoinHandle<()>>, Option<JoinHandle<()>>),
) -> Result<()> {
    info!("stopping; nothing is relayed from now on");
    if stop.send(true).is_err() {
        warn!("the workers had ended");
    }
    running.join();
    if resolving.is_some_and(|thread| thread.join().is_err()) {
        warn!("the forwarder of look-ups panicked");
    }
    if console.is_some_and(|thread| thread.join().is_err()) {
        warn!("the console panicked");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ephemeral::finish(door));
    record(&door.recorder, "daemon.stop", &serde_json::json!({}))
}

/// Writes a control record that nobody waits for; where that fails, the log says so.
pub(crate) fn note(recorder: &Recorder, kind: &str, detail: &serde_json::Value) {
    if let Err(error) = recorder.control(kind, &detail.to_string()) {
        warn!(%error, kind, "not recorded");
    }
}

/// Writes a control record and waits until it is durable.
pub(crate) fn record(recorder: &Recorder, kind: &str, detail: &serde_json::Value) -> Result<()> {
    let lsn = recorder.control(kind, &detail.to_string())?;
    recorder.wait(lsn)?;
    Ok(())
}
