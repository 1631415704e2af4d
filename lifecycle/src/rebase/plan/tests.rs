//! Which images fit onto which, and what the label says then.

use longshore_cnb::lifecycle_metadata::{RunImageMetadata, RunImageNames};
use longshore_image::{DiffId, Platform};

use super::*;

fn config(platform: &str, labels: Labels<'_>) -> Config {
    let mut parts = platform.split('/');
    let mut wanted = Platform::linux("");
    wanted.os = parts.next().unwrap_or_default().to_owned();
    wanted.architecture = parts.next().unwrap_or_default().to_owned();
    wanted.variant = parts.next().map(str::to_owned);
    let mut config = Config::new(&wanted);
    for (name, value) in labels {
        config.set_label(name, value);
    }
    config
}

fn metadata() -> LifecycleMetadata {
    let names = RunImageNames { image: "run:1".to_owned(), mirrors: vec!["m.io/run:1".to_owned()] };
    let top_layer = DiffId::of(b"old").to_string();
    let run_image = RunImageMetadata { top_layer, names, ..RunImageMetadata::default() };
    LifecycleMetadata { run_image, ..LifecycleMetadata::default() }
}

struct Case<'a> {
    app: (&'a str, Labels<'a>),
    base: (&'a str, Labels<'a>),
    app_api: &'a str,
    run_image: &'a str,
    force: bool,
    any_tag: bool,
}

fn run(case: &Case<'_>) -> Result<Plan, Refusal> {
    let metadata = metadata();
    let mut app = config(case.app.0, case.app.1);
    app.set_diff_ids(&[DiffId::of(b"old"), DiffId::of(b"app")]);
    app.set_label(LIFECYCLE_METADATA_LABEL, &go_json::to_string(&metadata).unwrap());
    let mut base = config(case.base.0, case.base.1);
    base.set_diff_ids(&[DiffId::of(b"new 1"), DiffId::of(b"new 2")]);
    plan(&Request {
        app: &app,
        metadata: &metadata,
        app_api: PlatformApi::parse_recorded(case.app_api).ok(),
        platform_api: PlatformApi::latest(),
        base: &base,
        run_image: case.run_image,
        reference: "run@sha256:1",
        force: case.force,
        any_tag: case.any_tag,
    })
}

type Labels<'a> = &'a [(&'a str, &'a str)];

const DEBIAN: Labels<'_> =
    &[("io.buildpacks.base.distro.name", "debian"), ("io.buildpacks.base.distro.version", "13")];
const UBUNTU: Labels<'_> = &[("io.buildpacks.base.distro.name", "ubuntu")];

#[test]
fn targets_must_fit_and_force_overrules() {
    let frozen: Labels<'_> = &[(REBASABLE_LABEL, "false")];
    let table: &[(&str, Labels<'_>, &str, Labels<'_>, bool)] = &[
        ("linux/amd64", &[], "linux/amd64", &[], true),
        ("linux/amd64", &[], "linux/arm64", &[], false),
        ("linux/amd64", &[], "windows/amd64", &[], false),
        ("linux/arm64/v8", &[], "linux/arm64", &[], true),
        ("linux/arm64", &[], "linux/arm64/v8", &[], true),
        ("linux/arm64/v8", &[], "linux/arm64/v7", &[], false),
        ("linux/amd64", DEBIAN, "linux/amd64", DEBIAN, true),
        ("linux/amd64", DEBIAN, "linux/amd64", &[], true),
        ("linux/amd64", &[], "linux/amd64", DEBIAN, false),
        ("linux/amd64", DEBIAN, "linux/amd64", UBUNTU, false),
        ("linux/amd64", frozen, "linux/amd64", &[], false),
    ];
    for (index, (app, app_labels, base, base_labels, fits)) in table.iter().enumerate() {
        let case = |force| Case {
            app: (app, app_labels),
            base: (base, base_labels),
            app_api: "0.12",
            run_image: "run:1",
            force,
            any_tag: false,
        };
        assert_eq!(run(&case(false)).is_ok(), *fits, "case {index}");
        let forced = run(&case(true)).unwrap();
        assert_eq!(forced.warnings.is_empty(), *fits, "case {index}: {:?}", forced.warnings);
        assert_eq!(forced.config.os(), base.split('/').next().unwrap());
    }
}

