//! What all rows need: the programs, the scratch folder, and what is kept in it.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use longshore_test_support::user;

use crate::machine::Machine;
use crate::measure::quietly;
use crate::options::Options;
use crate::report::Report;

/// Longshore's names as the lifecycle.
const PHASES: [&str; 5] = ["analyzer", "restorer", "exporter", "creator", "rebaser"];

/// What all rows need.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) machine: Machine,
    pub(crate) longshore: PathBuf,
    pub(crate) launcher: PathBuf,
    /// The folder with data that is made once.
    pub(crate) data: PathBuf,
    /// A folder for the files of one run after the other.
    pub(crate) place: PathBuf,
    programs: PathBuf,
    results: PathBuf,
}

impl Bench {
    pub(crate) fn new(options: Options) -> anyhow::Result<Self> {
        let longshore = options.longshore()?;
        ensure!(
            longshore.exists(),
            "there is no program {}; `make bench` builds it, or name one with --longshore",
            longshore.display()
        );
        let scratch = options.scratch();
        let size = if options.quick { "quick" } else { "full" };
        let below = |name: &str| scratch.join(size).join(name);
        let bench = Self {
            machine: Machine::new(&scratch),
            launcher: launcher(&longshore)?,
            data: below("data"),
            place: below("place"),
            programs: below("programs"),
            results: below("results"),
            longshore,
            options,
        };
        for folder in [&bench.data, &bench.place, &bench.programs, &bench.results] {
            fs_err::create_dir_all(folder)?;
        }
        for phase in PHASES {
            let link = bench.programs.join(phase);
            let _not_there = fs_err::remove_file(&link);
            symlink(&bench.longshore, &link)?;
        }
        Ok(bench)
    }

    /// Longshore as one of the lifecycle's programs.
    pub(crate) fn phase(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Whether a command of `longshore` has an option.
    pub(crate) fn has_option(&self, command: &[&str], option: &str) -> anyhow::Result<bool> {
        Ok(quietly(Command::new(&self.longshore).args(command).arg("--help"))?.contains(option))
    }

    /// An empty folder of this name for a row.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.place.join(name);
        remove(&folder)?;
        fs_err::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Waits until what was written and removed so far is on the disk: deleting trees slows down what comes after it.
    pub(crate) fn settle(&self, next: &Command) -> anyhow::Result<()> {
        if !self.options.quick {
            quietly(&mut Command::new("sync"))
                .with_context(|| format!("before {}", next.get_program().display()))?;
        }
        Ok(())
    }

    /// Empties the page cache, which only root can.
    pub(crate) fn drop_caches(&self) -> anyhow::Result<()> {
        quietly(&mut Command::new("sync"))?;
        Ok(fs_err::write("/proc/sys/vm/drop_caches", "3")?)
    }

    /// Lets the file system forget what was removed before, where root runs this: ext4 without a journal steps over inodes
    /// that were removed in the last minutes, for seconds, as long as it has in memory where they were.
    pub(crate) fn forget(&self) -> anyhow::Result<()> {
        if self.is_root() && !self.options.quick { self.drop_caches() } else { Ok(()) }
    }

    pub(crate) fn is_root(&self) -> bool {
        user::is_root()
    }

    pub(crate) fn keep(&self, report: &Report) -> anyhow::Result<()> {
        Ok(fs_err::write(self.results.join(&report.id), serde_json::to_vec_pretty(report)?)?)
    }

    /// The last report of a row on this machine.
    pub(crate) fn kept(&self, id: &str) -> anyhow::Result<Option<Report>> {
        let path = self.results.join(id);
        if !path.exists() {
            return Ok(None);
        }
        let report = serde_json::from_slice(&fs_err::read(&path)?);
        Ok(Some(report.with_context(|| format!("{} is not a report; remove it", path.display()))?))
    }
}

/// The launcher that scripts/build.sh puts into the release binary, or the one that Cargo builds beside a development one.
fn launcher(longshore: &Path) -> anyhow::Result<PathBuf> {
    let beside = longshore.with_file_name("launcher");
    let built = longshore.ancestors().nth(2).map(|target| target.join("launcher/launcher"));
    std::iter::once(beside)
        .chain(built)
        .find(|path| path.exists())
        .with_context(|| format!("there is no launcher near {}", longshore.display()))
}

/// Removes a file or a folder with all that is in it, if it is there.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    match fs_err::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(metadata) if metadata.is_dir() => {
            // A run that was ended may have left mounts of other file systems, which must stay as they are.
            quietly(Command::new("rm").args(["-rf", "--one-file-system"]).arg(path)).map(drop)
        }
        Ok(_) => Ok(fs_err::remove_file(path)?),
    }
}

/// A pipeline of the shell; `$0`, `$1` and so on are the arguments.
pub(crate) fn shell(script: &str, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Command {
    let mut command = Command::new("sh");
    command.arg("-ec").arg(script).args(arguments.into_iter().map(Into::into));
    command
}
