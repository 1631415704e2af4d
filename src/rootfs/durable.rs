//! Which unpacked layers are on the disk.
//!
//! Until the machine stops, what was written is what is read, whether it is on the disk or not; so nobody has to wait for
//! the disk before a layer is used. Afterwards only what was brought to the disk is what it was. A layer therefore notes in
//! which run of the machine it was unpacked, and gets the mark that it is on the disk once it is. Without the mark it is
//! believed in that run only.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::thread::JoinHandle;

use anyhow::Context;
use longshore_image::DiffId;

/// What is known of an unpacked layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is not there, or may not be what it was.
    Missing,
    /// It is there as long as the machine runs.
    InMemory,
    /// It is there.
    OnDisk,
}

/// The unpacked layers of one mapping, and the run of the machine.
#[derive(Debug, Clone)]
pub(super) struct Records {
    directory: PathBuf,
    /// `None` where the machine does not tell: then only what is on the disk is believed.
    boot: Option<String>,
}

impl Records {
    pub(super) fn new(directory: PathBuf) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        Self { directory, boot: boot.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()) }
    }

    /// Whether what is in memory can be told from what was.
    pub(super) fn knows_boot(&self) -> bool {
        self.boot.is_some()
    }

    pub(super) fn path(&self, diff_id: DiffId) -> PathBuf {
        self.directory.join(diff_id.hex())
    }

    /// The file that is locked while a layer is unpacked, and that says in which run of the machine that was.
    pub(super) fn lock(&self, diff_id: DiffId) -> PathBuf {
        self.path(diff_id).with_extension("lock")
    }

    fn mark(&self, diff_id: DiffId) -> PathBuf {
        self.path(diff_id).with_extension("synced")
    }

    pub(super) fn state(&self, diff_id: DiffId) -> State {
        if !self.path(diff_id).exists() {
            return State::Missing;
        }
        if self.mark(diff_id).exists() {
            return State::OnDisk;
        }
        let noted = std::fs::read_to_string(self.lock(diff_id)).ok();
        if self.boot.is_some() && noted == self.boot { State::InMemory } else { State::Missing }
    }

    /// Notes that a layer, whose lock this is, is unpacked in this run of the machine, and is not on the disk.
    pub(super) fn begin(&self, diff_id: DiffId, lock: &mut File) -> anyhow::Result<()> {
        let mark = self.mark(diff_id);
        if mark.exists() {
            fs_err::remove_file(&mark)?;
        }
        let path = self.lock(diff_id);
        let note = self.boot.clone().unwrap_or_default();
        let written =
            lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(note.as_bytes()));
        written.with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Brings layers to the disk, all at once, and marks them.
    pub(super) fn sync(&self, layers: &[DiffId]) -> anyhow::Result<()> {
        if layers.is_empty() {
            return Ok(());
        }
        let directory = fs_err::File::open(&self.directory)?;
        rustix::fs::syncfs(&directory)
            .with_context(|| format!("cannot bring `{}` to the disk", self.directory.display()))?;
        for layer in layers {
            fs_err::File::create(self.mark(*layer))?;
        }
        Ok(())
    }
}

/// Layers that are being brought to the disk meanwhile. Waited for when dropped.
pub(crate) struct Syncing(Option<JoinHandle<anyhow::Result<()>>>);

impl Syncing {
    pub(super) fn start(records: &Records, layers: &[DiffId]) -> Self {
        if layers.is_empty() {
            return Self(None);
        }
        let (records, layers) = (records.clone(), layers.to_vec());
        let started = std::thread::Builder::new().spawn(move || records.sync(&layers));
        // Whoever uses them next tries again.
        Self(started.ok())
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        let result = self.0.take().map(JoinHandle::join);
        if let Some(Ok(Err(error))) = result {
            // They are there; whoever uses them next tries again.
            tracing::debug!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_on_the_disk_is_believed_in_one_run_of_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let of = |boot: Option<&str>| Records {
            directory: folder.path().to_owned(),
            boot: boot.map(str::to_owned),
        };
        let (before, after, unknown) = (of(Some("a")), of(Some("b")), of(None));
        let states = |layer| [&before, &after, &unknown].map(|records| records.state(layer));
        let layer = DiffId::of(b"layer");
        let unpack = |records: &Records| {
            let mut lock = File::create(records.lock(layer)).unwrap();
            records.begin(layer, &mut lock).unwrap();
            if !records.path(layer).exists() {
                std::fs::create_dir(records.path(layer)).unwrap();
            }
        };
        assert_eq!(states(layer), [State::Missing; 3]);
        unpack(&before);
        assert_eq!(states(layer), [State::InMemory, State::Missing, State::Missing]);
        before.sync(&[layer]).unwrap();
        assert_eq!(states(layer), [State::OnDisk; 3]);
        unpack(&after);
        assert_eq!(states(layer), [State::Missing, State::InMemory, State::Missing]);
        unpack(&unknown);
        assert_eq!(states(layer), [State::Missing; 3]);
        after.sync(&[layer]).unwrap();
        std::fs::remove_dir(after.path(layer)).unwrap();
        assert_eq!(states(layer), [State::Missing; 3]);
    }
}
