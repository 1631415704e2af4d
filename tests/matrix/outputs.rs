//! Images that Longshore writes to a registry.

use longshore_test_support::buildpack::ShellBuildpack;
use longshore_test_support::layout::Layout;
use longshore_test_support::tiny::TinyBuilder;
use longshore_test_support::{DockerRegistry, TestEnvironment, skopeo, variants};

use super::{column, document};
use crate::LONGSHORE;

/// Puts an image that says `word` into the local store.
pub(super) fn put_image(environment: &TestEnvironment, name: &str, word: &str) {
    let layout = Layout::open(&environment.store());
    let layers = [variants::lower_layer(word), variants::upper_layer(word)];
    let _ = layout.image(&format!("docker.io/library/{name}:latest"), variants::configuration(), &layers);
    environment.hand_over();
}

/// How an image comes about.
#[derive(Debug, Clone, Copy)]
enum Way {
    Copy,
    Append,
    Build,
    Rebase,
}

/// What the output is, how it comes about, and with which formats.
const OUTPUTS: [(&str, Way, &[&str]); 13] = [
    ("`image copy`, `tar+gzip`", Way::Copy, &["--layer-format", "tar+gzip"]),
    ("`image copy`, `tar`", Way::Copy, &["--layer-format", "tar"]),
    ("`image copy`, `tar+zstd`", Way::Copy, &["--layer-format", "tar+zstd"]),
    ("`image copy`, `dual`", Way::Copy, &["--layer-format", "dual"]),
    (
        "`image copy`, `tar+gzip`, `docker`",
        Way::Copy,
        &["--layer-format", "tar+gzip", "--manifest-format", "docker"],
    ),
    ("`image copy`, `tar`, `docker`", Way::Copy, &["--layer-format", "tar", "--manifest-format", "docker"]),
    ("`image append`, `tar+gzip`", Way::Append, &["--layer-format", "tar+gzip"]),
    ("`image append`, `tar+zstd`", Way::Append, &["--layer-format", "tar+zstd"]),
    ("`build`, `tar+zstd`", Way::Build, &["--layer-format", "tar+zstd"]),
    (
        "`build`, `tar+gzip`, `docker`",
        Way::Build,
        &["--layer-format", "tar+gzip", "--manifest-format", "docker"],
    ),
    ("`rebase`, `tar+zstd`", Way::Rebase, &["--layer-format", "tar+zstd"]),
    ("`rebase`, `tar+gzip`", Way::Rebase, &["--layer-format", "tar+gzip"]),
    ("`rebase`, `dual`", Way::Rebase, &["--layer-format", "dual"]),
];

#[test]
fn clients_make_of_outputs_what_the_document_says() {
    let registry = DockerRegistry::start();
    let environment = TestEnvironment::new(LONGSHORE);
    let builder = TinyBuilder::new(vec![buildpack()]);
    let reference = builder.publish(&registry);
    let writer =
        Writer { environment: &environment, registry: &registry, builder: &builder, reference: &reference };
    let subjects: Vec<_> = OUTPUTS
        .iter()
        .enumerate()
        .map(|(index, (title, way, more))| {
            let word = format!("output-{index}");
            let image = registry.reference(&format!("{word}:v1"));
            writer.write(*way, &word, &image, more);
            ((*title).to_owned(), image, word)
        })
        .collect();
    let columns = column::pulling();
    document::check("outputs", &columns, &document::run(&columns, &subjects));
}

/// A process that says what the run image and the app have.
fn buildpack() -> ShellBuildpack {
    ShellBuildpack::new(
        "test/words",
        r#"cat > "$CNB_LAYERS_DIR/launch.toml" <<'END'
[[processes]]
type = "web"
command = ["sh", "-c", "echo \"$(cat /etc/patched) $(cat /workspace/upper) $CLIENT\""]
default = true
END"#,
    )
}

struct Writer<'a> {
    environment: &'a TestEnvironment,
    registry: &'a DockerRegistry,
    builder: &'a TinyBuilder,
    reference: &'a str,
}

impl Writer<'_> {
    /// Writes an image that says `word` to the reference `image`.
    fn write(&self, way: Way, word: &str, image: &str, more: &[&str]) {
        match way {
            Way::Copy => self.copy(word, image, more),
            Way::Append => self.append(word, image, more),
            Way::Build => self.build_on(word, &format!("{word}-lower"), image, more),
            Way::Rebase => self.rebase(word, image, more),
        }
    }

    fn longshore(&self, arguments: &[&str], more: &[&str]) {
        self.environment.longshore(&[arguments, more].concat()).success();
    }

    fn copy(&self, word: &str, image: &str, more: &[&str]) {
        put_image(self.environment, word, word);
        self.longshore(&["image", "copy", word, &format!("docker://{image}")], more);
    }

    fn append(&self, word: &str, image: &str, more: &[&str]) {
        let layout = Layout::open(&self.environment.store());
        let base = format!("docker.io/library/{word}-base:latest");
        let _ = layout.image(&base, variants::configuration(), &[variants::lower_layer(word)]);
        let _ = self.environment.write(&format!("{word}/upper"), &format!("{word}-upper"));
        let append = ["image", "append", "--from", &base, "--tag", image, "--publish", word];
        self.longshore(&append, more);
    }

    /// A run image with a layer of its own, under a name that is `word`'s.
    fn push_run_image(&self, word: &str, text: &str) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        self.builder.write_patched_run_image(&Layout::open(folder.path()), "run", text);
        let name = self.registry.reference(&format!("{word}-run:v1"));
        skopeo::copy(&format!("oci:{}:run", folder.path().display()), &format!("docker://{name}"));
        name
    }

    fn build_on(&self, word: &str, text: &str, image: &str, more: &[&str]) {
        let run_image = self.push_run_image(word, text);
        let _ = self.environment.write(&format!("{word}/upper"), &format!("{word}-upper"));
        let build = [
            "build",
            image,
            "--path",
            word,
            "--builder",
            self.reference,
            "--run-image",
            &run_image,
            "--publish",
        ];
        self.longshore(&build, more);
    }

    fn rebase(&self, word: &str, image: &str, more: &[&str]) {
        self.build_on(word, "before", image, &[]);
        let _ = self.push_run_image(word, &format!("{word}-lower"));
        self.longshore(&["rebase", image, "--publish"], more);
    }
}
