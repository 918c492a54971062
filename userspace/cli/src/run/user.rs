//! As whom the agent runs.

use std::ffi::CString;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::unistd::{self, Gid, Uid, getgrouplist};
use types::control::Profile;

/// A user with the groups to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups; none if they stay as they are.
    pub(super) groups: Option<Vec<u32>>,
    /// Set where the environment must say who this is.
    pub(super) account: Option<Account>,
}

/// What the environment says of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) home: PathBuf,
    pub(super) shell: PathBuf,
}

/// The user asked for, the profile's, who called sudo, or the caller, in this order.
pub(super) fn choose(user: Option<&str>, group: Option<&str>, profile: &Profile) -> Result<User> {
    let group = group.or(profile.group.as_deref());
    let sudo = std::env::var("SUDO_UID").ok().filter(|_| Uid::effective().is_root());
    match user.map(str::to_owned).or_else(|| profile.user.clone()).or(sudo) {
        Some(wanted) => find(&wanted, group),
        None => caller(group),
    }
}

/// A user by name or number. A number that no account has needs a group.
fn find(wanted: &str, group: Option<&str>) -> Result<User> {
    let number = wanted.parse::<u32>().ok();
    let entry = match number {
        Some(uid) => unistd::User::from_uid(Uid::from_raw(uid)),
        None => unistd::User::from_name(wanted),
    };
    let entry = entry.with_context(|| format!("user {wanted} can't be looked up"))?;
    let group = group.map(find_group).transpose()?;
    let Some(entry) = entry else {
        let uid = number.with_context(|| format!("there is no user {wanted}"))?;
        let gid = group.with_context(|| format!("no account has uid {uid}: give --group"))?;
        return Ok(User { uid, gid, groups: Some(vec![gid]), account: None });
    };
    let gid = group.unwrap_or(entry.gid.as_raw());
    let name = CString::new(entry.name.as_str()).context("a user's name has no NUL")?;
    let groups = getgrouplist(&name, Gid::from_raw(gid))
        .with_context(|| format!("the groups of {wanted} can't be looked up"))?;
    Ok(User {
        uid: entry.uid.as_raw(),
        gid,
        groups: Some(groups.into_iter().map(Gid::as_raw).collect()),
        account: Some(Account { name: entry.name, home: entry.dir, shell: entry.shell }),
    })
}

fn caller(group: Option<&str>) -> Result<User> {
    let gid = group.map(find_group).transpose()?;
    Ok(User {
        uid: Uid::current().as_raw(),
        gid: gid.unwrap_or_else(|| Gid::current().as_raw()),
        groups: gid.map(|gid| vec![gid]),
        account: None,
    })
}

fn find_group(wanted: &str) -> Result<u32> {
    if let Ok(gid) = wanted.parse() {
        return Ok(gid);
    }
    let entry = unistd::Group::from_name(wanted);
    let entry = entry.with_context(|| format!("group {wanted} can't be looked up"))?;
    Ok(entry.with_context(|| format!("there is no group {wanted}"))?.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_comes_before_the_profile() {
        let profile = Profile { user: Some("daemon".into()), ..Profile::default() };
        let by_profile = choose(None, None, &profile).unwrap();
        assert_eq!(by_profile.account.unwrap().name, "daemon");
        let by_name = choose(Some("nobody"), None, &profile).unwrap();
        assert_eq!(by_name.account.unwrap().name, "nobody");
        assert!(by_name.groups.unwrap().contains(&by_name.gid));
    }

    #[test]
    fn a_number_without_an_account_needs_a_group() {
        let none = Profile::default();
        assert!(choose(Some("3999999"), None, &none).is_err());
        let user = choose(Some("3999999"), Some("3999998"), &none).unwrap();
        assert_eq!(
            (user.uid, user.gid, user.groups),
            (3_999_999, 3_999_998, Some(vec![3_999_998]))
        );
        assert!(choose(Some("no-such-user"), None, &none).is_err());
        assert!(choose(Some("nobody"), Some("no-such-group"), &none).is_err());
    }
}
