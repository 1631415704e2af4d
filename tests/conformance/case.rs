//! What a `case.toml` may say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub(super) type Texts = BTreeMap<String, String>;

/// A case: what there is, what is run, and what is expected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Case {
    /// `<phase>/<case>`.
    #[serde(skip)]
    pub(super) name: String,
    /// The section of the specification, as `file.md#heading`.
    pub(super) section: String,
    /// The rows of docs/compatibility-must.md that it shows.
    #[serde(default)]
    pub(super) must: Vec<String>,
    /// `CNB_PLATFORM_API` of all steps.
    #[serde(default = "default_platform_api")]
    pub(super) platform_api: String,
    /// Groups of `cnb/order.toml`: `id@version`, with `?` at the end when it is optional.
    #[serde(default)]
    pub(super) order: Vec<Vec<String>>,
    /// The same for its image extensions.
    #[serde(default)]
    pub(super) order_extensions: Vec<Vec<String>>,
    /// The elements of `layers/group.toml`.
    #[serde(default)]
    pub(super) group: Vec<String>,
    /// The image extensions of `layers/group.toml`.
    #[serde(default)]
    pub(super) group_extensions: Vec<String>,
    /// By `id@version`.
    #[serde(default)]
    pub(super) buildpacks: BTreeMap<String, Module>,
    /// By `id@version`.
    #[serde(default)]
    pub(super) extensions: BTreeMap<String, Module>,
    /// Images of the registry, by `repository:tag`.
    #[serde(default)]
    pub(super) images: BTreeMap<String, ImageSpec>,
    /// Indexes of the registry, by `repository:tag`, with the names of their images in the same repository.
    #[serde(default)]
    pub(super) indexes: BTreeMap<String, Vec<String>>,
    /// Images in layouts, by the path of the layout.
    #[serde(default)]
    pub(super) layouts: BTreeMap<String, ImageSpec>,
    /// Whether there is a Docker daemon, which has pulled all images of the registry.
    #[serde(default)]
    pub(super) daemon: bool,
    /// How the registry behaves.
    #[serde(default)]
    pub(super) registry: RegistrySpec,
    #[serde(default)]
    pub(super) files: Texts,
    #[serde(default)]
    pub(super) executables: Texts,
    #[serde(default)]
    pub(super) links: Texts,
    #[serde(default)]
    pub(super) folders: Vec<String>,
    /// Environment of all steps.
    #[serde(default)]
    pub(super) env: Texts,
    #[serde(default, rename = "step")]
    pub(super) steps: Vec<Step>,
}

fn default_platform_api() -> String {
    "0.12".to_owned()
}

/// A buildpack or an image extension out of shell scripts.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Module {
    /// Its Buildpack API; 0.10 when it says nothing.
    pub(super) api: Option<String>,
    /// The script of `bin/detect`; it passes when there is none.
    pub(super) detect: Option<String>,
    /// What `bin/detect` writes into the build plan.
    pub(super) plan: Option<String>,
    /// The script of `bin/build`, which does nothing when there is none.
    pub(super) build: Option<String>,
    /// The script of `bin/generate`.
    pub(super) generate: Option<String>,
    /// More keys of the `[buildpack]` or `[extension]` table, and whatever follows it.
    pub(super) descriptor: Option<String>,
    /// Groups of a composite buildpack.
    pub(super) order: Option<Vec<Vec<String>>>,
    /// It has no `bin/detect`.
    pub(super) no_detect: bool,
}

/// An image of the registry.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct ImageSpec {
    pub(super) os: Option<String>,
    pub(super) architecture: Option<String>,
    pub(super) variant: Option<String>,
    pub(super) user: Option<String>,
    pub(super) env: Vec<String>,
    pub(super) labels: Texts,
    pub(super) entrypoint: Vec<String>,
    pub(super) working_dir: Option<String>,
    /// Docker's media types.
    pub(super) docker: bool,
    /// Its layout has no layers.
    pub(super) sparse: bool,
    /// Each with its files; one with `/etc/os-release` when there are none.
    pub(super) layers: Vec<Texts>,
}

/// How the registry behaves.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RegistrySpec {
    /// `user:password` that it wants with every request.
    pub(super) basic: Option<String>,
    /// Requests whose method and part of the path are these get this status.
    pub(super) status: Vec<(String, String, u16)>,
}

