//! `[[enroll]]`: what becomes an agent without `vestibule run`.

mod containers;
mod glob;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::Deserialize;
use types::id::AgentName;

use crate::keeper::Binding;
pub(crate) use containers::{Container, Engines};
use glob::matches;

/// What becomes which agent. Exactly one of `unit`, `cgroup`, `container`, `uid` and `exe` is given.
/// The first rule that matches counts.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnrollRule {
    /// The agent's name in policies and records.
    pub(crate) agent: String,
    /// A systemd unit, such as `assistant.service`: its cgroup, wherever its slice is.
    pub(crate) unit: Option<String>,
    /// A cgroup by its path below the mount, such as `/system.slice/agents-*.service`; `*` stands
    /// for anything within a component, `**` for anything.
    pub(crate) cgroup: Option<String>,
    /// A container.
    pub(crate) container: Option<ContainerRule>,
    /// All processes of a user, by number.
    pub(crate) uid: Option<u32>,
    /// All processes of an executable, by its path.
    pub(crate) exe: Option<PathBuf>,
    /// What becomes of a process that can't be enrolled (`uid` and `exe` alone).
    #[serde(default)]
    pub(crate) on_refusal: OnRefusal,
    /// The file that holds the token of whom it acts for; an absolute path. Until one that counts is there, the agent's
    /// connections are refused.
    token_file: Option<PathBuf>,
    /// The name of the `[[identity]]` that it acts as.
    #[serde(rename = "as")]
    identity: Option<String>,
    /// Who answers for it; a word.
    owner: Option<String>,
}

/// A container: each that is given must match, one at least is given; `*` stands for anything.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ContainerRule {
    /// Its name.
    pub(crate) name: Option<String>,
    /// Its image's name.
    pub(crate) image: Option<String>,
    /// A label, `KEY=VALUE`.
    pub(crate) label: Option<String>,
}

/// What becomes of a process that a rule names and that can't be enrolled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnRefusal {
    /// It runs on, free; that is recorded.
    #[default]
    Leave,
    /// It is ended.
    Kill,
}

/// Rules at most; each is held against each new cgroup or process.
const RULES_MAX: usize = 256;

/// What is wrong with the rules, if anything; `identities` are the names of each `[[identity]]`.
pub(crate) fn check(rules: &[EnrollRule], identities: &[&str]) -> Result<()> {
    ensure!(rules.len() <= RULES_MAX, "enroll: at most {RULES_MAX} rules");
    for rule in rules {
        let EnrollRule { agent, unit, cgroup, container, uid, exe, on_refusal, .. } = rule;
        let name = agent.parse::<AgentName>();
        ensure!(name.is_ok(), "enroll: `{agent}` can't name an agent");
        let given =
            [unit.is_some(), cgroup.is_some(), container.is_some(), uid.is_some(), exe.is_some()];
        ensure!(
            given.iter().filter(|given| **given).count() == 1,
            "enroll `{agent}`: exactly one of unit, cgroup, container, uid, exe"
        );
        ensure!(*uid != Some(0), "enroll `{agent}`: uid 0 is the host's, not an agent's");
        if let Some(exe) = exe {
            ensure!(exe.is_absolute(), "enroll `{agent}`: exe must be an absolute path");
        }
        if let Some(unit) = unit {
            ensure!(!unit.contains('/'), "enroll `{agent}`: unit is a name, not a path");
        }
        if let Some(cgroup) = cgroup {
            ensure!(cgroup.starts_with('/'), "enroll `{agent}`: cgroup starts with /");
        }
        if let Some(ContainerRule { name, image, label }) = container {
            let some = name.is_some() || image.is_some() || label.is_some();
            ensure!(some, "enroll `{agent}`: container: one of name, image, label at least");
        }
        ensure!(
            *on_refusal == OnRefusal::Leave || uid.is_some() || exe.is_some(),
            "enroll `{agent}`: on_refusal is for uid and exe"
        );
        rule.check_whom(identities).with_context(|| format!("enroll `{agent}`"))?;
    }
    Ok(())
}

impl EnrollRule {
    /// The agent; the rule was checked.
    pub(crate) fn agent(&self) -> Option<AgentName> {
        self.agent.parse().ok()
    }

    fn check_whom(&self, identities: &[&str]) -> Result<()> {
        let Self { token_file, identity, owner, .. } = self;
        if let Some(file) = token_file {
            ensure!(file.is_absolute(), "token_file: an absolute path");
            ensure!(identity.is_none(), "token_file or as, not both");
        }
        if let Some(name) = identity {
            ensure!(identities.contains(&name.as_str()), "as: `{name}` is no [[identity]]'s name");
        }
        let is_word = owner.as_ref().is_none_or(|owner| !owner.contains("://"));
        ensure!(is_word, "owner: a word without `://`");
        Ok(())
    }

