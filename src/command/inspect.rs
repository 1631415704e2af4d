//! `longshore inspect`: what an app image is made of.

use anyhow::Context;
use longshore_image::{Config, Platform};
use serde::{Deserialize, Serialize};

use crate::directories::Directories;
use crate::images::{Images, Location};
use crate::output;
use crate::settings::{PullPolicy, Settings};

/// The arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArguments {
    /// The app image: of the local store or a registry, or `oci:DIRECTORY[:NAME]`
    image: Location,
    /// How it is printed
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human-readable")]
    output: Format,
    /// When the registry is asked for the image
    #[arg(long, value_enum, value_name = "POLICY")]
    pull_policy: Option<PullPolicy>,
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    HumanReadable,
    /// For programs
    Json,
}

/// What is said of an app image, named as pack names it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct AppImage {
    image_name: String,
    digest: String,
    platform: String,
    created: String,
    rebasable: bool,
    base_image: BaseImage,
    run_images: Vec<RunImage>,
    buildpacks: Vec<Buildpack>,
    extensions: Vec<Buildpack>,
    processes: Vec<Process>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct BaseImage {
    top_layer: String,
    reference: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct RunImage {
    name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Buildpack {
    id: String,
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    homepage: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Process {
    r#type: String,
    command: String,
    args: Vec<String>,
    default: bool,
    #[serde(rename = "working-dir")]
    working_directory: String,
    #[serde(rename = "buildpack-id")]
    buildpack_id: String,
}

/// The label `io.buildpacks.build.metadata`, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BuildLabel {
    buildpacks: Option<Vec<Buildpack>>,
    extensions: Option<Vec<Buildpack>>,
    processes: Option<Vec<ProcessLabel>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProcessLabel {
    r#type: String,
    command: Command,
    args: Option<Vec<String>>,
    #[serde(rename = "buildpackID")]
    buildpack_id: String,
    #[serde(rename = "working-dir")]
    working_directory: String,
}

/// A word before Platform API 0.10, a list since.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Command {
    Word(String),
    List(Vec<String>),
}

impl Default for Command {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// The label `io.buildpacks.lifecycle.metadata`, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LifecycleLabel {
    #[serde(rename = "runImage")]
    run_image: RunImageLabel,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RunImageLabel {
    top_layer: String,
    reference: String,
    image: String,
    mirrors: Option<Vec<String>>,
}

/// Prints what is known.
pub(crate) fn run(arguments: &InspectArguments) -> anyhow::Result<()> {
    let directories = Directories::of_user()?;
    let settings = Settings::read(&directories)?;
    let images = Images::open(&directories, &settings)?;
    let policy = arguments.pull_policy.or(settings.pull_policy).unwrap_or_default();
    let found = images.get(&arguments.image, &Platform::host(), policy, "image")?;
    let name = arguments.image.to_string();
    let digest = found.image.manifest.digest().to_string();
    let image = read(&found.image.config, name, digest)
        .with_context(|| format!("`{}` cannot be shown", arguments.image))?;
    match arguments.output {
        Format::Json => output::result(serde_json::to_string_pretty(&image)?),
        Format::HumanReadable => print(&image),
    }
    Ok(())
}

fn read(config: &Config, image_name: String, digest: String) -> anyhow::Result<AppImage> {
    let build: BuildLabel = label(config, "io.buildpacks.build.metadata")?;
    let LifecycleLabel { run_image } = label(config, "io.buildpacks.lifecycle.metadata")?;
    let default = config.entrypoint().first().cloned().unwrap_or_default();
    let mut names = vec![run_image.image];
    names.extend(run_image.mirrors.unwrap_or_default());
    names.retain(|name| !name.is_empty());
    let process = |process: ProcessLabel| {
        let (command, mut first) = match process.command {
            Command::Word(word) => (word, Vec::new()),
            Command::List(list) => {
                let mut words = list.into_iter();
                (words.next().unwrap_or_default(), words.collect::<Vec<_>>())
            }
        };
        first.extend(process.args.unwrap_or_default());
        Process {
            default: default == format!("/cnb/process/{}", process.r#type),
            r#type: process.r#type,
            command,
            args: first,
            working_directory: process.working_directory,
            buildpack_id: process.buildpack_id,
        }
    };
    Ok(AppImage {
        image_name,
        digest,
        platform: config.platform().to_string(),
        created: config.created().map_or_else(String::new, |created| created.to_string()),
        rebasable: config.label("io.buildpacks.rebasable").is_none_or(|value| value == "true"),
        base_image: BaseImage { top_layer: run_image.top_layer, reference: run_image.reference },
        run_images: names.into_iter().map(|name| RunImage { name }).collect(),
        buildpacks: build.buildpacks.unwrap_or_default(),
        extensions: build.extensions.unwrap_or_default(),
        processes: build.processes.unwrap_or_default().into_iter().map(process).collect(),
    })
}

fn label<T: serde::de::DeserializeOwned>(config: &Config, name: &str) -> anyhow::Result<T> {
    let text = config
        .label(name)
        .with_context(|| format!("it has no label `{name}`, so it was not built by buildpacks"))?;
    serde_json::from_str(text).with_context(|| format!("its label `{name}` is not valid"))
}

fn print(image: &AppImage) {
    let rebasable = if image.rebasable { "yes" } else { "no" };
    let mut rows = vec![
        ["Image".to_owned(), image.image_name.clone()],
        ["Digest".to_owned(), image.digest.clone()],
        ["Platform".to_owned(), image.platform.clone()],
        ["Created".to_owned(), image.created.clone()],
        ["Run image".to_owned(), image.base_image.reference.clone()],
        ["Rebasable".to_owned(), rebasable.to_owned()],
    ];
    rows.extend(image.run_images.iter().map(|run| ["Run image name".to_owned(), run.name.clone()]));
    output::table(&rows);
    output::result("\nBuildpacks");
    let title = ["  ID", "VERSION", "HOMEPAGE"].map(str::to_owned);
    let buildpack = |buildpack: &Buildpack| {
        [format!("  {}", buildpack.id), buildpack.version.clone(), buildpack.homepage.clone()]
    };
    output::table(&std::iter::once(title).chain(image.buildpacks.iter().map(buildpack)).collect::<Vec<_>>());
    output::result("\nProcesses");
    let title = ["  TYPE", "COMMAND", "BUILDPACK"].map(str::to_owned);
    let process = |process: &Process| {
        let mark = if process.default { " (default)" } else { "" };
        let command = std::iter::once(&process.command).chain(&process.args);
        let command = command.cloned().collect::<Vec<_>>().join(" ");
        [format!("  {}{mark}", process.r#type), command, process.buildpack_id.clone()]
    };
    output::table(&std::iter::once(title).chain(image.processes.iter().map(process)).collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_old_and_new_lifecycles_are_read() {
        for command in [r#""run""#, r#"["run","it"]"#] {
            let mut config = Config::new(&Platform::linux("amd64"));
            config.set_entrypoint(&["/cnb/process/web".to_owned()]);
            config.set_label(
                "io.buildpacks.build.metadata",
                &format!(
                    r#"{{"buildpacks":[{{"id":"a","version":"1"}}],"extensions":null,"processes":
                       [{{"type":"web","command":{command},"args":["x"],"direct":true,"buildpackID":"a"}}]}}"#
                ),
            );
            config.set_label(
                "io.buildpacks.lifecycle.metadata",
                r#"{"runImage":{"topLayer":"t","reference":"r","image":"run","mirrors":["m"]}}"#,
            );
            let image = read(&config, "app".to_owned(), "d".to_owned()).unwrap();
            assert!(image.rebasable && image.processes[0].default);
            assert_eq!(image.processes[0].command, "run");
            assert_eq!(image.processes[0].args.last().unwrap(), "x");
            assert_eq!(image.run_images.len(), 2);
            assert_eq!(image.buildpacks[0].id, "a");
        }
        let error = read(&Config::new(&Platform::host()), String::new(), String::new()).unwrap_err();
        assert!(error.to_string().contains("not built by buildpacks"));
    }
}
