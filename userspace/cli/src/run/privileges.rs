//! Capabilities, groups and user, given up for good (capabilities(7), credentials(7)).

use std::collections::HashSet;

use anyhow::{Context, Result};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::user::User;

/// Capability numbers end before this: the kernel's sets have 64 bits.
const CAPABILITIES_MAX: u32 = 64;

/// Becomes the user, with the capabilities named and no way to others.
pub(super) fn drop(user: &User, keep: &[String]) -> Result<()> {
    let kept = parse(keep)?;
    for number in 0..CAPABILITIES_MAX {
        let one = CapabilitySet::from_bits_retain(1 << number);
        // The first number that the kernel does not know ends the list.
        let Ok(is_there) = capability_is_in_bounding_set(one) else { break };
        if is_there && !kept.contains(one) {
            remove_capability_from_bounding_set(one)
                .context("capabilities can't be given up; `vestibule run` needs root")?;
        }
    }
    if !kept.is_empty() {
        set_keep_capabilities(true)
            .context("capabilities can't be kept over the change of user")?;
    }
    let User { uid, gid, groups, .. } = user;
    if let Some(groups) = groups {
        let unique: HashSet<u32> = groups.iter().copied().collect();
        let groups: Vec<Gid> = unique.into_iter().map(Gid::from_raw).collect();
        set_thread_groups(&groups).context("the groups can't be set")?;
    }
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    set_thread_res_gid(gid, gid, gid).context("the group can't be set")?;
    set_thread_res_uid(uid, uid, uid).context("the user can't be set")?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
    set_capabilities(None, sets).context("the capabilities can't be set")?;
    clear_ambient_capability_set().context("the ambient capabilities can't be cleared")?;
    for one in kept.iter() {
        configure_capability_in_ambient_set(one, true)
            .context("a kept capability can't be handed on")?;
    }
    set_no_new_privs(true).context("no_new_privs can't be set")
}

fn parse(names: &[String]) -> Result<CapabilitySet> {
    let mut kept = CapabilitySet::empty();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
        kept |= CapabilitySet::from_name(plain)
            .with_context(|| format!("there is no capability {name}"))?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_their_kernel_names() {
        let names = ["CAP_NET_BIND_SERVICE".to_owned(), "sys_nice".to_owned()];
        let both = CapabilitySet::NET_BIND_SERVICE | CapabilitySet::SYS_NICE;
        assert_eq!(parse(&names).unwrap(), both);
        assert!(parse(&["CAP_ALL".to_owned()]).is_err());
    }
}
