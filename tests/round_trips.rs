//! How often a build and a rebase wait for the registry, compared with skopeo, which copies an image with the same change
//! over the same line.

use longshore_test_support::layout::Layout;
use longshore_test_support::proxy::Traffic;
use longshore_test_support::tiny::{TinyBuilder, web_app, web_buildpack};
use longshore_test_support::{CountingLine, DockerRegistry, TestEnvironment, skopeo};

use crate::LONGSHORE;

/// A builder in the local store, and its run image in a registry at the end of a line that counts.
struct Place {
    line: CountingLine,
    environment: TestEnvironment,
    builder: TinyBuilder,
    _registry: DockerRegistry,
}

impl Place {
    fn new() -> Self {
        let registry = DockerRegistry::start();
        let line = CountingLine::start(registry.port());
        let environment = TestEnvironment::new(LONGSHORE);
        let run_image = format!("{}/tiny-run:latest", line.host());
        let builder = TinyBuilder { run_image, ..TinyBuilder::new(vec![web_buildpack()]) };
        builder.write_builder(&Layout::open(&environment.store()), longshore_test_support::tiny::BUILDER);
        environment.hand_over();
        let place = Self { line, environment, builder, _registry: registry };
        place.push_run_image(None);
        place.change("one\n");
        place
    }

    /// Pushes the run image, or one with a patch.
    fn push_run_image(&self, patch: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path());
        match patch {
            Some(text) => self.builder.write_patched_run_image(&layout, "run", text),
            None => self.builder.write_run_image(&layout, "run"),
        }
        skopeo::copy(
            &format!("oci:{}:run", folder.path().display()),
            &format!("docker://{}", self.builder.run_image),
        );
    }

    fn change(&self, page: &str) {
        web_app(&self.environment.path("app"), page);
        self.environment.hand_over();
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.line.host())
    }

    fn build(&self, name: &str) -> Traffic {
        let image = self.name(name);
        let build = ["build", &image, "--path", "app", "--builder", "tiny-builder", "--publish"];
        self.line.during(|| drop(self.environment.longshore(&build).success()))
    }

    fn rebase(&self, name: &str) -> Traffic {
        let image = self.name(name);
        self.line.during(|| drop(self.environment.longshore(&["rebase", &image, "--publish"]).success()))
    }

    /// Copies what `from` is now to `to`, out of a layout.
    fn copy(&self, from: &str, to: &str) -> Traffic {
        let folder = tempfile::tempdir().unwrap();
        let layout = format!("oci:{}:app", folder.path().display());
        skopeo::copy(&format!("docker://{}", self.name(from)), &layout);
        let target = format!("docker://{}", self.name(to));
        self.line.during(|| skopeo::copy(&layout, &target))
    }
}

fn assert_fewer(ours: Traffic, theirs: Traffic) {
    println!("ours {ours:?}, skopeo's {theirs:?}");
    assert!(ours.round_trips <= theirs.round_trips, "ours {ours:?}, skopeo's {theirs:?}");
    assert!(ours.connections <= theirs.connections, "ours {ours:?}, skopeo's {theirs:?}");
}

#[test]
fn builds_and_rebases_wait_less_than_skopeo() {
    let place = Place::new();
    place.build("ours:1");
    place.copy("ours:1", "theirs:1");
    println!("nothing has changed");
    assert_fewer(place.build("ours:1"), place.copy("ours:1", "theirs:1"));

    place.change("two\n");
    println!("one layer has changed");
    assert_fewer(place.build("ours:1"), place.copy("ours:1", "theirs:1"));

    place.push_run_image(Some("patched\n"));
    println!("the run image has changed");
    assert_fewer(place.rebase("ours:1"), place.copy("ours:1", "theirs:1"));
}
