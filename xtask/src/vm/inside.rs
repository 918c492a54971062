//! What runs inside a machine when the attempts are made.

use std::fmt::Write;
use std::path::Path;

use integration::escape::Level;

use super::cache;
use super::kernels::Kernel;

/// Both levels: a quarter of an hour without KVM, and several times that on a busy machine.
pub(super) const ESCAPE_S: u64 = 5400;

/// Answers the script that makes the attempts, at each level those whose names match, and turns the machine off.
pub(super) fn escape_script(kernel: &Kernel, programs: &Path, asked: &[(Level, String)]) -> String {
    let root = integration::paths::root().display();
    let (programs, cache) = (programs.display(), cache());
    let cache = cache.display();
    let mut script = format!("kept='{root} {cache}'\n{MOUNTS}");
    writeln!(script, "export VESTIBULE_BIN_DIR={programs}").ok();
    writeln!(script, "export VESTIBULE_ESCAPE_IMAGE={}", kernel.image.display()).ok();
    for (level, filter) in asked {
        writeln!(
            script,
            "unshare --net --mount --propagation private -- {programs}/xtask escape-test --inside --level {level} \
             --json /vm/{level}.json '{filter}' > /vm/{level}.txt 2>&1"
        )
        .ok();
    }
    script.push_str(OFF);
    script
}

/// What an init brings up. Where the repository or the cache lies in a directory that gets memory of its own, it is
/// seen there still. The modules are those an agent could have loaded by asking for their protocol.
const MOUNTS: &str = "
mkdir /under
mount --bind / /under
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
for path in $kept; do
  case $path in /tmp/*|/run/*) mkdir -p $path && mount --bind /under$path $path;; esac
done
umount -l /under
mkdir -p /dev/pts /dev/shm /sys/fs/cgroup /sys/fs/bpf
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing
for module in vsock_loopback sctp tun veth nf_tables nft_chain_nat nft_masq af_alg algif_hash brd; do
  modprobe -q $module || echo \"vm: no $module\"
done
ip link set lo up
";

const OFF: &str = "
sync
echo o > /proc/sysrq-trigger
sleep 60
";
