//! One virtual machine: a kernel, this host's files, a folder for results; it ends by itself or is ended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use integration::process::Running;

use super::kernels::Kernel;
use super::{cache, initramfs, make};

/// Memory: the suite's daemon, agent and sinks need 300 MB; what is written lies in memory as well.
const MEMORY: &str = "3G";

/// Lines of the console that are shown where something fails.
const TAIL_LINES: usize = 40;

/// A kernel that does not come this far in 90 s does not come up.
const UP_S: u64 = 90;

/// A machine that can be run again and again.
#[derive(Debug)]
pub(super) struct Machine {
    image: PathBuf,
    initramfs: PathBuf,
    results: PathBuf,
    modules: PathBuf,
    release: String,
}

impl Machine {
    /// Prepares it: its initramfs and an empty folder for results.
    pub(super) fn new(kernel: &Kernel, name: &str) -> Result<Self> {
        let folder = cache().join("machines").join(format!("{}-{name}", kernel.release));
        let results = folder.join("results");
        fs::remove_dir_all(&results).ok();
        make(&results)?;
        let initramfs = folder.join("initramfs");
        initramfs::write(kernel, &folder.join("root"), &initramfs)?;
        Ok(Self {
            image: kernel.image.clone(),
            initramfs: folder.join("initramfs.gz"),
            results,
            modules: kernel.modules.clone(),
            release: kernel.release.clone(),
        })
    }

    /// Answers the folder that is `/vm` inside.
    pub(super) fn results(&self) -> &Path {
        &self.results
    }

    /// Boots, runs `script` as the first process's program and waits until the machine is off.
    ///
    /// # Errors
    /// If it panics, hangs for more than `seconds`, or can't be started; with the end of its console.
    pub(super) fn run(&self, script: &str, seconds: u64) -> Result<()> {
        fs::write(self.results.join("init"), format!("{}{script}", self.prelude()))
            .context("init")?;
        let accelerator = self.accelerator()?;
        let ended = self.boot(accelerator, seconds)?;
        let console = self.console();
        if console.contains("Kernel panic") || console.contains("BUG: ") {
            bail!("the kernel panics; its console ends:\n{}", self.console_tail());
        }
        if !ended {
            bail!("not off within {seconds} s; its console ends:\n{}", self.console_tail());
        }
        Ok(())
    }

    /// Answers the last lines of the console.
    pub(super) fn console_tail(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.console_path()).unwrap_or_default()).into_owned()
    }

    fn console_path(&self) -> PathBuf {
        self.results.with_file_name("console.log")
    }

    /// What every script starts with: the modules at their place, the usual file systems.
    fn prelude(&self) -> String {
        let Self { modules, release, .. } = self;
        let modules = modules.join(release);
        format!(
            "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root\n\
             mkdir -p /lib/modules/{release}\n\
             mount --bind {modules} /lib/modules/{release}\n",
            modules = modules.display()
        )
    }

    /// KVM where it really works: some hosts have the device and can't run a kernel with it. Tried once.
    fn accelerator(&self) -> Result<&'static str> {
        let known = cache().join("accelerator");
        let found = fs::read_to_string(&known).unwrap_or_default();
        for name in [KVM, TCG] {
            if found.trim() == name {
                return Ok(name);
            }
        }
        let script = self.results.join("init");
        let wanted = fs::read(&script).context("init")?;
        fs::write(&script, "echo o > /proc/sysrq-trigger; sleep 60\n").context("init")?;
        let works = Path::new("/dev/kvm").exists()
            && self.boot(KVM, KVM_TRIAL_S).unwrap_or(false)
            && self.console().contains("vm: up");
        fs::write(&script, wanted).context("init")?;
        let name = if works { KVM } else { TCG };
        fs::write(known, name).context("the accelerator's note")?;
        Ok(name)
    }

    /// Runs QEMU; whether it ended by itself in time.
    fn boot(&self, accelerator: &str, seconds: u64) -> Result<bool> {
        let console = File::create(self.console_path()).context("the console's log")?;
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-nodefaults",
            "-nographic",
            "-no-reboot",
            "-serial",
            "stdio",
            "-smp",
            "2",
            "-m",
            MEMORY,
        ]);
        match accelerator {
            KVM => qemu.args(["-accel", "kvm", "-cpu", "host"]),
            _ => qemu.args(["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max"]),
        };
        qemu.arg("-kernel").arg(&self.image).arg("-initrd").arg(&self.initramfs);
        // Without KVM a busy host is too slow for the timer's check, which would panic.
        // A panic reboots (panic=-1), and a reboot ends QEMU.
        // The BPF LSM is in Debian's default list; it is said here for the day it is not.
        qemu.args([
            "-append",
            "console=ttyS0 quiet panic=-1 no_timer_check lsm=landlock,lockdown,yama,integrity,apparmor,bpf",
        ]);
        let share = |path: &Path, tag: &str, rest: &str| {
            let path = path.display();
            format!("local,path={path},mount_tag={tag},security_model=none,multidevs=remap{rest}")
        };
        qemu.args(["-virtfs", &share(Path::new("/"), "root", ",readonly=on")]);
        qemu.args(["-virtfs", &share(&self.results, "results", "")]);
        let error = console.try_clone().context("the console's log")?;
        qemu.stdin(Stdio::null()).stdout(console).stderr(error);
        let mut running = Running::new("qemu-system-x86_64", &mut qemu)?;
        let is_up = || self.console().contains("vm: up");
        if running.wait(UP_S.min(seconds))?.is_some() {
            return Ok(is_up());
        }
        if !is_up() {
            return Ok(false);
        }
        Ok(running.wait(seconds.saturating_sub(UP_S))?.is_some())
    }
}

const KVM: &str = "kvm";
const TCG: &str = "tcg";

/// With KVM a kernel is up in a second or two.
const KVM_TRIAL_S: u64 = 20;
