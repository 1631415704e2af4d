use super::*;

fn api(text: &str) -> PlatformApi {
    PlatformApi::parse(text).expect("supported")
}

fn parsed(arguments: &[&str]) -> Result<Parsed, FlagError> {
    parse(Phase::Create, api("0.13"), arguments.iter().map(ToString::to_string))
}

#[test]
fn go_flag_syntax() {
    for (arguments, flags, positional) in [
        (&["-app", "/a", "image"][..], &[("app", "/a")][..], &["image"][..]),
        (&["--app=/a", "image"], &[("app", "/a")], &["image"]),
        (&["-app=", "image"], &[("app", "")], &["image"]),
        (&["-app", "-daemon", "image"], &[("app", "-daemon")], &["image"]),
        (&["-daemon", "image"], &[("daemon", "true")], &["image"]),
        (&["-daemon=false", "image"], &[("daemon", "false")], &["image"]),
        (&["-daemon=T", "image"], &[("daemon", "T")], &["image"]),
        (&["-tag", "a", "-tag=b", "image"], &[("tag", "a"), ("tag", "b")], &["image"]),
        (&["image", "-app", "/a"], &[], &["image", "-app", "/a"]),
        (&["-daemon", "--", "-app"], &[("daemon", "true")], &["-app"]),
        (&["-", "-app"], &[], &["-", "-app"]),
        (&["-process-type=a=b"], &[("process-type", "a=b")], &[]),
        (&[], &[], &[]),
    ] {
        let expected = Parsed {
            flags: flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            positional: positional.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(parsed(arguments), Ok(expected), "{arguments:?}");
    }
}

#[test]
fn mistakes_on_the_command_line() {
    for (arguments, expected) in [
        (&["-nothing"][..], FlagError::Unknown("nothing".into())),
        (&["-force"], FlagError::Unknown("force".into())),
        (&["-app"], FlagError::NoValue("app")),
        (&["-h"], FlagError::Help),
        (&["--help"], FlagError::Help),
        (&["---app"], FlagError::Syntax("---app".into())),
        (&["-=x"], FlagError::Syntax("-=x".into())),
        (&["-uid", "me"], FlagError::Invalid { flag: "uid", value: "me".into(), expected: "a number" }),
        (
            &["-daemon=yes"],
            FlagError::Invalid { flag: "daemon", value: "yes".into(), expected: "true or false" },
        ),
    ] {
        assert_eq!(parsed(arguments), Err(expected), "{arguments:?}");
    }
}

/// Flags by phase with the first Platform API that has them; "0.7" stands for all. From the "Inputs" tables of the spec
/// and the reference's flags.
#[test]
fn flags_exist_since_their_platform_api() {
    for (phase, flag, since) in [
        (Phase::Analyze, "skip-layers", "0.9"),
        (Phase::Analyze, "launch-cache", "0.9"),
        (Phase::Analyze, "run", "0.12"),
        (Phase::Analyze, "layout", "0.12"),
        (Phase::Analyze, "insecure-registry", "0.13"),
        (Phase::Analyze, "tag", "0.7"),
        (Phase::Detect, "extensions", "0.10"),
        (Phase::Detect, "analyzed", "0.10"),
        (Phase::Detect, "generated", "0.10"),
        (Phase::Detect, "build-config", "0.11"),
        (Phase::Detect, "run", "0.12"),
        (Phase::Detect, "system", "0.15"),
        (Phase::Restore, "build-image", "0.10"),
        (Phase::Restore, "daemon", "0.12"),
        (Phase::Restore, "generated", "0.12"),
        (Phase::Restore, "run", "0.14"),
        (Phase::Restore, "skip-layers", "0.7"),
        (Phase::Build, "build-config", "0.11"),
        (Phase::Build, "analyzed", "0.12"),
        (Phase::Export, "launcher-sbom", "0.11"),
        (Phase::Export, "extended", "0.12"),
        (Phase::Export, "insecure-registry", "0.13"),
        (Phase::Export, "parallel", "0.7"),
        (Phase::Create, "skip-restore", "0.7"),
        (Phase::Create, "system", "0.15"),
        (Phase::Rebase, "previous-image", "0.11"),
        (Phase::Rebase, "force", "0.12"),
        (Phase::Rebase, "image", "0.7"),
        (Phase::Extend, "kind", "0.12"),
    ] {
        let mut reached = false;
        for text in longshore_cnb::api::SUPPORTED_PLATFORM_APIS {
            reached |= *text == since;
            let known = FLAGS.iter().any(|known| known.name == flag && (known.taken_by)(phase, api(text)));
            assert_eq!(known, reached, "{phase:?} -{flag} with {text}");
        }
    }
}

#[test]
fn flags_that_a_phase_never_takes() {
    for (phase, flag) in [
        (Phase::Detect, "uid"),
        (Phase::Build, "gid"),
        (Phase::Rebase, "layers"),
        (Phase::Rebase, "layout"),
        (Phase::Create, "analyzed"),
        (Phase::Create, "skip-layers"),
        (Phase::Export, "previous-image"),
        (Phase::Export, "tag"),
    ] {
        for text in longshore_cnb::api::SUPPORTED_PLATFORM_APIS {
            let known = FLAGS.iter().any(|known| known.name == flag && (known.taken_by)(phase, api(text)));
            assert!(!known, "{phase:?} -{flag} with {text}");
        }
    }
    let stack = FLAGS.iter().find(|flag| flag.name == "stack").expect("listed");
    assert!((stack.taken_by)(Phase::Analyze, api("0.11")));
    assert!(!(stack.taken_by)(Phase::Analyze, api("0.12")));
}

#[test]
fn usage_names_the_other_sources() {
    let text = usage(Phase::Build, api("0.12"));
    assert!(text.contains("  -app (or CNB_APP_DIR) (default /workspace)\n"), "{text}");
    assert!(!text.contains("-uid"), "{text}");
}
