//! What runs inside a machine.

use std::fmt::Write;

use anyhow::Result;
use integration::escape::Level;

use super::kernels::Kernel;

/// The suite at both levels, without KVM on a busy machine.
pub(super) const ESCAPE_S: u64 = 900;

/// Answers the script that makes the attempts at the levels and turns the machine off.
pub(super) fn escape_script(levels: &[Level], filter: &str) -> String {
    let own = std::env::current_exe().unwrap_or_default();
    let mut script = String::from(MOUNTS);
    for level in levels {
        writeln!(
            script,
            "unshare --net --mount --propagation private -- {own} escape-test --inside --level {level} \
             --json /vm/{level}.json '{filter}' > /vm/{level}.txt 2>&1",
            own = own.display()
        )
        .ok();
    }
    script.push_str(OFF);
    script
}

/// What an init brings up. The modules are those an agent could have loaded by asking for their protocol.
const MOUNTS: &str = "
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/pts /dev/shm /sys/fs/cgroup /sys/fs/bpf
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing
for module in vsock_loopback sctp tun veth nf_tables nft_chain_nat af_alg algif_hash; do
  modprobe -q $module || echo \"vm: no $module\"
done
ip link set lo up
";

const OFF: &str = "
sync
echo o > /proc/sysrq-trigger
sleep 60
";

/// Boots systemd.
pub(super) fn boot_order(_: &Kernel) -> Result<String> {
    Ok(String::new())
}
