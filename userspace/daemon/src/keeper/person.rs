//! Identities as records say them.

use identity::Enrollment;
use types::identity::Identity;

/// Nobody, by any token; `owner` answers for the agent.
pub(super) fn owned(owner: &str) -> Identity {
    Identity { owner: Some(owner.into()), ..Identity::default() }
}

/// What a record says of an agent and whom it acts for, or did; `why` it ended.
pub(super) fn detail(
    enrollment: &Enrollment,
    identity: &Identity,
    why: Option<&'static str>,
) -> String {
    let subject = identity.subject.as_ref();
    let token = subject.map(|subject| &subject.token);
    let actors: Vec<String> = identity.actors.iter().map(ToString::to_string).collect();
    serde_json::json!({
        "agent": enrollment.agent.as_str(),
        "instance": enrollment.instance,
        "user": subject.map(|subject| &subject.user),
        "idp": subject.map(|subject| &subject.idp),
        "sub": subject.map(|subject| &subject.sub),
        "groups": subject.map(|subject| &subject.groups),
        "client": token.and_then(|token| token.client.as_ref()),
        "token": token.and_then(|token| token.id.as_ref()),
        "expires_s": token.map(|token| token.expires_s),
        "actors": actors,
        "owner": identity.owner,
        "why": why,
    })
    .to_string()
}
