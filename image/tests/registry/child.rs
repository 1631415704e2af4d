//! A test in a process of its own, with an environment of its own: this one's is shared by all threads.

use std::process::Command;

use longshore_image::Keychain;
use longshore_test_support::Outcome;

use crate::samples::{Sample, pull, reference, registry, text};

/// What the child pulls; without it there is no child.
pub(crate) const REFERENCE: &str = "LONGSHORE_TEST_REFERENCE";
/// Set when the child pushes first.
pub(crate) const PUSHES: &str = "LONGSHORE_TEST_PUSHES";

/// What the child said.
pub(crate) struct Child(Outcome);

impl Child {
    /// Pulls in an environment of these variables alone.
    pub(crate) fn pull(variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child::the_child", "--nocapture", "--ignored"]);
        command.env_clear().envs(variables.iter().copied());
        Self(Outcome::of(&mut command))
    }

    /// Requires that it came to its end, and said so.
    #[track_caller]
    pub(crate) fn answers(self, words: &str) {
        self.0.success().says(&format!("answer: {words}"));
    }

    /// Requires that it failed, with these words.
    #[track_caller]
    pub(crate) fn fails_with(self, words: &str) {
        let error = self.0.stdout.lines().find(|line| line.starts_with("failure: ")).unwrap_or_default();
        assert!(error.contains(words), "{:#?}", self.0);
    }
}

#[test]
#[ignore = "a part of other tests, which start it with variables"]
fn the_child() {
    let Ok(name) = std::env::var(REFERENCE) else { return };
    let (host, name) = name.split_once('/').unwrap();
    let app = reference(host, name);
    let registry = registry(Keychain::empty());
    if std::env::var_os(PUSHES).is_some() {
        let sample = Sample::new(40, 1 << 20);
        sample.push(&registry, &app).unwrap();
        assert_eq!(pull(&registry, &app).1, sample.layer);
    }
    match registry.manifest(&app) {
        Ok(None) => println!("\nanswer: no image"),
        Ok(Some(manifest)) => println!("\nanswer: {}", manifest.digest()),
        Err(error) => println!("\nfailure: {}", text(&error)),
    }
}