/// One program run.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Step {
    /// The program's name; the folder of the case when there is none.
    pub(super) phase: Option<String>,
    /// How the launcher is called: a name below `/cnb/process`.
    pub(super) process: Option<String>,
    pub(super) arguments: Vec<String>,
    pub(super) env: Texts,
    /// Variables that the step does not get.
    pub(super) unset: Vec<String>,
    /// Run by user 0.
    pub(super) root: bool,
    /// The working directory; the root of the case when there is none.
    pub(super) working_dir: Option<String>,
    /// Written before.
    pub(super) files: Texts,
    /// Written before.
    pub(super) executables: Texts,
    /// Removed before.
    pub(super) remove: Vec<String>,
    pub(super) expect: Expect,
}

/// What a step must leave behind.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct Expect {
    /// The exit code.
    pub(super) exit: i32,
    /// All of standard output.
    pub(super) stdout: Option<String>,
    /// In standard output or standard error.
    pub(super) says: Vec<String>,
    /// In neither.
    pub(super) silent: Vec<String>,
    /// Paths that exist.
    pub(super) exists: Vec<String>,
    /// Paths that do not.
    pub(super) absent: Vec<String>,
    /// Whole texts.
    pub(super) files: Texts,
    /// Parts of texts.
    pub(super) contains: BTreeMap<String, Vec<String>>,
    /// TOML with the same meaning; the text `*` stands for any text, and what is empty for what is not there.
    pub(super) toml: Texts,
    /// By name, as `app:latest`, or the path of a layout.
    pub(super) images: BTreeMap<String, ImageExpect>,
    /// `METHOD part of the path` of requests that were made.
    pub(super) requests: Vec<String>,
    /// The same for requests that were not made in this step.
    pub(super) no_requests: Vec<String>,
}

/// What an image must be.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct ImageExpect {
    /// There is no such image.
    pub(super) missing: bool,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) working_dir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) created: Option<String>,
    pub(super) architecture: Option<String>,
    pub(super) variant: Option<String>,
    /// Entries among the variables.
    pub(super) env: Vec<String>,
    /// Labels as text.
    pub(super) labels: Texts,
    /// Labels that it does not have.
    pub(super) no_labels: Vec<String>,
    /// Labels as JSON: at least these values; the text `*` stands for anything.
    pub(super) label_json: Texts,
    /// The number of layers.
    pub(super) layers: Option<usize>,
    /// `created_by` of the last entries.
    pub(super) history: Vec<String>,
    /// Texts of files.
    pub(super) files: Texts,
    /// Parts of texts of files.
    pub(super) contains: Texts,
    /// Targets of links.
    pub(super) links: Texts,
    /// Modes of paths, as `0755`.
    pub(super) modes: Texts,
    /// Paths that belong to the user of the build image and are as old as files of layers are.
    pub(super) normalised: Vec<String>,
    /// Paths that are in no layer.
    pub(super) absent: Vec<String>,
    /// Paths that are together in one layer, for each list.
    pub(super) together: Vec<Vec<String>>,
    /// All paths of the layer that has the first of them, in order.
    pub(super) layer_paths: Vec<String>,
    /// The name of an image with the same digest.
    pub(super) same_as: Option<String>,
    /// The name of an image with another digest.
    pub(super) other_than: Option<String>,
}

const OF_A_STEP: &[&str] = &["phase", "process", "arguments", "unset", "root", "working-dir", "expect"];

impl Case {
    /// Reads the case in `folder`. A case with one step has the step's keys at the top.
    pub(super) fn read(folder: &Path, name: &str) -> Result<Self, String> {
        let path = folder.join("case.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut table: toml::Table = text.parse().map_err(|error| format!("{name}: {error}"))?;
        if !table.contains_key("step") {
            let mut step = toml::Table::new();
            for key in OF_A_STEP {
                step.extend(table.remove(*key).map(|value| ((*key).to_owned(), value)));
            }
            table.insert("step".to_owned(), vec![step].into());
        }
        let case: Self = table.try_into().map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { name: name.to_owned(), ..case })
    }
}

/// The folders of all cases with their names, in order.
pub(super) fn folders() -> Vec<(PathBuf, String)> {
    let root = longshore_test_support::repository::fixture("conformance");
    let mut cases = Vec::new();
    for phase in entries(&root) {
        for case in entries(&phase) {
            let name = case.strip_prefix(&root).expect("below the root").display().to_string();
            cases.push((case, name));
        }
    }
    cases
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.is_dir());
    paths.sort_unstable();
    paths
}