    /// Whom what it enrols acts for.
    pub(crate) fn binding(&self) -> Binding {
        let Self { token_file, identity, owner, .. } = self.clone();
        Binding { token_file, identity, owner, ..Binding::default() }
    }

    /// Whether it is about cgroups that others make.
    pub(crate) fn is_of_cgroups(&self) -> bool {
        self.unit.is_some() || self.cgroup.is_some() || self.container.is_some()
    }

    /// Whether it names a cgroup, by its path below the mount and the container it holds.
    pub(crate) fn names_cgroup(&self, path: &Path, container: Option<&Container>) -> bool {
        if let Some(unit) = &self.unit {
            return path.file_name().is_some_and(|name| name == unit.as_str());
        }
        if let Some(pattern) = &self.cgroup {
            return matches(pattern, &path.to_string_lossy());
        }
        let (Some(rule), Some(container)) = (&self.container, container) else { return false };
        let ContainerRule { name, image, label } = rule;
        let is = |pattern: &Option<String>, value: &str| {
            pattern.as_ref().is_none_or(|pattern| glob::matches_any(pattern, value))
        };
        is(name, &container.name)
            && is(image, &container.image)
            && label.as_ref().is_none_or(|pattern| {
                container.labels.iter().any(|label| glob::matches_any(pattern, label))
            })
    }

    /// Whether it names a process, by its user and executable.
    pub(crate) fn names_process(&self, uid: u32, exe: &Path) -> bool {
        self.uid == Some(uid) || self.exe.as_deref() == Some(exe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        enroll: Vec<EnrollRule>,
    }

    fn rules(text: &str) -> Result<Vec<EnrollRule>> {
        let File { enroll } = toml::from_str(text)?;
        check(&enroll, &["reports"])?;
        Ok(enroll)
    }

    #[test]
    fn each_rule_names_one_thing() {
        for (text, told) in [
            ("[[enroll]]\nagent='a'", "exactly one"),
            ("[[enroll]]\nagent='a'\nuid=7\nexe='/bin/x'", "exactly one"),
            ("[[enroll]]\nagent='a'\nuid=0", "uid 0"),
            ("[[enroll]]\nagent='A b'\nuid=7", "can't name an agent"),
            ("[[enroll]]\nagent='a'\nexe='x'", "absolute"),
            ("[[enroll]]\nagent='a'\ncontainer={}", "at least"),
            ("[[enroll]]\nagent='a'\nunit='a.service'\non_refusal='kill'", "on_refusal"),
            ("[[enroll]]\nagent='a'\nuid=7\ntoken_file='x'", "absolute"),
            ("[[enroll]]\nagent='a'\nuid=7\nas='reports'\ntoken_file='/x'", "not both"),
            ("[[enroll]]\nagent='a'\nuid=7\nas='x'", "`x` is no [[identity]]'s name"),
            ("[[enroll]]\nagent='a'\nuid=7\nowner='a@https://b'", "without `://`"),
        ] {
            let error = format!("{:#}", rules(text).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn cgroups_and_processes_are_named() {
        let text = "[[enroll]]\nagent='a'\nunit='x.service'\n\
                    [[enroll]]\nagent='b'\ncgroup='/user.slice/**/ai-*.scope'\n\
                    [[enroll]]\nagent='c'\ncontainer={ image='*/llm:*', label='team=ai' }\n\
                    [[enroll]]\nagent='d'\nexe='/opt/agent'";
        let rules = rules(text).unwrap();
        let container = Container {
            name: "happy".into(),
            image: "registry/llm:3".into(),
            labels: vec!["team=ai".into()],
        };
        let named = |path: &str, container: Option<&Container>| -> Vec<usize> {
            let path = Path::new(path);
            (0..4).filter(|&at| rules[at].names_cgroup(path, container)).collect()
        };
        assert_eq!(named("/system.slice/x.service", None), [0]);
        assert_eq!(named("/user.slice/a/b/ai-1.scope", None), [1]);
        assert_eq!(named("/machine.slice/libpod-1.scope", Some(&container)), [2]);
        assert_eq!(named("/machine.slice/libpod-1.scope", None), [] as [usize; 0]);
        assert!(rules[3].names_process(5, Path::new("/opt/agent")));
    }
}
