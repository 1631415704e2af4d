use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Mutex;

use longshore_cnb::analyzed::{ImageIdentifier, RunImage};
use longshore_cnb::group::GroupElement;
use longshore_image::Digest;

use crate::ExitCode;

use super::*;

/// A command that was run: its last argument, its directory below the root, its variables, and its user.
type Call = (String, String, Vec<(String, String)>, User);

/// A root filesystem, an image that it belongs to, and extensions.
struct Fixture {
    place: tempfile::TempDir,
    base: Digest,
    api: &'static str,
    extensions: Vec<&'static str>,
    calls: Mutex<Vec<Call>>,
}

impl Fixture {
    fn new(user: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let fixture = |name: &str| {
            let path = place.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let root = fixture("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:\ncnb:x:1002:1000::/home/cnb:\n").unwrap();
        fs::write(root.join("old"), "old").unwrap();
        fixture("app");
        let mut config = Config::new(&Platform::linux("amd64"));
        config.set_user(user);
        config.set_env("PATH", "/bin");
        config.set_env("OPTIONS", "a=b=c");
        let (descriptor, _) = crate::publish::Upload::config(config.to_bytes(), ManifestFormat::Oci);
        let manifest = Manifest::image(ImageManifest::new(ManifestFormat::Oci, descriptor, Vec::new()));
        let base = manifest.digest();
        let layout = fixture("kaniko/cache/base").join(base.to_string());
        let reference: Reference = "run:1".parse().unwrap();
        let image = Image { reference: reference.clone(), manifest, config, index: None };
        Layout::create(&layout, LayoutName::Only).unwrap().put_sparse(&reference, &image).unwrap();
        Self { place, base, api: "0.13", extensions: vec!["a/one", "two"], calls: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The Dockerfile of an extension, without its first two lines.
    fn dockerfile(&self, name: &str, text: &str) {
        self.write(&format!("generated/{name}"), &format!("ARG base_image\nFROM ${{base_image}}\n{text}\n"));
    }

    /// Runs nothing, but leaves what a command says as a file of that name: `write NAME`.
    fn extend(&self, kind: ExtendKind) -> Result<ExtendOutput, ExtendError> {
        let analyzed = Analyzed {
            build_image: Some(ImageIdentifier { reference: format!("r.io/build@{}", self.base) }),
            run_image: Some(RunImage { reference: format!("r.io/run@{}", self.base), ..RunImage::default() }),
            ..Analyzed::default()
        };
        let element = |id: &&str| GroupElement { id: (*id).to_owned(), ..GroupElement::default() };
        let group = Group { extensions: self.extensions.iter().map(element).collect(), ..Group::default() };
        let run = |command: &[String], directory: &Path, environment: &[(String, String)], user: &User| {
            let line = command.last().unwrap().clone();
            if let Some(name) = line.strip_prefix("write ") {
                fs::write(self.path("root").join(name), name).unwrap();
            }
            if let Some(name) = line.strip_prefix("remove ") {
                fs::remove_file(self.path("root").join(name)).unwrap();
            }
            let directory = directory.strip_prefix(self.path("root")).unwrap().display().to_string();
            let failed = i32::from(line == "fail") << 8;
            self.calls.lock().unwrap().push((line, directory, environment.to_vec(), user.clone()));
            Ok(ExitStatus::from_raw(failed))
        };
        extend(&ExtendInput {
            platform_api: PlatformApi::parse(self.api).unwrap(),
            kind,
            analyzed: &analyzed,
            group: &group,
            app: self.path("app"),
            generated: self.path("generated"),
            extended: self.path("extended"),
            kaniko: self.path("kaniko"),
            time_to_live: Duration::from_secs(600),
            volumes: vec![self.path("layers")],
            root: self.path("root"),
            platform: Platform::linux("amd64"),
            run: &run,
            environment: vec![("http_proxy".to_owned(), "http://proxy".to_owned())],
        })
    }

    fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn lines(&self) -> Vec<String> {
        self.calls().into_iter().map(|(line, ..)| line).collect()
    }

    /// The image that the exporter finds.
    fn image(&self) -> Image {
        let mut entries = fs::read_dir(self.path("extended/run")).unwrap();
        let only = entries.next().unwrap().unwrap().path();
        assert!(entries.next().is_none());
        let layout = Layout::open(&only, LayoutName::Only).unwrap();
        let image = layout.resolve(&"run:1".parse().unwrap(), &Platform::linux("amd64")).unwrap().unwrap();
        assert_eq!(only.file_name().unwrap().to_str().unwrap(), image.manifest.digest().to_string());
        for layer in &image.manifest.as_image().unwrap().layers {
            assert!(layout.blob_path(layer.digest).is_file());
        }
        image
    }
}

fn value(call: &Call, name: &str) -> String {
    call.2.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

const ARGUMENTS: &str = "ARG build_id=0\nARG user_id\nARG group_id\nARG base_image";

#[test]
fn dockerfiles_are_applied_in_the_order_of_their_extensions() {
    let fixture = Fixture::new("1002:1000");
    fixture.dockerfile("two/run.Dockerfile", "RUN write second");
    fixture.dockerfile("a_one/run.Dockerfile", "RUN write first\nRUN remove old\nRUN nothing");
    let output = fixture.extend(ExtendKind::Run).unwrap();
    assert_eq!(fixture.lines(), ["write first", "remove old", "nothing", "write second"]);
    assert_eq!(output.layers, 3, "what changes nothing is no layer");
    let image = fixture.image();
    let history: Vec<_> = image.config.history().into_iter().map(|entry| entry.created_by.unwrap()).collect();
    assert_eq!(
        history,
        [
            "Layer: 'RUN write first', Created by extension: a/one",
            "Layer: 'RUN remove old', Created by extension: a/one",
            "Layer: 'RUN write second', Created by extension: two"
        ]
    );
    assert_eq!(image.config.diff_ids().len(), 3);
}

#[test]
fn each_dockerfile_gets_what_the_one_before_made() {
    let fixture = Fixture::new("1002:1000");
    fixture.dockerfile("a_one/run.Dockerfile", &format!("{ARGUMENTS}\nRUN one\nUSER 7:8\nRUN write x"));
    fixture.dockerfile("two/run.Dockerfile", &format!("{ARGUMENTS}\nRUN two"));
    fixture.extend(ExtendKind::Run).unwrap();
    let calls = fixture.calls();
    let original = format!("base@{}", fixture.base);
    assert_eq!(value(&calls[0], "base_image"), original, "the original image");
    assert_ne!(value(&calls[2], "base_image"), original, "what the first made");
    assert_eq!((value(&calls[0], "user_id"), value(&calls[0], "group_id")), ("1002".into(), "1000".into()));
    assert_eq!((value(&calls[2], "user_id"), value(&calls[2], "group_id")), ("7".into(), "8".into()));
    let ids = [value(&calls[0], "build_id"), value(&calls[2], "build_id")];
    for id in &ids {
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{id} is a UUID");
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn commands_see_what_they_should() {
    let fixture = Fixture::new("cnb");
    fixture.write(
        "generated/a_one/extend-config.toml",
        "[[run.args]]\nname = \"given\"\nvalue = \"yes\"\n[[build.args]]\nname = \"given\"\nvalue = \"no\"\n",
    );
    let text = "ARG given\nARG missing=default\nENV FROM_ARG=${given}\nWORKDIR /work\nUSER root\n\
                RUN first\nUSER ${user_id:-1002}\nRUN [\"second\"]";
    fixture.dockerfile("a_one/run.Dockerfile", text);
    fixture.extend(ExtendKind::Run).unwrap();
    let calls = fixture.calls();
    let (line, directory, _, user) = &calls[0];
    assert_eq!((line.as_str(), directory.as_str(), user.uid), ("first", "work", 0));
    assert_eq!((calls[1].3.uid, calls[1].3.gid), (1002, 1000));
    for (name, expected) in [
        ("given", "yes"),
        ("missing", "default"),
        ("FROM_ARG", "yes"),
        ("OPTIONS", "a=b=c"),
        ("PATH", "/bin"),
        ("http_proxy", "http://proxy"),
        ("build_id", ""),
    ] {
        assert_eq!(value(&calls[0], name), expected, "{name}");
    }
    assert_eq!((value(&calls[0], "HOME"), value(&calls[1], "HOME")), ("/root".into(), "/home/cnb".into()));
}

#[test]
fn an_unchanged_dockerfile_is_not_run_again() {
    let fixture = Fixture::new("1002:1000");
    let text = "ARG build_id=0\nCOPY file /copied\nRUN write x\nRUN write y";
    fixture.write("app/file", "1");
    fixture.dockerfile("a_one/run.Dockerfile", text);
    fixture.dockerfile("two/run.Dockerfile", "ARG build_id=0\nRUN write z # ${build_id}");
    let reset = || {
        for name in ["copied", "x", "y"] {
            let _ = fs::remove_file(fixture.path("root").join(name));
        }
    };
    fixture.extend(ExtendKind::Run).unwrap();
    assert_eq!(fixture.lines().len(), 3);
    reset();
    let first = fixture.image();
    fixture.extend(ExtendKind::Run).unwrap();
    assert_eq!(fixture.lines(), ["write z # ${build_id}"], "whoever names the build is run in each");
    assert_eq!(fs::read_to_string(fixture.path("root/x")).unwrap(), "x", "it sees what was not run again");
    assert_eq!(first.config.diff_ids()[..3], fixture.image().config.diff_ids()[..3]);
    reset();
    fixture.write("app/file", "2");
    fixture.extend(ExtendKind::Run).unwrap();
    assert_eq!(fixture.lines()[..2], ["write x", "write y"], "what was copied before is another file");
}

#[test]
fn a_build_image_is_as_after_its_last_instruction() {
    let fixture = Fixture::new("1002:1000");
    fixture.dockerfile("a_one/build.Dockerfile", "ENV ADDED=a=b\nRUN write x\nUSER root");
    for expected in [1, 0] {
        let output = fixture.extend(ExtendKind::Build).unwrap();
        assert_eq!(fixture.lines().len(), expected);
        assert_eq!(output.config.env_value("ADDED").as_deref(), Some("a=b"));
        assert_eq!(fs::read_to_string(fixture.path("root/x")).unwrap(), "x");
        fs::remove_file(fixture.path("root/x")).unwrap();
        assert!(!fixture.path("extended").exists());
    }
}

#[test]
fn a_run_image_must_not_end_as_root() {
    for user in ["0", "root", "0:0", "root:1000"] {
        let fixture = Fixture::new("1002:1000");
        fixture.dockerfile("two/run.Dockerfile", &format!("USER {user}"));
        assert!(matches!(fixture.extend(ExtendKind::Run), Err(ExtendError::RunsAsRoot)), "{user}");
        assert!(!fixture.path("extended/run").exists());
        fixture.dockerfile("two/run.Dockerfile", &format!("USER {user}\nUSER 1002:1000"));
        fixture.extend(ExtendKind::Run).unwrap();
    }
}

#[test]
fn an_image_can_be_rebased_when_all_dockerfiles_say_so() {
    let label = "LABEL io.buildpacks.rebasable=";
    for (first, second, expected) in [
        (format!("{label}true"), format!("{label}true"), "true"),
        (format!("{label}true"), String::new(), "false"),
        (format!("{label}false"), format!("{label}true"), "false"),
        (format!("{label}true"), format!("{label}yes"), "false"),
    ] {
        let fixture = Fixture::new("1002:1000");
        fixture.dockerfile("a_one/run.Dockerfile", &first);
        fixture.dockerfile("two/run.Dockerfile", &second);
        fixture.extend(ExtendKind::Run).unwrap();
        assert_eq!(fixture.image().config.label(REBASABLE_LABEL), Some(expected), "{first} {second}");
    }
}

#[test]
fn contexts_are_those_of_the_extension() {
    let fixture = Fixture::new("1002:1000");
    let copied = || fs::read_to_string(fixture.path("root/copied")).unwrap();
    fixture.dockerfile("two/run.Dockerfile", "COPY file /copied");
    fixture.write("app/file", "app");
    fixture.extend(ExtendKind::Run).unwrap();
    assert_eq!(copied(), "app");
    fixture.write("generated/two/context/file", "shared");
    fixture.extend(ExtendKind::Run).unwrap();
    assert_eq!(copied(), "shared");
    fixture.write("generated/two/context.run/file", "run");
    fixture.write("generated/two/context.build/file", "build");
    fixture.extend(ExtendKind::Run).unwrap();
    assert_eq!(copied(), "run");
}

#[test]
fn platforms_before_contexts_have_a_directory_for_each_kind() {
    let fixture = Fixture { api: "0.12", ..Fixture::new("1002:1000") };
    fixture.dockerfile("run/two/Dockerfile", "ARG x\nRUN write a");
    fixture.write("generated/run/two/extend-config.toml", "[[run.args]]\nname = \"x\"\nvalue = \"1\"\n");
    fixture.extend(ExtendKind::Run).unwrap();
    assert_eq!(value(&fixture.calls()[0], "x"), "1");
}

#[test]
fn what_cannot_be_applied_says_where() {
    for (text, line, part) in [
        ("RUN fail", 3, "exit status 1"),
        ("RUN true\nCOPY --from=x a b", 4, "--from=x"),
        ("USER nobody\nRUN true", 4, "no user 'nobody'"),
        ("COPY missing /x", 3, "'missing' is not in the build context"),
        ("FROM other", 3, "a second FROM"),
    ] {
        let fixture = Fixture::new("1002:1000");
        fixture.dockerfile("two/run.Dockerfile", text);
        let error = fixture.extend(ExtendKind::Run).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Extend);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.to_string().starts_with(&format!("line {line} of '")), "{error}");
        assert!(error.to_string().contains("extension two") && cause.contains(part), "{error}: {cause}");
    }
}

#[test]
fn an_image_that_the_restorer_has_not_left_is_named() {
    let fixture = Fixture::new("1002:1000");
    fs::remove_dir_all(fixture.path("kaniko/cache/base")).unwrap();
    let error = fixture.extend(ExtendKind::Build).unwrap_err();
    assert!(error.to_string().contains("the restorer leaves it there"), "{error}");
}

#[test]
fn scripts_are_run_by_the_shell_or_by_what_they_name() {
    let fixture = Fixture::new("1002:1000");
    let text =
        "RUN <<EOF\nwrite x\nEOF\nRUN <<EOF\n#!/usr/bin/python3 -u\nprint(1)\nEOF\nRUN cat <<EOF\nx\nEOF";
    fixture.dockerfile("two/run.Dockerfile", text);
    fixture.extend(ExtendKind::Run).unwrap();
    let lines = fixture.lines();
    assert_eq!((lines[0].as_str(), lines[2].as_str()), ("write x\n", "cat <<EOF\nx\nEOF"));
    assert!(lines[1].starts_with("/.longshore-run-"), "{}", lines[1]);
    assert!(!fixture.path("root").join(&lines[1][1..]).exists());
}

#[test]
fn durations_are_gos() {
    for (text, seconds) in
        [("336h", 1_209_600.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("500ms", 0.5), ("0", 0.0)]
    {
        assert_eq!(duration(text).unwrap(), Duration::from_secs_f64(seconds), "{text}");
    }
    for text in ["", "5", "h", "1x", "-1h", "NaNh"] {
        assert!(duration(text).is_err(), "{text}");
    }
}
