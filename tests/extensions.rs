//! Images that image extensions extend, as a platform does it that knows nothing of Longshore: a container of the build
//! image and one of the run image, with the extender in each.

use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::{Dockerd, Outcome, Podman};

use crate::containers::{Engine, Surroundings};

const EXTENSION: &str = r#"cat > "$CNB_OUTPUT_DIR/build.Dockerfile" <<'END'
ARG base_image
FROM ${base_image}
ARG user_id
ARG group_id
ARG greeting
USER root
RUN echo "extending the build image" && echo "${greeting}" > /etc/added
ENV OPTIONS="a=b c"
USER ${user_id}:${group_id}
END
cat > "$CNB_OUTPUT_DIR/extend-config.toml" <<'END'
[[build.args]]
name = "greeting"
value = "from an extension"
END
mkdir -p "$CNB_OUTPUT_DIR/context.run/files"
echo copied > "$CNB_OUTPUT_DIR/context.run/files/one"
cat > "$CNB_OUTPUT_DIR/run.Dockerfile" <<END
ARG base_image
FROM {base}
ARG user_id
ARG group_id
USER root
COPY --chown=7:8 files /srv/copied
RUN echo "extending the run image" && cp /etc/os-release /srv/release && rm /bin/yes
ENV EXTENDED=yes
LABEL io.buildpacks.rebasable=true
USER \${user_id}:\${group_id}
END"#;

const BUILD: &str = r#"mkdir -p "$CNB_LAYERS_DIR/seen"
cat /etc/added > "$CNB_LAYERS_DIR/seen/added"
echo "as $(id -u)" >> "$CNB_LAYERS_DIR/seen/added"
printf '[types]\nlaunch = true\n' > "$CNB_LAYERS_DIR/seen.toml"
cat > "$CNB_LAYERS_DIR/launch.toml" <<'END'
[[processes]]
type = "show"
command = ["sh", "-c", "cat /layers/test_seen/seen/added /srv/release /srv/copied/one; echo $EXTENDED; id -u; stat -c %u:%g /srv/copied/one; ls /bin"]
default = true
END"#;

struct Extended<'a> {
    engine: &'a dyn Engine,
    surroundings: &'a Surroundings,
    builder: String,
}

impl<'a> Extended<'a> {
    /// A builder with a buildpack and an image extension, whose `run.Dockerfile` begins with `base`.
    fn new(engine: &'a dyn Engine, surroundings: &'a Surroundings, base: &str) -> Self {
        let environment = &surroundings.environment;
        ShellBuildpack::new("test/seen", BUILD).write(&environment.path("seen"));
        let generate = EXTENSION.replace("{base}", base);
        let extension = ShellBuildpack::new("test/extension", "");
        extension.write(&environment.path("extension"));
        let _ = environment
            .write("extension/extension.toml", &extension.descriptor().replace("[buildpack]", "[extension]"));
        std::fs::remove_file(environment.path("extension/buildpack.toml")).expect("its descriptor");
        std::fs::remove_file(environment.path("extension/bin/build")).expect("its program");
        let program = format!("#!/bin/sh\nset -eu\n{generate}\n");
        let program = environment.write("extension/bin/generate", &program);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(program, mode).expect("its mode");
        let builder = surroundings.registry.reference("extending:1");
        let build_image = surroundings.registry.reference("build:1");
        let _ = environment.write(
            "extending.toml",
            &format!(
                "[build]\nimage = \"{build_image}\"\n[[run.images]]\nimage = \"{}\"\n\
                 [[buildpacks]]\nuri = \"seen\"\n[[extensions]]\nuri = \"extension\"\n\
                 [[order]]\n[[order.group]]\nid = \"test/seen\"\nversion = \"1.0.0\"\n\
                 [[order-extensions]]\n[[order-extensions.group]]\nid = \"test/extension\"\nversion = \"1.0.0\"\n",
                surroundings.run_image
            ),
        );
        let create = ["builder", "create", &builder, "--publish", "--layer-format", "tar+gzip"];
        environment.longshore(&[&create[..], &["--config", "extending.toml"]].concat()).success();
        engine.fetch(&builder);
        Self { engine, surroundings, builder }
    }

