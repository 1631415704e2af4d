//! Signals of the caller's process, passed on to the command.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{SigSet, Signal};

use crate::run::{Running, Signals};

/// What people and service managers send to a command.
const PASSED_ON: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Passes the signals of this process on to a sandbox.
#[derive(Debug, Clone, Default)]
pub struct SignalForwarder {
    to: Arc<Mutex<Option<(Signals, OnSignal)>>>,
    /// The number of the last signal that asked the process to end; 0 if there was none.
    ended_by: Arc<AtomicI32>,
}

/// What a signal does to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSignal {
    /// The command gets it, and decides itself.
    PassOn,
    /// The command is asked to end, and killed after its grace period.
    Cancel,
}

impl SignalForwarder {
    /// Takes over the signals of this process. While no sandbox that runs is [attached](Self::attach) they end the
    /// process, with exit code 128 and their number, as they would without this.
    ///
    /// Call it before the process has other threads: those would go on to be interrupted.
    ///
    /// # Errors
    /// When the signals cannot be blocked, or no thread can be started.
    pub fn start() -> io::Result<Self> {
        let signals: SigSet = PASSED_ON.iter().copied().collect();
        signals.thread_block()?;
        let forwarder = Self::default();
        let inside = forwarder.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while let Ok(signal) = signals.wait() {
                inside.pass_on(signal);
            }
        })?;
        Ok(forwarder)
    }

    /// From now on, and while it runs, signals go to this sandbox.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn attach(&self, running: &Running, on_signal: OnSignal) -> io::Result<()> {
        let signals = running.signals()?;
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = Some((signals, on_signal));
        Ok(())
    }

    /// The signal that asked this process to end, if one did.
    #[must_use]
    pub fn ended_by(&self) -> Option<i32> {
        Some(self.ended_by.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }

    fn pass_on(&self, signal: Signal) {
        let ends = matches!(signal, Signal::SIGHUP | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTERM);
        if ends {
            self.ended_by.store(signal as i32, Ordering::Relaxed);
        }
        let passed = match &*self.to.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((signals, OnSignal::Cancel)) if ends => signals.cancel(),
            Some((signals, _)) => signals.send(signal as i32),
            None => Err(io::Error::from(io::ErrorKind::NotConnected)),
        };
        if passed.is_err() && ends {
            std::process::exit(128 + signal as i32);
        }
    }
}
