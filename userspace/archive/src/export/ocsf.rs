//! Commands as events of OCSF 1.8: what its classes have words for, and the rest `unmapped`.

use journal::row::EventRow;
use serde_json::{Map, Value, json};

use crate::json as lines;
use crate::layout;

/// An event class.
pub(super) struct Class {
    name: &'static str,
    category: (i32, &'static str),
    /// The name of its file.
    pub(super) file: &'static str,
}

/// The class of this number; what is not known is the base event.
pub(super) fn class(class_uid: i32) -> Class {
    let of = |name, category, file| Class { name, category, file };
    match class_uid {
        6005 => of("Datastore Activity", APPLICATION, "6005-datastore_activity"),
        6003 => of("API Activity", APPLICATION, "6003-api_activity"),
        4002 => of("HTTP Activity", NETWORK, "4002-http_activity"),
        4003 => of("DNS Activity", NETWORK, "4003-dns_activity"),
        _ => of("Base Event", (0, "Uncategorized"), "0-base_event"),
    }
}

const APPLICATION: (i32, &str) = (6, "Application Activity");
const NETWORK: (i32, &str) = (4, "Network Activity");

/// What a column is mapped to stands in the event; those that are mapped are not repeated as `unmapped`.
const MAPPED: &[&str] = &[
    "node_id",
    "log_epoch",
    "seq",
    "ts",
    "end_ts",
    "class_uid",
    "activity_id",
    "type_uid",
    "severity_id",
    "status_id",
    "kind",
    "session_id",
    "actor_user",
    "actor_sub",
    "actor_idp",
    "actor_groups",
    "agent_id",
    "agent_instance",
    "process_path",
    "pid",
    "src_ip",
    "src_port",
    "dst_ip",
    "dst_port",
    "target_host",
    "target_name",
    "target_db",
    "target_account",
    "verb",
    "objects",
    "statement_norm",
    "rule_id",
    "policy_digest",
    "decision_reason",
    "disposition_id",
    "action_id",
    "error_code",
    "status",
    "duration_us",
];

/// The event.
pub(super) fn event(row: &EventRow) -> Value {
    let of = class(row.statement.class_uid);
    let uid = format!("{}/{}/{}", row.session.node_id, row.session.log_epoch, row.seq.0);
    let ms = |us: i64| us.div_euclid(1000);
    let mut event = json!({
        "category_uid": of.category.0,
        "category_name": of.category.1,
        "class_uid": row.statement.class_uid,
        "class_name": of.name,
        "activity_id": row.statement.activity_id,
        "activity_name": row.statement.verb,
        "type_uid": row.statement.type_uid,
        "severity_id": row.severity_id,
        "status_id": row.status_id,
        "status_code": row.error_code,
        "status_detail": row.status,
        "action_id": row.action_id,
        "disposition_id": row.disposition_id,
        "time": ms(row.ts.0),
        "end_time": row.end_ts.map(|at| ms(at.0)),
        "duration": row.duration_us.map(ms),
        "message": row.session.decision_reason,
        "metadata": {
            "version": "1.8.0",
            "product": {
                "name": "vestibule", "vendor_name": "vestibule", "version": env!("CARGO_PKG_VERSION"),
            },
            "uid": uid,
            "log_name": layout::origin(&row.session.node_id, row.session.log_epoch),
            "sequence": row.seq.0,
            "event_code": row.statement.kind,
        },
        "actor": {
            "app_name": row.session.agent_id,
            "app_uid": row.session.agent_instance,
            "user": { "name": row.session.actor_user, "uid": row.session.actor_sub, "groups": groups(row) },
            "idp": { "name": row.session.actor_idp },
            "session": { "uid": row.session.session_id },
            "process": { "pid": row.session.pid, "file": { "path": row.session.process_path } },
        },
        "src_endpoint": { "ip": row.session.src_ip, "port": row.session.src_port },
        "dst_endpoint": {
            "ip": row.session.dst_ip, "port": row.session.dst_port, "hostname": row.session.target_host,
            "svc_name": row.session.target_name,
        },
        "policy": { "uid": row.session.rule_id, "version": row.session.policy_digest },
        "unmapped": unmapped(row),
    });
    if row.statement.class_uid == 6005 {
        event["query_info"] = json!({ "query_string": row.statement.statement_norm });
        event["database"] = json!({ "name": row.session.target_db });
        event["table"] = json!({ "name": row.statement.objects.join(", ") });
    }
    if row.statement.class_uid == 4002 {
        let path = row.statement.objects.first();
        event["http_request"] =
            json!({ "http_method": row.statement.verb, "url": { "path": path } });
    }
    if row.statement.class_uid == 4003 {
        event["query"] =
            json!({ "hostname": row.statement.objects.first(), "type": row.statement.verb });
    }
    without_nulls(&mut event);
    event
}

fn groups(row: &EventRow) -> Option<Vec<Value>> {
    let groups = row.session.actor_groups.as_ref()?;
    Some(groups.iter().map(|group| json!({ "name": group })).collect())
}

/// Columns without a word there, as they are.
fn unmapped(row: &EventRow) -> Value {
    let mut text = String::new();
    let row = journal::row::Row::Event(Box::new(row.clone()));
    lines::line(&row, &mut text);
    let columns: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    let is_left = |(name, value): &(String, Value)| {
        let is_empty = value.as_array().is_some_and(Vec::is_empty);
        !MAPPED.contains(&name.as_str()) && !value.is_null() && !is_empty
    };
    Value::Object(columns.into_iter().filter(is_left).collect())
}

/// An attribute that is not known is left out, and so is an object that has none.
fn without_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(without_nulls);
        fields.retain(|_, value| {
            !value.is_null() && value.as_object().is_none_or(|fields| !fields.is_empty())
        });
    }
}