    fn phase(&self, user: &str, image: &str, command: &[&str]) -> Outcome {
        let program = self.surroundings.program().display().to_string();
        let extender = format!("--volume={program}:/cnb/lifecycle/extender:ro");
        let user = format!("--user={user}");
        let mut arguments = vec!["run", "--rm", "--network=host", "--volume=layers:/layers"];
        arguments.extend(["--volume=app:/workspace", "--volume=cache:/cache", "--volume=kaniko:/kaniko"]);
        arguments.extend(["--env=CNB_PLATFORM_API=0.13", "--env=CNB_REGISTRY_AUTH={}", &user]);
        if image != self.builder {
            // As the run image has no lifecycle, platforms bring one.
            arguments.extend([extender.as_str(), "--env=CNB_USER_ID=1001", "--env=CNB_GROUP_ID=1000"]);
        }
        arguments.push(image);
        arguments.extend(command);
        self.engine.engine(&arguments).success()
    }

    /// All phases of a build with extensions; what the two extenders said.
    fn build(&self, image: &str, run_image: &str) -> (String, String) {
        let lifecycle = |user: &str, command: &[&str]| {
            let program = format!("/cnb/lifecycle/{}", command[0]);
            self.phase(user, &self.builder, &[&[program.as_str()], &command[1..]].concat())
        };
        let own = "mkdir -p /kaniko && chown 1001:1000 /layers /workspace /kaniko";
        self.phase("root", &self.builder, &["sh", "-c", own]);
        lifecycle("root", &["analyzer", image]);
        lifecycle("1001:1000", &["detector"]);
        lifecycle("root", &["restorer", "-cache-dir", "/cache", "-build-image", &self.builder]);
        let build = lifecycle("root", &["extender", "-kind", "build"]).stdout;
        let run = self.phase("root", run_image, &["/cnb/lifecycle/extender", "-kind", "run"]).stdout;
        lifecycle("root", &["exporter", "-cache-dir", "/cache", image]);
        (build, run)
    }
}

fn says(output: &str, part: &str) -> bool {
    output.lines().any(|line| line.contains(part) && !line.contains("RUN"))
}

/// Builds twice; `base` is what the extension wants as the run image, which then is `run_image`.
fn an_image_is_extended(engine: &dyn Engine, base: impl Fn(&Surroundings) -> (String, String)) {
    let surroundings = Surroundings::new();
    let (from, run_image) = base(&surroundings);
    let extended = Extended::new(engine, &surroundings, &from);
    engine.fetch(&run_image);
    let image = surroundings.registry.reference("app:1");

    let (build, run) = extended.build(&image, &run_image);
    assert!(
        says(&build, "extending the build image") && says(&run, "extending the run image"),
        "{build}{run}"
    );
    engine.fetch(&image);
    let shown = engine.engine(&["run", "--rm", &image]).success().stdout;
    let lines: Vec<_> = shown.lines().collect();
    let expected =
        ["from an extension", "as 1001", "ID=tiny", "VERSION_ID=1", "copied", "yes", "1002", "7:8"];
    assert_eq!(lines[..8], expected);
    assert!(!lines[8..].contains(&"yes") && lines[8..].contains(&"sh"), "{shown}");

    let first = surroundings.digest(&image);
    let (build, run) = extended.build(&image, &run_image);
    assert!(
        !says(&build, "extending the build image") && !says(&run, "extending the run image"),
        "{build}{run}"
    );
    assert!(says(&build, "Using the cached layer") && says(&run, "Using the cached layer"));
    assert_eq!(surroundings.digest(&image), first, "nothing has changed");
}

fn run_image_of_the_builder(surroundings: &Surroundings) -> (String, String) {
    ("\\${base_image}".to_owned(), surroundings.run_image.clone())
}

fn run_image_of_the_extension(surroundings: &Surroundings) -> (String, String) {
    let other = surroundings.registry.reference("run:2");
    surroundings.update_run_image(&other, "other\n");
    (other.clone(), other)
}

#[test]
fn docker_extends_both_images() {
    an_image_is_extended(&Dockerd::start(), run_image_of_the_builder);
}

#[test]
fn docker_extends_another_run_image() {
    an_image_is_extended(&Dockerd::start(), run_image_of_the_extension);
}

#[test]
fn podman_extends_both_images() {
    an_image_is_extended(&Podman::new(), run_image_of_the_builder);
}
