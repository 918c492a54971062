//! The `events` table: one row per command, free of literals by construction.

use std::sync::Arc;

use types::id::SequenceNumber;

use super::{Masked, Micros, Table, Text, table};

table! {
    /// One command: who asked, of what, what was decided and what came of it. Holds no value of the
    /// statement and no secret.
    EventRow = Table::Events;
    /// What it shares with others that the session has under one identity and one decision.
    session: EventSession;
    /// What it shares with others of the same statement.
    statement: EventStatement;
    session {
        /// The node.
        node_id: Text = 1,
        /// The log's epoch.
        log_epoch: i32 = 2,
    }
    own {
        /// The place in the node's log; `node_id/log_epoch/seq` is the row's id.
        seq: SequenceNumber = 3,
        /// When it began.
        ts: Micros = 4,
        /// When it ended.
        end_ts: Option<Micros> = 5,
        /// `CLOCK_BOOTTIME` when it began, nanoseconds.
        mono_ns: i64 = 6,
    }
    session {
        /// The boot in which `mono_ns` counts.
        boot_id: Text = 7,
        /// The session, a UUIDv7.
        session_id: Text = 8,
    }
    own {
        /// The command's place in the session, from 1.
        session_seq: i32 = 9,
    }
    statement {
        /// OCSF class.
        class_uid: i32 = 10,
        /// OCSF activity.
        activity_id: i32 = 11,
        /// OCSF type.
        type_uid: i32 = 12,
    }
    own {
        /// OCSF severity.
        severity_id: i32 = 13,
        /// OCSF status.
        status_id: i32 = 14,
    }
    statement {
        /// `db.query`, `db.connect`, ….
        kind: Text = 15,
    }
    own {}
    session {
        /// `end`; `begin` for a row made before the command ended.
        phase: Text = 16,
        /// The person the agent acts for.
        actor_user: Option<Text> = 17,
        /// Who vouches for the person.
        actor_idp: Option<Text> = 18,
        /// The voucher's stable key of the person.
        actor_sub: Option<Text> = 19,
        /// The agent.
        agent_id: Text = 20,
        /// Which start of it.
        agent_instance: Text = 21,
        /// Agents from the outermost to this one.
        agent_chain: Arc<[String]> = 22,
        /// How many those are.
        chain_depth: i32 = 23,
        /// How well the agent is held: `A0`, `A1`, `A2`.
        assurance: Text = 24,
        /// SHA-256 of the executable, hex.
        process_exe_sha256: Option<Text> = 25,
        /// The executable's path.
        process_path: Option<Text> = 26,
        /// The process's cgroup.
        cgroup_id: Option<i64> = 27,
        /// The process.
        pid: Option<i32> = 28,
        /// Its real user id.
        uid_os: Option<i64> = 29,
        /// The agent's end.
        src_ip: Option<Text> = 30,
        /// The agent's end.
        src_port: Option<i32> = 31,
        /// Where the agent wanted to go.
        dst_ip: Option<Text> = 32,
        /// Where the agent wanted to go.
        dst_port: Option<i32> = 33,
        /// That host's name, where known.
        dst_host: Option<Text> = 34,
        /// TLS towards the target.
        tls_version: Option<Text> = 35,
        /// SHA-256 of the target's certificate, hex.
        tls_peer_fp: Option<Text> = 36,
        /// `postgresql`, ….
        protocol: Text = 37,
        /// The target's name in the configuration.
        target_name: Text = 38,
        /// The target's host.
        target_host: Option<Text> = 39,
        /// The database.
        target_db: Option<Text> = 40,
        /// The account at the target; never a secret.
        target_account: Option<Text> = 41,
    }
    statement {
        /// The leading verb, upper case.
        verb: String = 42,
        /// What is touched, `schema.name`.
        objects: Vec<String> = 43,
        /// The objects' schema, where all have the same.
        object_schema: Option<String> = 44,
        /// Changes definitions, privileges or the server, or may.
        is_privileged: bool = 45,
        /// Changes data, or may.
        is_write: bool = 46,
        /// The strongest class of data touched.
        data_class: Option<String> = 47,
        /// What makes it dangerous, in fixed words.
        risks: Vec<String> = 48,
        /// The statement without literals.
        statement_norm: String = 49,
        /// Statistical fingerprint of it.
        statement_fp: i64 = 50,
    }
    own {
        /// Length of the statement as sent, bytes.
        statement_len: i32 = 51,
        /// Keyed hashes of the values that tagged columns are compared with or given, hex; `+` where there are more.
        blind_tokens: Vec<String> = 52,
        /// Commands of one wire message share it.
        batch: i32 = 53,
        /// `allow`, `mask`, `deny`, `approved`, `break_glass`, `redirect`.
        decision: Text = 54,
    }
    session {
        /// The first policy that determined it, or `default-deny`.
        rule_id: String = 55,
        /// All policies that determined it.
        rule_ids: Vec<String> = 56,
        /// Why; free of literals.
        decision_reason: String = 57,
        /// SHA-256 of the policy set, hex.
        policy_digest: Text = 58,
    }
    own {
        /// OCSF disposition.
        disposition_id: i32 = 59,
        /// OCSF action.
        action_id: i32 = 60,
        /// The request for approval, and the grant that came of it.
        approval_id: Option<String> = 61,
        /// Who approved, `sub@issuer`, `, ` between them.
        approver_id: Option<String> = 62,
        /// Who vouches for the approvers, each once, `, ` between them.
        approver_idp: Option<String> = 63,
        /// When it was approved.
        approval_ts: Option<Micros> = 64,
        /// What the grant covers: `command`, `alike*N`, `session`.
        approval_scope: Option<String> = 65,
        /// What was masked.
        masked: Vec<Masked> = 66,
        /// How many values were masked.
        masked_count: i64 = 67,
        /// Rows returned or affected.
        rows: Option<i64> = 68,
        /// Bytes of the request.
        bytes_in: i64 = 69,
        /// Bytes of the response.
        bytes_out: i64 = 70,
        /// From begin to end, monotonic, microseconds.
        duration_us: Option<i64> = 71,
        /// `ok`, `error`, `denied`, `skipped`, `interrupted`, `limited`.
        status: Text = 72,
        /// SQLSTATE.
        error_code: Option<String> = 73,
    }
    session {
        /// Id of the injected credential; never the credential.
        credential_ref: Option<Text> = 74,
    }
    own {
        /// The recording's chunk.
        recording_chunk: Option<i32> = 75,
        /// Where in it, bytes.
        recording_off: Option<i64> = 76,
        /// How long, bytes.
        recording_len: Option<i64> = 77,
        /// SHA-256 of the sealed chunk, hex.
        payload_digest: Option<String> = 78,
    }
    session {
        /// The role that the agent asked for, where a credential authenticated as `target_account`.
        target_role: Option<Text> = 79,
    }
    own {
        /// How long it took to decide, microseconds.
        decided_us: Option<i64> = 80,
        /// From begin to the first byte of the server's answer, monotonic, microseconds.
        first_byte_us: Option<i64> = 81,
    }
    statement {
        /// The base columns that the statement names, `table.column`, `, ` between them.
        columns: Option<String> = 82,
    }
    own {
        /// How long it was held for a person's approval, microseconds; null where it was not.
        held_us: Option<i64> = 83,
        /// From begin to when its first byte went to the server, monotonic, microseconds.
        sent_us: Option<i64> = 84,
        /// From then to its end: how long the server had it, microseconds.
        upstream_us: Option<i64> = 85,
    }
    session {
        /// Who had the person's token issued.
        actor_client: Option<Text> = 86,
        /// The person's groups by the issuer.
        actor_groups: Option<Arc<[String]>> = 87,
        /// The token's own id (`jti`); never the token.
        actor_token: Option<Text> = 88,
        /// Until when it held.
        actor_token_expires: Option<Micros> = 89,
        /// Who answers for the agent by the word of whoever started it.
        agent_owner: Option<Text> = 90,
    }
    own {}
}
