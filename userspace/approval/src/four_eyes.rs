//! Who may not approve: whoever asks, answers for it, or acts in between.

use crate::request::Requester;
use crate::vote::Approver;

/// As what an approver is involved in a request; `None` if the four eyes are four.
///
/// People are compared by their issuer's key and, because one person may be known to two issuers, by name.
pub fn involved(requester: &Requester, approver: &Approver) -> Option<String> {
    let Requester {
        agent: _,
        instance: _,
        chain,
        user,
        idp,
        sub,
        owner,
        around,
        pid: _,
        exe: _,
        exe_sha256: _,
        command_line: _,
    } = requester;
    let same_key = idp.as_deref() == Some(&approver.idp) && sub.as_deref() == Some(&approver.sub);
    if same_key || user.as_deref().is_some_and(|user| same_name(user, &approver.user)) {
        return Some(format!("{} is whom the agent acts for", approver.user));
    }
    if owner.as_deref().is_some_and(|owner| is_named(owner, approver)) {
        return Some(format!("{} answers for the agent", approver.user));
    }
    if chain.iter().any(|link| is_named(link, approver)) {
        return Some(format!("{} is in the chain of those who act", approver.user));
    }
    if around.iter().any(|one| is_named(one, approver)) {
        return Some(format!("{} has a part in an agent around this one", approver.user));
    }
    None
}

/// Whether `sub@issuer`, or a word, is this person.
fn is_named(word: &str, approver: &Approver) -> bool {
    word == approver.key() || same_name(word, &approver.user) || word == approver.sub
}

/// Names are read by people: case tells nobody apart.
pub(crate) fn same_name(one: &str, other: &str) -> bool {
    !one.is_empty() && one.to_lowercase() == other.to_lowercase()
}

/// Whether two approvers are one person.
pub fn same_person(one: &Approver, other: &Approver) -> bool {
    (one.idp == other.idp && one.sub == other.sub) || same_name(&one.user, &other.user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_approves_what_they_have_a_part_in() {
        let requester = Requester {
            chain: ["outer", "svc@https://idp.example", "inner"].map(str::to_owned).into(),
            user: Some("Carol".into()),
            idp: Some("https://idp.example".into()),
            sub: Some("u-1".into()),
            owner: Some("u-2@https://idp.example".into()),
            around: ["u-4@https://idp.example", "Erin"].map(str::to_owned).into(),
            ..Requester::default()
        };
        let approver = |idp: &str, sub: &str, user: &str| Approver {
            idp: format!("https://{idp}.example"),
            sub: sub.into(),
            user: user.into(),
            groups: Vec::new(),
        };
        for (approver, is_involved) in [
            (approver("idp", "u-1", "someone"), true),
            (approver("other", "u-1", "someone"), false),
            (approver("other", "x", "carol"), true),
            (approver("idp", "u-2", "someone"), true),
            (approver("other", "u-2", "someone"), false),
            (approver("idp", "svc", "someone"), true),
            (approver("idp", "outer", "someone"), true),
            (approver("idp", "x", "INNER"), true),
            (approver("idp", "u-4", "someone"), true),
            (approver("other", "u-4", "erin"), true),
            (approver("idp", "u-3", "dave"), false),
        ] {
            assert_eq!(involved(&requester, &approver).is_some(), is_involved, "{approver:?}");
        }
    }
}