#[test]
fn stacks_must_be_the_same_before_targets() {
    let stack = |mixins: &'static str| [(STACK_ID_LABEL, "s"), (MIXINS_LABEL, mixins)];
    let none: Labels<'_> = &[];
    let (plain, more, other) = (stack(""), stack(r#"["run:a","b"]"#), [(STACK_ID_LABEL, "o")]);
    let table: &[(Labels<'_>, Labels<'_>, Result<(), Refusal>)] = &[
        (&plain, &plain, Ok(())),
        (&plain, &more, Ok(())),
        (&stack(r#"["a"]"#), &more, Ok(())),
        (&more, &plain, Err(Refusal::Mixins(vec!["a".to_owned(), "b".to_owned()]))),
        (&plain, &other, Err(Refusal::Stack { base: "o".to_owned(), app: "s".to_owned() })),
        (none, &plain, Err(Refusal::NoStack("app image"))),
        (&plain, none, Err(Refusal::NoStack("new base image"))),
        (&stack("{"), &plain, Err(Refusal::InvalidMixins("app image"))),
    ];
    for (index, (app, base, expected)) in table.iter().enumerate() {
        for app_api in ["0.11", ""] {
            let case = Case {
                app: ("linux/amd64", app),
                base: ("linux/amd64", base),
                app_api,
                run_image: "run:1",
                force: true,
                any_tag: false,
            };
            assert_eq!(run(&case).map(drop), *expected, "case {index}");
        }
    }
}

#[test]
fn the_label_names_the_new_run_image() {
    let case = |run_image, force| Case {
        app: ("linux/amd64", UBUNTU),
        base: ("linux/amd64", &[("io.buildpacks.base.id", "new")]),
        app_api: "0.12",
        run_image,
        force,
        any_tag: false,
    };
    let plan = run(&case("m.io/run:1", false)).unwrap();
    assert_eq!(plan.kept_from, 1);
    let expected: Vec<DiffId> = [&b"new 1"[..], b"new 2", b"app"].map(DiffId::of).into();
    assert_eq!(plan.config.diff_ids(), expected);
    let top = DiffId::of(b"new 2");
    let label = plan.config.label(LIFECYCLE_METADATA_LABEL).unwrap();
    let run_image = format!(
        r#""runImage":{{"topLayer":"{top}","reference":"run@sha256:1","image":"run:1","mirrors":["m.io/run:1"]}}"#
    );
    assert!(label.ends_with(&format!("{run_image}}}")), "{label}");
    assert_eq!(plan.config.label("io.buildpacks.base.id"), Some("new"));
    assert_eq!(plan.config.label("io.buildpacks.base.distro.name"), None);

    let refusal = run(&case("other:1", false)).unwrap_err();
    assert!(matches!(refusal, Refusal::UnknownRunImage { ref known, .. } if known.contains("m.io/run:1")));
    let forced = run(&case("other:1", true)).unwrap();
    let label = forced.config.label(LIFECYCLE_METADATA_LABEL).unwrap();
    assert!(
        label.ends_with(
            r#""reference":"run@sha256:1","image":"other:1"},"stack":{"runImage":{"image":"other:1"}}}"#
        ),
        "{label}"
    );
}

/// A patch release of the run image has another tag (pack#2567).
#[test]
fn other_tags_of_a_known_run_image_may_do() {
    let case = |run_image, any_tag| Case {
        app: ("linux/amd64", &[]),
        base: ("linux/amd64", &[]),
        app_api: "0.12",
        run_image,
        force: false,
        any_tag,
    };
    let digest = format!("run@{}", longshore_image::Digest::of(b""));
    for name in ["run:1.0.1", "m.io/run:2", &digest] {
        assert!(matches!(run(&case(name, false)), Err(Refusal::UnknownRunImage { .. })), "{name}");
        let plan = run(&case(name, true)).unwrap();
        assert_eq!(plan.warnings, [""; 0]);
        let label = plan.config.label(LIFECYCLE_METADATA_LABEL).unwrap();
        // The name to come back to; a digest would never become another.
        let image = if name == digest { "run:1" } else { name };
        assert!(label.contains(&format!(r#""image":"{image}""#)), "{name}: {label}");
    }
    assert!(run(&case("other:1", true)).is_err());
}
