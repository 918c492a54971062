//! `[[profile]]`: how agents are started and held.

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::Deserialize;
use types::control::{Level, Permission, Profile};
use types::id::AgentName;

/// How `vestibule run` starts the agents it is for. What is not said is taken away.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProfileRule {
    /// Its name in records and messages.
    pub(crate) name: String,
    /// Agents by name; one that ends in `*` stands for all that begin so. The first profile that
    /// names an agent is its own.
    pub(crate) agents: Vec<String>,
    /// The user to run as, by name or number.
    pub(crate) user: Option<String>,
    /// The group; the user's own where absent.
    pub(crate) group: Option<String>,
    /// What the filter of system calls lets through: `ptrace`, `io_uring`, `namespaces`, `mount`,
    /// `bpf`, `perf_events`, `keyring`, `userfaultfd`, `file_handles`, `netlink`, `vsock`,
    /// `any_socket`, `stdio_sockets`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) allow: Vec<Permission>,
    /// Capabilities that stay, such as `CAP_NET_BIND_SERVICE`.
    #[serde(default)]
    pub(crate) keep_capabilities: Vec<String>,
    /// Variables that stay although they name a socket or a descriptor.
    #[serde(default)]
    pub(crate) keep_environment: Vec<String>,
    /// Paths that stay visible and writable although others' sockets or cgroups are there.
    #[serde(default)]
    pub(crate) keep_paths: Vec<String>,
    /// What these agents must at least be held by, `A1` or `A2`; less is refused.
    #[schemars(with = "Option<String>")]
    pub(crate) level: Option<Level>,
    /// Agents that these may start inside themselves, by name, as in `agents`; none where absent. Who may start
    /// another may do what policy lets that one do.
    #[serde(default)]
    pub(crate) starts: Vec<String>,
}

/// Profiles at most; an agent's is looked for at each start.
const PROFILES_MAX: usize = 256;

/// What is wrong with the rules, if anything.
pub(crate) fn check(rules: &[ProfileRule]) -> Result<()> {
    ensure!(rules.len() <= PROFILES_MAX, "profile: at most {PROFILES_MAX}");
    for ProfileRule { name, agents, keep_paths, .. } in rules {
        ensure!(!name.is_empty(), "profile: a name must not be empty");
        ensure!(!agents.is_empty(), "profile `{name}`: agents names none");
        for path in keep_paths {
            ensure!(
                path.starts_with('/'),
                "profile `{name}`: keep_paths: `{path}` is not absolute"
            );
        }
    }
    Ok(())
}

/// The first profile that names the agent; the default, which keeps nothing, if none does.
pub(crate) fn of(rules: &[ProfileRule], agent: &AgentName) -> Profile {
    let found = rules.iter().find(|rule| rule.agents.iter().any(|name| names(name, agent)));
    found.cloned().map_or_else(Profile::default, |rule| {
        let ProfileRule {
            name,
            agents: _,
            user,
            group,
            allow,
            keep_capabilities,
            keep_environment,
            keep_paths,
            level,
            starts: _,
        } = rule;
        Profile { name, user, group, allow, keep_capabilities, keep_environment, keep_paths, level }
    })
}

/// Whether an agent may start another inside itself.
pub(crate) fn may_start(rules: &[ProfileRule], outer: &AgentName, inner: &AgentName) -> bool {
    let own = rules.iter().find(|rule| rule.agents.iter().any(|name| names(name, outer)));
    own.is_some_and(|rule| rule.starts.iter().any(|name| names(name, inner)))
}

fn names(pattern: &str, agent: &AgentName) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => agent.as_str().starts_with(start),
        None => agent.as_str() == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        profile: Vec<ProfileRule>,
    }

    #[test]
    fn the_first_profile_that_names_an_agent_is_its_own() {
        let text = "[[profile]]\nname='debug'\nagents=['lab-*']\nallow=['ptrace','io_uring']\n\
                    [[profile]]\nname='rest'\nagents=['*']\nuser='nobody'\nlevel='A1'";
        let File { profile: rules } = toml::from_str(text).unwrap();
        check(&rules).unwrap();
        let of = |agent: &str| of(&rules, &agent.parse().unwrap());
        assert_eq!(of("lab-1").allow, [Permission::Ptrace, Permission::IoUring]);
        assert_eq!((of("x").user.as_deref(), of("x").level), (Some("nobody"), Some(Level::A1)));
        assert_eq!(super::of(&[], &"x".parse().unwrap()), Profile::default());
    }

    #[test]
    fn an_agent_starts_none_but_those_that_its_profile_names() {
        let text = "[[profile]]\nname='planner'\nagents=['planner']\nstarts=['worker-*']\n\
                    [[profile]]\nname='rest'\nagents=['*']\nstarts=['planner']";
        let File { profile: rules } = toml::from_str(text).unwrap();
        let may = |outer: &str, inner: &str| {
            may_start(&rules, &outer.parse().unwrap(), &inner.parse().unwrap())
        };
        assert!(may("planner", "worker-1") && may("x", "planner"));
        assert!(!may("planner", "planner") && !may("x", "worker-1"));
        assert!(!may_start(&[], &"x".parse().unwrap(), &"x".parse().unwrap()));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, told) in [
            ("[[profile]]\nname='a'\nagents=['x']\nallow=['everything']", "unknown variant"),
            ("[[profile]]\nname='a'\nagents=[]", "names none"),
            ("[[profile]]\nname='a'\nagents=['x']\nkeep_paths=['run']", "not absolute"),
        ] {
            let parsed = toml::from_str::<File>(text).map_err(anyhow::Error::from);
            let error = parsed.and_then(|file| check(&file.profile)).unwrap_err();
            assert!(format!("{error:#}").contains(told), "{error:#}");
        }
    }
}
