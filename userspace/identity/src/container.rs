//! Which container a cgroup is, by its path: the names that runtimes give are all there is to tell.

/// The id, or for those that have none the name, of the innermost container at or above a cgroup.
///
/// Known are Docker, Podman, containerd and CRI-O under either cgroup driver, Kubernetes' pods of
/// these, systemd-nspawn and LXC. None for a path that names none.
pub fn of(cgroup_path: &str) -> Option<String> {
    let mut below = None;
    for component in cgroup_path.rsplit('/').filter(|component| !component.is_empty()) {
        if let Some(container) = named(component) {
            return Some(container);
        }
        if component == "lxc" && below.is_some() {
            return below.map(str::to_owned);
        }
        below = Some(component);
    }
    None
}

/// Prefixes of systemd's scopes, and of directories, with an id behind them. A monitor's
/// (`libpod-conmon-…`) is not the container's.
const PREFIXES: [&str; 6] =
    ["docker-", "libpod-", "cri-containerd-", "containerd-", "crio-", "nerdctl-"];

fn named(component: &str) -> Option<String> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    if is_id(name) {
        return Some(name.to_owned());
    }
    let id = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    if let Some(id) = id.filter(|id| is_id(id)) {
        return Some(id.to_owned());
    }
    // Kubernetes with containerd's own names: cri-containerd:ID below a pod's slice.
    if let Some((_, id)) = name.rsplit_once(':').filter(|(_, id)| is_id(id)) {
        return Some(id.to_owned());
    }
    if let Some(machine) = component.strip_prefix("machine-").and_then(|m| m.strip_suffix(".scope"))
    {
        return Some(unescaped(machine));
    }
    let nspawn = component.strip_prefix("systemd-nspawn@");
    if let Some(machine) = nspawn.and_then(|machine| machine.strip_suffix(".service")) {
        return Some(unescaped(machine));
    }
    component.strip_prefix("lxc.payload.").map(str::to_owned)
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A unit's name as it was: `\xHH` stands for a byte (systemd-escape(1)).
fn unescaped(name: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), name.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.strip_prefix(b"x").and_then(|after| after.get(..2));
        let byte = digits
            .filter(|_| *first == b'\\')
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_names_are_known() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            "/sys/fs/cgroup/system.slice/docker-ID.scope",
            "/sys/fs/cgroup/docker/ID",
            "/sys/fs/cgroup/machine.slice/libpod-ID.scope/container",
            "/sys/fs/cgroup/vestibule/agents/a.1/libpod-ID",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-ID.scope",
            "/kubepods/burstable/pod8d2a/ID",
            "/kubepods.slice/kubepods-pod1.slice/crio-ID.scope/container",
            "/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:ID",
            "/sys/fs/cgroup/default/ID",
            "/docker/fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210/docker/ID",
        ] {
            assert_eq!(of(&path.replace("ID", &id)).as_deref(), Some(&*id), "{path}");
        }
        for (path, name) in [
            ("/machine.slice/machine-web\\x2d1.scope/payload", "web-1"),
            ("/machine.slice/systemd-nspawn@build.service/payload/system.slice/x.service", "build"),
            ("/lxc.payload.web/system.slice", "web"),
            ("/lxc/web/x", "web"),
        ] {
            assert_eq!(of(path).as_deref(), Some(name), "{path}");
        }
    }

    #[test]
    fn what_is_no_container_has_none() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            "",
            "/",
            "/sys/fs/cgroup/vestibule/agents/psql.1",
            "/system.slice/docker.service",
            "/machine.slice/libpod-conmon-ID.scope",
            "/system.slice/docker-0123.scope",
            "/user.slice/user-1000.slice/session-2.scope",
            "/lxc",
        ] {
            assert_eq!(of(&path.replace("ID", &id)), None, "{path}");
        }
        assert_eq!(unescaped("a\\x2"), "a\\x2");
        assert_eq!(unescaped("a\\xe4\\x20b"), "a\u{fffd} b");
    }
}
