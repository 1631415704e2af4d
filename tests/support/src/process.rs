//! Running programs to their end, and servers until they are dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; `None` when a signal ended the program.
    pub code: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl Outcome {
    /// Runs `command` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Self {
        let output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self {
            command: format!("{command:?}"),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Requires exit code 0.
    ///
    /// # Panics
    /// When it was another; the message has both outputs.
    #[track_caller]
    pub fn success(self) -> Self {
        self.fails_with(0)
    }

    /// Requires this exit code.
    ///
    /// # Panics
    /// When it was another; the message has both outputs.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "exit code of {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Requires `text` in standard output or standard error.
    ///
    /// # Panics
    /// When it is in neither.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "`{text}` is missing in the output of {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Requires that `text` is in neither output.
    ///
    /// # Panics
    /// When it is.
    #[track_caller]
    pub fn does_not_say(self, text: &str) -> Self {
        assert!(
            !self.stdout.contains(text) && !self.stderr.contains(text),
            "`{text}` should not be in the output of {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Requires the program `path` and names the Debian package that has it.
///
/// # Panics
/// When there is no such file.
pub fn require_tool(path: &str, package: &str) {
    assert!(
        Path::new(path).exists(),
        "this test needs {path}: run `make test-packages`, or apt-get install {package}"
    );
}

/// Sends a signal to a process that has not been waited for. There may be no program `kill`: Debian has it in a package that
/// a small system does without.
///
/// # Errors
/// When the process may not be sent signals.
pub fn send(process: &Child, signal: Signal) -> std::io::Result<()> {
    let id = i32::try_from(process.id()).map_err(std::io::Error::other)?;
    Ok(nix::sys::signal::kill(Pid::from_raw(id), signal)?)
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: PathBuf,
    command: String,
}

impl Server {
    /// Starts `command` with its output going to the file `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::create(log).expect("the log file of a server");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle to the log file"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, log: log.to_path_buf(), command: format!("{command:?}") }
    }

    /// Waits until `ready` says so.
    ///
    /// # Panics
    /// When the server ends before that, or the time is up; the message has the server's log.
    pub fn wait_until(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) {
        let start = Instant::now();
        while !ready() {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended with {status}\n{}", self.command, self.log());
            }
            assert!(start.elapsed() < limit, "{} is not ready after {limit:?}\n{}", self.command, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that the server has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The server's process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the server to end and waits; ends it after ten seconds.
    pub fn stop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        let was_asked = send(&self.child, Signal::SIGTERM).is_ok();
        let start = Instant::now();
        while was_asked && start.elapsed() < Duration::from_secs(10) {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `program` with `arguments`, in the words of `Command`.
pub fn command(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
