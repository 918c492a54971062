//! OCSF 1.8 ids of an event, derived from what it is.

use types::command::{Action, Class, CommandKind};
use types::event::Status;

/// The ids OCSF gives to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ocsf {
    /// 6005: Datastore Activity; 4003: DNS Activity; 4002: HTTP Activity.
    pub class_uid: i32,
    /// Datastore Activity: 1 Read, 2 Update, 3 Connect, 4 Query, 5 Write, 6 Create, 7 Delete,
    /// 99 Other. DNS Activity: 6 Traffic, a query with its answer. HTTP Activity: 2 Delete, 3 Get, 4 Head, 5 Options,
    /// 6 Post, 7 Put, 9 Patch, 99 Other.
    pub activity_id: i32,
    /// `class_uid` × 100 + `activity_id`.
    pub type_uid: i32,
    /// 1 Informational, 2 Low, 3 Medium.
    pub severity_id: i32,
    /// 1 Success, 2 Failure.
    pub status_id: i32,
    /// 1 Allowed, 2 Denied.
    pub action_id: i32,
    /// 1 Allowed, 2 Blocked.
    pub disposition_id: i32,
}

/// The ids of a command of `kind` with this verb whose strongest access is `action`, that ended with `status`.
pub fn ocsf(kind: CommandKind, verb: &str, action: Action, status: Status) -> Ocsf {
    let class_uid = match kind {
        CommandKind::Resolve => 4003,
        CommandKind::Request => 4002,
        CommandKind::Connect
        | CommandKind::Query
        | CommandKind::FunctionCall
        | CommandKind::Cancel => 6005,
    };
    let activity_id = match (kind, action) {
        (CommandKind::Connect, _) => 3,
        (CommandKind::Resolve, _) => 6,
        (CommandKind::Request, _) => http_activity(verb),
        (_, Action::Select | Action::Resolve | Action::ResolveData) => 1,
        (_, Action::Update) => 2,
        (_, Action::Insert) => 5,
        (_, Action::Delete) => 7,
        (_, Action::Connect | Action::Session | Action::Call) => 4,
        (
            _,
            Action::Ddl
            | Action::Privilege
            | Action::Admin
            | Action::Replicate
            | Action::Cancel
            | Action::Fetch
            | Action::Submit
            | Action::Unknown,
        ) => 99,
    };
    let denied = status == Status::Denied;
    let admin = action.class() == Class::Admin;
    Ocsf {
        class_uid,
        activity_id,
        type_uid: class_uid * 100 + activity_id,
        severity_id: if denied { 3 } else { i32::from(admin) + 1 },
        status_id: if status == Status::Ok { 1 } else { 2 },
        action_id: if denied { 2 } else { 1 },
        disposition_id: if denied { 2 } else { 1 },
    }
}

/// OCSF 1.8's activity of an HTTP method.
fn http_activity(verb: &str) -> i32 {
    match verb {
        "DELETE" => 2,
        "GET" => 3,
        "HEAD" => 4,
        "OPTIONS" => 5,
        "POST" => 6,
        "PUT" => 7,
        "PATCH" => 9,
        _ => 99,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_delete_is_a_blocked_failure() {
        let ids = ocsf(CommandKind::Query, "DELETE", Action::Delete, Status::Denied);
        assert_eq!((ids.type_uid, ids.status_id, ids.action_id), (600_507, 2, 2));
        let ids = ocsf(CommandKind::Connect, "CONNECT", Action::Connect, Status::Ok);
        assert_eq!((ids.type_uid, ids.status_id, ids.severity_id), (600_503, 1, 1));
        let ids = ocsf(CommandKind::Resolve, "A", Action::Resolve, Status::Ok);
        assert_eq!((ids.class_uid, ids.type_uid), (4003, 400_306));
        let ids = ocsf(CommandKind::Request, "PATCH", Action::Submit, Status::Ok);
        assert_eq!((ids.class_uid, ids.type_uid), (4002, 400_209));
    }
}
