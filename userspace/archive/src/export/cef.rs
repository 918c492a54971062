//! ArcSight's Common Event Format, version 0, revision 25.

use std::net::IpAddr;

use journal::row::{EventRow, Row};

use super::pictured;

/// A row.
pub(super) fn line(row: &Row, out: &mut String) {
    let (signature, name, severity) = match row {
        Row::Event(row) => {
            let severity = match (row.decision.as_str(), row.statement.is_privileged) {
                ("deny" | "break_glass", _) => "7",
                (_, true) => "5",
                _ => "3",
            };
            (
                format!("{}:{}", row.statement.kind, row.decision),
                row.statement.verb.clone(),
                severity,
            )
        }
        Row::Session(row) => ("session".to_owned(), format!("session of {}", row.agent_id), "2"),
        Row::Control(row) => (row.kind.clone(), row.kind.clone(), "2"),
        Row::Recording(_) => ("recording".to_owned(), "recording".to_owned(), "2"),
    };
    out.push_str("CEF:0");
    for field in ["vestibule", "vestibule", env!("CARGO_PKG_VERSION"), &signature, &name] {
        out.push('|');
        header(field, out);
    }
    out.push('|');
    out.push_str(severity);
    out.push('|');
    let mut extension = Extension { out, is_first: true };
    extension.put("rt", &(row.ts().0 / 1000).to_string());
    match row {
        Row::Event(row) => event(row, &mut extension),
        Row::Session(row) => {
            extension.id(&row.node_id, row.log_epoch, row.seq.0);
            extension.labelled("cs1", "session", &row.session_id);
            extension.put("sourceServiceName", &row.agent_id);
            extension.some("suser", row.actor_user.as_deref());
            extension.some("suid", row.actor_sub.as_deref());
            extension.put("cn1Label", "commands");
            extension.put("cn1", &row.events_declared.to_string());
            extension.some("reason", row.close_reason.as_deref());
        }
        Row::Control(row) => {
            extension.id(&row.node_id, row.log_epoch, row.seq.0);
            extension.put("msg", &row.detail);
        }
        Row::Recording(row) => {
            extension.id(&row.node_id, row.log_epoch, row.seq.0);
            extension.labelled("cs1", "session", &row.session_id);
            extension.some("msg", row.statement.as_deref());
        }
    }
}

fn event(row: &EventRow, extension: &mut Extension<'_>) {
    extension.id(&row.session.node_id, row.session.log_epoch, row.seq.0);
    extension.put("act", &row.decision);
    extension.put("outcome", &row.status);
    extension.put("app", &row.session.protocol);
    extension.put("sourceServiceName", &row.session.agent_id);
    extension.some("suser", row.session.actor_user.as_deref());
    extension.some("suid", row.session.actor_sub.as_deref());
    extension.some("sproc", row.session.process_path.as_deref());
    extension.some("spid", row.session.pid.map(|pid| pid.to_string()).as_deref());
    extension.address("src", ("c6a2", "Source IPv6 Address"), row.session.src_ip.as_deref());
    extension.some("spt", row.session.src_port.map(|port| port.to_string()).as_deref());
    extension.address("dst", ("c6a3", "Destination IPv6 Address"), row.session.dst_ip.as_deref());
    extension.some("dpt", row.session.dst_port.map(|port| port.to_string()).as_deref());
    extension.some("dhost", row.session.target_host.as_deref().or(row.session.dst_host.as_deref()));
    extension.some("duser", row.session.target_account.as_deref());
    extension.put("destinationServiceName", &row.session.target_name);
    extension.put("in", &row.bytes_in.to_string());
    extension.put("out", &row.bytes_out.to_string());
    extension.put("reason", &row.session.decision_reason);
    extension.labelled("cs1", "session", &row.session.session_id);
    extension.labelled("cs2", "rule", &row.session.rule_id);
    extension.labelled("cs3", "policy", &row.session.policy_digest);
    if let Some(approval) = &row.approval_id {
        extension.labelled("cs4", "approval", approval);
    }
    extension.labelled("cs5", "objects", &row.statement.objects.join(" "));
    extension.some("cs6", row.session.target_db.as_deref());
    extension.some("cs6Label", row.session.target_db.as_ref().map(|_| "database"));
    extension.some("cn1", row.rows.map(|rows| rows.to_string()).as_deref());
    extension.some("cn1Label", row.rows.map(|_| "rows"));
    extension.put("cn2", &row.masked_count.to_string());
    extension.put("cn2Label", "masked");
    extension.some("cn3", row.duration_us.map(|us| us.to_string()).as_deref());
    extension.some("cn3Label", row.duration_us.map(|_| "duration_us"));
    extension.put("msg", &row.statement.statement_norm);
}

/// The pairs behind the header.
struct Extension<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl Extension<'_> {
    fn id(&mut self, node: &str, epoch: i32, seq: u64) {
        self.put("dvchost", node);
        self.put("externalId", &format!("{node}/{epoch}/{seq}"));
    }

    fn some(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    fn labelled(&mut self, key: &str, label: &str, value: &str) {
        self.put(&format!("{key}Label"), label);
        self.put(key, value);
    }

    /// `key` is of IPv4 alone; the others have a field that is named.
    fn address(&mut self, key: &str, (other, label): (&str, &str), address: Option<&str>) {
        let Some(text) = address else { return };
        match text.parse() {
            Ok(IpAddr::V6(_)) => self.labelled(other, label, text),
            _ => self.put(key, text),
        }
    }

    /// Backslashes, equals signs and line ends are escaped; what is empty is left out.
    fn put(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        if !self.is_first {
            self.out.push(' ');
        }
        self.is_first = false;
        self.out.push_str(key);
        self.out.push('=');
        for c in value.chars() {
            match c {
                '\\' => self.out.push_str("\\\\"),
                '=' => self.out.push_str("\\="),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                c => self.out.push(pictured(c)),
            }
        }
    }
}

/// Backslashes and pipes are escaped.
fn header(text: &str, out: &mut String) {
    for c in text.chars() {
        if matches!(c, '\\' | '|') {
            out.push('\\');
        }
        out.push(pictured(c));
    }
}
