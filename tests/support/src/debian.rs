//! The builder of `fixtures/builders/debian`, made once and shared by all tests that need Python or Node.js.
//!
//! Its base images take a minute or two, so they are kept in Cargo's target folder as long as `base.toml` stays the
//! same. The builder on top of them is made in each run of the tests, from the buildpacks as they are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::process::Outcome;
use crate::{TestEnvironment, layout, repository};

/// The name of the base images before `-build` and `-run`.
pub const BASE: &str = "longshore/debian";
/// The builder's name.
pub const BUILDER: &str = "longshore/debian-builder";
/// The run image's name.
pub const RUN_IMAGE: &str = "longshore/debian-run";

static STORE: OnceLock<PathBuf> = OnceLock::new();

/// Puts the builder and its run image into the local store of `environment`, which has not been used yet.
///
/// # Panics
/// When the builder cannot be made.
pub fn install(environment: &TestEnvironment, longshore: &Path) {
    let source = STORE.get_or_init(|| make(longshore));
    let target = environment.store();
    std::fs::create_dir_all(target.parent().expect("the store's folder")).expect("the data folder");
    // Blobs never change, so links do where the file system allows them; the index does.
    let linked = Outcome::of(Command::new("cp").arg("-al").arg(source).arg(&target));
    if linked.code != Some(0) {
        let _ = std::fs::remove_dir_all(&target);
        repository::copy_folder(source, &target);
    }
    let index = target.join("index.json");
    std::fs::remove_file(&index).expect("the link to the index");
    std::fs::copy(source.join("index.json"), &index).expect("an index of its own");
    environment.hand_over();
}

/// Makes base images, unless they are kept, and the builder; returns the folder of the store with all of them.
fn make(longshore: &Path) -> PathBuf {
    let fixture = repository::fixture("builders/debian");
    let base = std::fs::read(fixture.join("base.toml")).expect("base.toml");
    let key = &layout::digest(&base)["sha256:".len()..][..16];
    let kept = longshore.ancestors().nth(2).expect("the target folder").join("test-builders").join(key);
    let data = kept.join("data");
    if !kept.join("complete").exists() {
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::create_dir_all(&data).expect("a folder for the base images");
        let config = fixture.join("base.toml");
        let outcome = run(longshore, &data, &["base", "create", BASE, "--config"], &config);
        outcome.success();
        std::fs::write(kept.join("complete"), "").expect("the mark of complete base images");
    }
    let outcome =
        run(longshore, &data, &["builder", "create", BUILDER, "--config"], &fixture.join("builder.toml"));
    outcome.success();
    data.join("longshore").join("store")
}

fn run(longshore: &Path, data: &Path, arguments: &[&str], config: &Path) -> Outcome {
    Outcome::of(
        Command::new(longshore).args(arguments).arg(config).env("XDG_DATA_HOME", data).env("NO_COLOR", "1"),
    )
}
