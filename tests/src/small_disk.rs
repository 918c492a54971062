//! A small file system of the test's own: one that fills up, turns read-only, hangs, and works again.
//!
//! ext4 on a loop device; where none can be had, a tmpfs, which can't hang.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::process::{run, wait_until};

/// How large it is, in MiB.
const MIB: u64 = 48;

/// The file system; dropped after the daemon that writes to it.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
    image: PathBuf,
    mounted: PathBuf,
    is_loop: bool,
}

impl SmallDisk {
    /// Makes one; mounted nowhere yet.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("vestibule-disk-").tempdir();
        let folder = folder.context("no temporary folder")?;
        let image = folder.path().join("image");
        let file = fs::File::create(&image).context("the image")?;
        file.set_len(MIB << 20).context("the image")?;
        let mut mkfs = Command::new("mkfs.ext4");
        // Without a journal of its own it goes on after `e2fsck`, and says of a failed write what it was.
        mkfs.args(["-q", "-F", "-m", "0", "-O", "^has_journal"]).arg(&image);
        run(&mut mkfs, 30)?.ok()?;
        Ok(Self { folder, image, mounted: PathBuf::new(), is_loop: false })
    }

    /// Mounts it over a folder; what is in there is in it as well.
    ///
    /// # Errors
    /// If neither a loop device nor a tmpfs can be mounted.
    pub fn mount(&mut self, at: &Path) -> Result<()> {
        let kept = self.folder.path().join("kept");
        fs::create_dir(&kept).context("a folder")?;
        let copy = |from: &Path, to: &Path| -> Result<()> {
            run(Command::new("cp").arg("-a").arg(from.join(".")).arg(to), 30)?.ok()?;
            Ok(())
        };
        copy(at, &kept)?;
        at.clone_into(&mut self.mounted);
        self.is_loop = self.mount_loop().and_then(crate::Output::ok).is_ok();
        if !self.is_loop {
            eprintln!("no loop device: a tmpfs stands for the disk");
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", &format!("size={MIB}m"), "tmpfs"]).arg(at);
            run(&mut mount, 30)?.ok()?;
        }
        copy(&kept, at)
    }

    fn mount_loop(&self) -> Result<crate::Output> {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop,errors=remount-ro"]).arg(&self.image);
        run(mount.arg(&self.mounted), 30)
    }

    /// Whether it can hang and has a checker.
    pub fn is_loop(&self) -> bool {
        self.is_loop
    }

    /// Leaves no room on it but `bytes`.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn fill_but(&self, bytes: usize) -> Result<()> {
        let room = vec![1; bytes];
        fs::write(self.mounted.join("room"), room).context("the room that stays")?;
        let mut filler = fs::File::create(self.filler()).context("the filler")?;
        for size in [1 << 20, 4096] {
            loop {
                match filler.write_all(&vec![1; size]).and_then(|()| filler.sync_all()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("the filler"),
                }
            }
        }
        fs::remove_file(self.mounted.join("room")).context("the room that stays")
    }

    /// Makes room again.
    ///
    /// # Errors
    /// If it can't.
    pub fn make_room(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("the filler")
    }

    fn filler(&self) -> PathBuf {
        self.mounted.join("filler")
    }

    /// Has the file system find itself broken, and turn read-only as ext4 does then.
    ///
    /// # Errors
    /// If it does not.
    pub fn break_down(&self) -> Result<()> {
        let device = run(Command::new("findmnt").args(["-no", "SOURCE"]).arg(&self.mounted), 10)?;
        let device = device.ok()?;
        let name = device.trim().rsplit('/').next().context("a device")?.to_owned();
        // What a file system without a journal knows of its files and has not written is lost with the error.
        run(Command::new("sync").arg("-f").arg(&self.mounted), 30)?.ok()?;
        let trigger = Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error");
        fs::write(&trigger, "of a test").with_context(|| trigger.display().to_string())?;
        let probe = fs::write(self.mounted.join("probe"), "x");
        ensure!(probe.is_err(), "it can be written still");
        Ok(())
    }

    /// Unmounts it, checks it and mounts it again, as an operator would. Nobody may hold a file of it.
    ///
    /// # Errors
    /// If it can't be unmounted in 20 s, or repaired.
    pub fn repair(&mut self) -> Result<()> {
        wait_until("nobody holds a file of it", 20, || {
            Ok(run(Command::new("umount").arg(&self.mounted), 20)?.code == Some(0))
        })?;
        // Another mount namespace may have the broken one still: what is mounted again is another disk of these bytes.
        let image = self.folder.path().join("repaired");
        fs::copy(&self.image, &image).context("the image")?;
        self.image = image;
        let checked = run(Command::new("e2fsck").arg("-fy").arg(&self.image), 30)?;
        ensure!(matches!(checked.code, Some(0 | 1)), "not repaired: {}", checked.stdout);
        self.mount_loop()?.ok()?;
        Ok(())
    }

    /// Has everything that writes to it wait, until the answer is dropped.
    ///
    /// # Errors
    /// If it can't be frozen.
    pub fn hang(&self) -> Result<Hanging<'_>> {
        run(Command::new("fsfreeze").arg("-f").arg(&self.mounted), 20)?.ok()?;
        Ok(Hanging(self))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted.as_os_str().is_empty() {
            return;
        }
        let unmounted = run(Command::new("umount").args(["-l"]).arg(&self.mounted), 20);
        if let Err(error) = unmounted.and_then(crate::Output::ok) {
            eprintln!("{} stays mounted: {error:#}", self.mounted.display());
        }
        // What was below could not go while this was on it.
        fs::remove_dir(&self.mounted).ok();
        self.mounted.ancestors().skip(1).take(2).for_each(|dir| drop(fs::remove_dir(dir)));
    }
}

/// A disk that hangs.
#[derive(Debug)]
pub struct Hanging<'a>(&'a SmallDisk);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        let thawed = run(Command::new("fsfreeze").arg("-u").arg(&self.0.mounted), 20);
        if let Err(error) = thawed.and_then(crate::Output::ok) {
            eprintln!("{} hangs still: {error:#}", self.0.mounted.display());
        }
    }
}
