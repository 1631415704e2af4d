//! What becomes of an app image when its run image is updated: it was built by an older platform, is built again, and is
//! then rebased. Skopeo looks at it before and after each step.

use longshore_test_support::{Podman, skopeo};
use serde_json::Value;

use crate::containers::{Build, Engine as _, Surroundings};

const METADATA: &str = "io.buildpacks.lifecycle.metadata";

/// An image as skopeo sees it.
struct Seen {
    manifest: Value,
    config: Value,
    metadata: Value,
}

impl Seen {
    fn look(image: &str) -> Self {
        let reference = format!("docker://{image}");
        let config = skopeo::configuration(&reference);
        let label = config["config"]["Labels"][METADATA].as_str().unwrap_or("null");
        Self {
            metadata: serde_json::from_str(label).expect("the label is JSON"),
            manifest: skopeo::manifest(&reference),
            config,
        }
    }

    fn layers(&self) -> &[Value] {
        self.manifest["layers"].as_array().expect("layers")
    }

    fn diff_ids(&self) -> &[Value] {
        self.config["rootfs"]["diff_ids"].as_array().expect("DiffIDs")
    }

    /// The lowest layers are those of the run image, and the label says which is the uppermost of them.
    fn stands_on(&self, run_image: &Self) -> &[Value] {
        let count = run_image.layers().len();
        assert_eq!(self.layers()[..count], *run_image.layers());
        assert_eq!(self.diff_ids()[..count], *run_image.diff_ids());
        assert_eq!(&self.metadata["runImage"]["topLayer"], run_image.diff_ids().last().unwrap());
        &self.layers()[count..]
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let variables = self.config["config"]["Env"].as_array().expect("variables");
        let mut pairs = variables.iter().filter_map(|pair| pair.as_str()?.split_once('='));
        pairs.find_map(|(known, value)| (known == name).then_some(value))
    }
}

#[test]
fn an_app_image_follows_its_run_image() {
    let surroundings = Surroundings::new();
    let podman = Podman::new();
    podman.fetch(&surroundings.builder);
    let image = surroundings.registry.reference("app:1");
    let digest_of =
        |name: &str| format!("{}@{}", name.rsplit_once(':').unwrap().0, surroundings.digest(name));
    let run_image = surroundings.run_image.as_str();

    // An older build: the label knows stacks only, and layers have no history.
    let old_run_image = Seen::look(run_image);
    Build { platform_api: "0.11", ..Build::new(&podman, &surroundings, "older") }.untrusted(&image);
    let older = Seen::look(&image);
    let above = older.stands_on(&old_run_image);
    assert_eq!(older.variable("CNB_PLATFORM_API"), Some("0.11"));
    assert_eq!(older.metadata["runImage"]["reference"], digest_of(run_image));
    assert_eq!(older.metadata["runImage"]["image"], Value::Null);
    assert!(older.config["history"].as_array().unwrap().iter().all(|entry| entry["created_by"].is_null()));
    let dependencies = older.metadata["buildpacks"][0]["layers"]["dependencies"]["sha"].clone();
    assert!(older.diff_ids().contains(&dependencies));

    // The run image is updated, and the app is built again by a newer platform.
    surroundings.update_run_image(run_image, "1\n");
    let updated = Seen::look(run_image);
    assert_eq!(updated.layers().len(), old_run_image.layers().len() + 1);
    Build::new(&podman, &surroundings, "newer")
        .untrusted(&image)
        .says("keeping dependencies")
        .says("Reusing layer 'test/caching:dependencies'");
    let newer = Seen::look(&image);
    let above_newer = newer.stands_on(&updated);
    assert_eq!(above_newer.len(), above.len());
    assert_eq!(above_newer[0], above[0], "the layer of the first buildpack is that of the older build");
    assert_eq!(newer.variable("CNB_PLATFORM_API"), Some("0.15"));
    assert_eq!(newer.metadata["runImage"]["reference"], digest_of(run_image));
    assert_eq!(newer.metadata["runImage"]["image"], run_image);
    assert_eq!(newer.metadata["buildpacks"][0]["layers"]["dependencies"]["sha"], dependencies);
    let history = newer.config["history"].as_array().unwrap();
    assert_eq!(history.len(), newer.diff_ids().len());
    assert_eq!(
        history[updated.layers().len()]["created_by"],
        "Layer: 'dependencies', Created by buildpack: test/caching@1.0.0"
    );

    // The run image is updated again, and the app image is rebased: no layer above it changes.
    surroundings.update_run_image(run_image, "2\n");
    let updated_again = Seen::look(run_image);
    let uploads = surroundings.uploads();
    surroundings.environment.longshore(&["rebase", &image, "--publish"]).success();
    let rebased = Seen::look(&image);
    assert_eq!(rebased.stands_on(&updated_again), above_newer);
    assert_eq!(rebased.metadata["runImage"]["reference"], digest_of(run_image));
    let mut expected = newer.metadata.clone();
    expected["runImage"] = rebased.metadata["runImage"].clone();
    assert_eq!(rebased.metadata, expected, "nothing else of the label changes");
    for field in ["Entrypoint", "Env", "WorkingDir", "User"] {
        assert_eq!(rebased.config["config"][field], newer.config["config"][field], "{field}");
    }
    let labels = |seen: &Seen| {
        let mut labels = seen.config["config"]["Labels"].as_object().unwrap().clone();
        labels.remove(METADATA);
        labels
    };
    assert_eq!(labels(&rebased), labels(&newer));
    assert!(
        surroundings.uploads() <= uploads + 2,
        "the configuration, and the layer of the run image at most"
    );
}
