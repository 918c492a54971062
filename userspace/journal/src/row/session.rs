//! The `sessions` table: one row per session, made when it closes.

use types::id::SequenceNumber;

use super::{Micros, Table, table};

table! {
    /// One session: who, how proven, to what, and what it came to.
    SessionRow = Table::Sessions;
    /// The node.
    node_id: String = 1,
    /// The log's epoch.
    log_epoch: i32 = 2,
    /// The place in the node's log; `node_id/log_epoch/seq` is the row's id.
    seq: SequenceNumber = 3,
    /// When it closed.
    ts: Micros = 4,
    /// The session, a UUIDv7.
    session_id: String = 5,
    /// When the agent connected.
    opened_at: Micros = 6,
    /// When it ended.
    closed_at: Option<Micros> = 7,
    /// `CLOCK_BOOTTIME` at the opening, nanoseconds.
    mono_ns: i64 = 8,
    /// The boot in which `mono_ns` counts.
    boot_id: String = 9,
    /// The person the agent acts for.
    actor_user: Option<String> = 10,
    /// Who vouches for the person.
    actor_idp: Option<String> = 11,
    /// The voucher's stable key of the person.
    actor_sub: Option<String> = 12,
    /// How the person was authenticated.
    authn_method: Option<String> = 13,
    /// Authentication methods (RFC 8176).
    authn_amr: Vec<String> = 14,
    /// Authentication context class.
    authn_acr: Option<String> = 15,
    /// When the person authenticated.
    authn_time: Option<Micros> = 16,
    /// Whether with more than one factor.
    authn_mfa: Option<bool> = 17,
    /// On which device.
    authn_device: Option<String> = 18,
    /// The agent.
    agent_id: String = 19,
    /// Which start of it.
    agent_instance: String = 20,
    /// Agents from the outermost to this one.
    agent_chain: Vec<String> = 21,
    /// How many those are.
    chain_depth: i32 = 22,
    /// How well the agent is held: `A0`, `A1`, `A2`.
    assurance: String = 23,
    /// SHA-256 of the executable, hex.
    process_exe_sha256: Option<String> = 24,
    /// The executable's path.
    process_path: Option<String> = 25,
    /// The task's name; chosen by the process, no identity.
    process_comm: Option<String> = 26,
    /// The process's cgroup.
    cgroup_id: Option<i64> = 27,
    /// The process.
    pid: Option<i32> = 28,
    /// Its start, nanoseconds since boot.
    process_start_ns: Option<i64> = 29,
    /// Its parent.
    parent_pid: Option<i32> = 30,
    /// The parent's start.
    parent_start_ns: Option<i64> = 31,
    /// Its real user id.
    uid_os: Option<i64> = 32,
    /// Its real group id.
    gid_os: Option<i64> = 33,
    /// The network namespace.
    netns_cookie: Option<i64> = 34,
    /// The agent-side socket.
    socket_cookie: Option<i64> = 35,
    /// The agent's end.
    src_ip: Option<String> = 36,
    /// The agent's end.
    src_port: Option<i32> = 37,
    /// Where the agent wanted to go.
    dst_ip: Option<String> = 38,
    /// Where the agent wanted to go.
    dst_port: Option<i32> = 39,
    /// That host's name, where known.
    dst_host: Option<String> = 40,
    /// TLS towards the target.
    tls_version: Option<String> = 41,
    /// SHA-256 of the target's certificate, hex.
    tls_peer_fp: Option<String> = 42,
    /// `postgresql`, ….
    protocol: String = 43,
    /// The target's name in the configuration.
    target_name: String = 44,
    /// The target's host.
    target_host: Option<String> = 45,
    /// The database.
    target_db: Option<String> = 46,
    /// The account at the target; never a secret.
    target_account: Option<String> = 47,
    /// Id of the injected credential; never the credential.
    credential_ref: Option<String> = 48,
    /// True where a credential was injected.
    credential_injected: Option<bool> = 49,
    /// Event rows of this session.
    events_declared: i64 = 50,
    /// Of those, refused.
    denied: i64 = 51,
    /// Rows returned or affected, all told.
    rows: i64 = 52,
    /// Bytes of requests, all told.
    bytes_in: i64 = 53,
    /// Bytes of responses, all told.
    bytes_out: i64 = 54,
    /// Values masked, all told.
    masked_count: i64 = 55,
    /// Why it ended, a fixed word.
    close_reason: Option<String> = 56,
    /// The key its recordings are sealed with.
    recording_dek_id: Option<String> = 57,
    /// How long it is kept: `std7y`, ….
    retention_class: String = 58,
    /// Legal holds on it.
    hold_ids: Vec<String> = 59,
    /// The process's ancestors as they were at each fork, nearest first: `PID/START`, the start in
    /// nanoseconds since boot; at most eight.
    process_ancestors: Option<Vec<String>> = 60,
    /// Whether the kernel saw every fork since the agent was started and all ancestors are given.
    process_ancestors_whole: Option<bool> = 61,
    /// The command line, secrets replaced by `***`.
    command_line: Option<String> = 62,
    /// Inode number of the executable.
    process_exe_ino: Option<i64> = 63,
    /// Its file system's device, major << 20 | minor.
    process_exe_dev: Option<i64> = 64,
    /// The container's id or name.
    container_id: Option<String> = 65,
    /// The process's effective user id.
    euid_os: Option<i64> = 66,
    /// Its effective capabilities, a bit each (capabilities(7)).
    capabilities_effective: Option<i64> = 67,
    /// Whether it can gain no privileges by exec.
    no_new_privs: Option<bool> = 68,
    /// Whether a seccomp filter was on it.
    seccomp_filter: Option<bool> = 69,
    /// The user id at login; 4294967295 where none is set.
    login_uid: Option<i64> = 70,
    /// The audit session; 4294967295 where none is set.
    login_session: Option<i64> = 71,
    /// The role that the agent asked for, where a credential authenticated as `target_account`.
    target_role: Option<String> = 72,
    /// Who had the person's token issued.
    actor_client: Option<String> = 73,
    /// The person's groups by the issuer.
    actor_groups: Option<Vec<String>> = 74,
    /// The token's own id (`jti`); never the token.
    actor_token: Option<String> = 75,
    /// Until when it held.
    actor_token_expires: Option<Micros> = 76,
    /// The person's session at the issuer (`sid`).
    actor_session: Option<String> = 77,
    /// Who answers for the agent by the word of whoever started it.
    agent_owner: Option<String> = 78,
}
