//! The file system a machine starts from: busybox, the few modules that reach the root, and a script.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::kernels::Kernel;
use super::make;
use crate::command::{run_logged, which};

/// What the root needs; those built in have no file.
const WANTED: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console"];

/// Mounts this host's root read-only, memory above it, and goes there. `$1` of the kernel's command line that
/// is not its own arrives as an argument.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /lower /upper /new /bin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read module; do insmod "/modules/$module" || echo "vm: no $module"; done < /modules/order
fail() { echo "vm: $1"; poweroff -f; }
options=trans=virtio,version=9p2000.L,msize=262144
mount -t 9p -o $options,ro,cache=loose root /lower || fail "no root"
mount -t tmpfs -o size=75% tmpfs /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /new || fail "no overlay"
mkdir -p /new/vm
mount -t 9p -o $options,rw,cache=none results /new/vm || fail "no results"
for at in proc sys dev; do mkdir -p /new/$at; mount --move /$at /new/$at; done
echo "vm: up"
exec switch_root /new /bin/sh /vm/init
"#;

/// Writes the initramfs of a kernel to `path`.
///
/// # Errors
/// If a module is missing, or busybox or cpio.
pub(super) fn write(kernel: &Kernel, folder: &Path, path: &Path) -> Result<()> {
    fs::remove_dir_all(folder).ok();
    make(&folder.join("bin"))?;
    make(&folder.join("modules"))?;
    let busybox = which("busybox").context("no busybox: cargo xtask setup")?;
    fs::copy(busybox, folder.join("bin/busybox")).context("busybox")?;
    let mut order = String::new();
    for module in closure(kernel)? {
        let name =
            unpack(&kernel.modules.join(&kernel.release).join(&module), &folder.join("modules"))?;
        order.push_str(&name);
        order.push('\n');
    }
    fs::write(folder.join("modules/order"), order).context("the modules' order")?;
    fs::write(folder.join("init"), INIT).context("init")?;
    fs::set_permissions(folder.join("init"), fs::Permissions::from_mode(0o755)).context("init")?;
    pack(folder, path)
}

/// Answers the files of the wanted modules and of all they need, in the order to load them.
fn closure(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let path = kernel.modules.join(&kernel.release).join("modules.dep");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(in_order(&text, WANTED))
}

/// modules.dep(5): a file, a colon, the files it needs, the most basic last.
fn in_order(text: &str, wanted: &[&str]) -> Vec<PathBuf> {
    let needs: BTreeMap<&str, (&str, Vec<&str>)> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, needed)| (name(file), (file, needed.split_whitespace().collect())))
        .collect();
    let mut order: Vec<PathBuf> = Vec::new();
    for module in wanted {
        let Some((file, needed)) = needs.get(module) else { continue };
        for each in needed.iter().rev().chain([file]) {
            let each = PathBuf::from(each);
            if !order.contains(&each) {
                order.push(each);
            }
        }
    }
    order
}

/// `kernel/fs/9p/9p.ko.xz` is 9p.
fn name(file: &str) -> &str {
    let last = file.rsplit('/').next().unwrap_or(file);
    last.split('.').next().unwrap_or(last)
}

/// Copies a module, uncompressed, and answers its file's name.
fn unpack(module: &Path, to: &Path) -> Result<String> {
    let file = module.file_name().and_then(|n| n.to_str()).context("a module has a name")?;
    let (plain, program) = if let Some(plain) = file.strip_suffix(".xz") {
        (plain, "xz")
    } else if let Some(plain) = file.strip_suffix(".zst") {
        (plain, "zstd")
    } else {
        fs::copy(module, to.join(file)).with_context(|| module.display().to_string())?;
        return Ok(file.to_owned());
    };
    let output = fs::File::create(to.join(plain)).context("a module")?;
    let mut unpack = Command::new(program);
    let status = unpack.arg("-dc").arg(module).stdout(output).status().context(program)?;
    ensure!(status.success(), "{program} can't read {}", module.display());
    Ok(plain.to_owned())
}

fn pack(folder: &Path, path: &Path) -> Result<()> {
    let archive = fs::File::create(path).with_context(|| path.display().to_string())?;
    let mut cpio = Command::new("sh");
    cpio.current_dir(folder).args(["-c", "find . | cpio --create --format=newc --quiet"]);
    let status = cpio.stdin(Stdio::null()).stdout(archive).status().context("cpio")?;
    ensure!(status.success(), "cpio failed");
    run_logged("vm-gzip", Command::new("gzip").args(["-1", "-f", "-k"]).arg(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_before_it() {
        let text = "kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz\n\
                    kernel/fs/overlayfs/overlay.ko:\n";
        let order = in_order(text, &["overlay", "9p", "built_in"]);
        let names: Vec<String> = order.iter().map(|p| p.display().to_string()).collect();
        assert_eq!(
            names,
            [
                "kernel/fs/overlayfs/overlay.ko",
                "kernel/fs/netfs/netfs.ko.xz",
                "kernel/net/9p/9pnet.ko.xz",
                "kernel/fs/9p/9p.ko.xz"
            ]
        );
    }
}
