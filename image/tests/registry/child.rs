//! A test in a process of its own, with an environment of its own: this one's is shared by all threads.

use std::process::Command;

use longshore_image::Keychain;
use longshore_test_support::Outcome;
use longshore_test_support::registry::FaultyRegistry;

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
        command.args(["--exact", "child::a_child_pushes_and_pulls", "--nocapture"]);
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

/// Without the variables it starts itself with them.
#[test]
fn a_child_pushes_and_pulls() {
    if let Ok(name) = std::env::var(REFERENCE) {
        return child(&name);
    }
    let server = FaultyRegistry::start([]);
    let name = format!("{}/app:v1", server.host());
    Child::pull(&[(REFERENCE, &name)]).answers("no image");
    Child::pull(&[(REFERENCE, &name), (PUSHES, "1")]).answers(&sample().manifest.digest().to_string());
}

/// What children push.
fn sample() -> Sample {
    Sample::new(40, 1 << 20)
}

fn child(name: &str) {
    let (host, name) = name.split_once('/').unwrap();
    let app = reference(host, name);
    let registry = registry(Keychain::empty());
    if std::env::var_os(PUSHES).is_some() {
        let sample = sample();
        sample.push(&registry, &app).unwrap();
        assert_eq!(pull(&registry, &app).1, sample.layer);
    }
    match registry.manifest(&app) {
        Ok(None) => println!("\nanswer: no image"),
        Ok(Some(manifest)) => println!("\nanswer: {}", manifest.digest()),
        Err(error) => println!("\nfailure: {}", text(&error)),
    }
}
