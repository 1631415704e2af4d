//! `longshore build`: from an app's source to an image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use longshore_cnb::project_metadata::{ProjectMetadata, ProjectSource};
use longshore_image::{Platform, Reference};
use longshore_lifecycle::export::AppLayer;

use super::UsageError;
use super::shared::{FormatArguments, parse_platform};
use crate::build::{self, BuildRequest, NetworkAccess, Volume};
use crate::container::{Assignment, read_environment_file};
use crate::creation_time::{CreationTime, creation_time};
use crate::directories::Directories;
use crate::images::{Images, Location};
use crate::known_registries::KnownRegistries;
use crate::output::{self, OutputArguments};
use crate::project::{ModuleLocator, ProjectDescriptor};
use crate::settings::{PullPolicy, Settings};

/// The arguments of `build`.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildArguments {
    /// The name of the app image
    image: Reference,
    /// The directory with the app's source
    #[arg(short, long, value_name = "DIRECTORY", default_value = ".")]
    path: PathBuf,
    /// The builder: of the local store, a registry, or `oci:DIRECTORY`
    #[arg(short = 'B', long)]
    builder: Option<Location>,
    /// A buildpack to use instead of the builder's order: a directory, or ID[@VERSION] of the builder; may be given
    /// several times
    #[arg(short, long, value_delimiter = ',')]
    buildpack: Vec<String>,
    /// A buildpack to put before every group of the builder's order
    #[arg(long, value_name = "BUILDPACK")]
    pre_buildpack: Vec<String>,
    /// A buildpack to put after every group of the builder's order
    #[arg(long, value_name = "BUILDPACK")]
    post_buildpack: Vec<String>,
    /// A variable for buildpacks, not for the app; without a value it is taken from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<Assignment>,
    /// A file with variables for buildpacks, one in each line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// The project descriptor [default: project.toml in the app's directory, if there is one]
    #[arg(short, long, value_name = "FILE")]
    descriptor: Option<PathBuf>,
    /// Another name for the app image; may be given several times
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    tag: Vec<Reference>,
    /// The run image instead of the builder's
    #[arg(long, value_name = "NAME")]
    run_image: Option<Reference>,
    /// The image whose layers are reused instead of the last one of this name
    #[arg(long, value_name = "NAME")]
    previous_image: Option<Reference>,
    /// Push the app image to its registry instead of keeping it in the local store
    #[arg(long)]
    publish: bool,
    /// Forget what earlier builds of this image cached
    #[arg(long)]
    clear_cache: bool,
    /// Read all layers, also those that are unchanged as far as sizes, times and inodes tell
    #[arg(long, env = "LONGSHORE_PARANOID", value_parser = clap::builder::FalseyValueParser::new())]
    paranoid: bool,
    /// The process type that the image starts
    #[arg(short = 'D', long, value_name = "TYPE")]
    default_process: Option<String>,
    /// When the image says it was made: `now` or seconds since 1970 [default: 1980-01-01, so that builds are
    /// reproducible]
    #[arg(long, value_name = "TIME")]
    creation_time: Option<CreationTime>,
    /// When the registry is asked for images that the local store has
    #[arg(long, value_enum, value_name = "POLICY")]
    pull_policy: Option<PullPolicy>,
    /// The execution environment
    #[arg(long, value_name = "NAME", default_value = "production")]
    exec_env: String,
    /// What buildpacks can reach: `host` or `none`
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// Show a file or directory of this machine to buildpacks: SOURCE:TARGET[:ro|rw]
    #[arg(long, value_name = "VOLUME")]
    volume: Vec<Volume>,
    /// Certificates that buildpacks trust instead of the builder's [default: SSL_CERT_FILE]; never in the image
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// The name of the app's directory in the image
    #[arg(long, value_name = "NAME", default_value = "workspace")]
    workspace: String,
    /// The id of the build's user instead of the builder's
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    uid: Option<u32>,
    /// The group of the build's user instead of the builder's
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    gid: Option<u32>,
    /// Write report.toml into this directory
    #[arg(long, value_name = "DIRECTORY")]
    report_output_dir: Option<PathBuf>,
    /// Write the SBOM files into this directory
    #[arg(long, value_name = "DIRECTORY")]
    sbom_output_dir: Option<PathBuf>,
    /// The platform to build for; only this machine's
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// A registry without valid certificates; may be given several times
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,
    /// How the app goes into the image: `full`, or `delta` for what changed since the previous image on top of its layers
    /// [default: full]
    #[arg(long, value_name = "HOW", env = "LONGSHORE_APP_LAYER")]
    app_layer: Option<AppLayer>,
    #[command(flatten)]
    formats: FormatArguments,
    #[command(flatten)]
    ignored: IgnoredArguments,
}

/// What pack has and nothing here depends on: there is no daemon, and no builder is trusted with credentials.
#[derive(Debug, clap::Args)]
struct IgnoredArguments {
    #[arg(long, hide = true)]
    trust_builder: bool,
    #[arg(long, hide = true)]
    trust_extra_buildpacks: bool,
    #[arg(long, hide = true)]
    lifecycle_image: Option<String>,
    #[arg(long, hide = true)]
    docker_host: Option<String>,
    #[arg(long, hide = true)]
    userns_host: bool,
    #[arg(long, hide = true)]
    disable_system_buildpacks: bool,
}

/// Builds, and says where the image is.
pub(crate) fn run(arguments: BuildArguments, output: OutputArguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let directories = Directories::of_user()?;
    let settings = Settings::read(&directories)?;
    let mut images = Images::open(&directories, &settings)?;
    images.allow_insecure(&arguments.insecure_registry);
    let mut request = request(arguments, &settings, output)?;
    let mut known = KnownRegistries::read(&directories)?;
    let registry = request.image.registry().to_owned();
    if request.publish {
        let formats = known.formats(&registry, Some(request.layer_format), request.manifest_format);
        request.layer_format = formats.0.unwrap_or(request.layer_format);
        request.manifest_format = formats.1.unwrap_or(request.manifest_format);
    }
    let built = build::build(&request, &directories, &images)?;
    let digest = built.manifest.digest();
    if request.publish {
        known.learn(&registry, request.manifest_format, &built.manifest)?;
    }
    output::took("build", started.elapsed());
    let name = request.image.familiar();
    if output.quiet {
        output::result(format_args!("{}@{}", request.image.name(), digest));
    } else {
        output::result(format_args!("Successfully built image {} {}", output::symbol(&name), digest));
        if !request.publish {
            output::tip(&format!("start it with `longshore run {name}`"));
        }
    }
    Ok(())
}

/// Flags go before the project descriptor, which goes before the settings.
fn request(
    arguments: BuildArguments,
    settings: &Settings,
    output: OutputArguments,
) -> anyhow::Result<BuildRequest> {
    check(&arguments)?;
    let (layer_format, manifest_format) = arguments.formats.or(settings).chosen();
    let app = std::path::absolute(&arguments.path)?;
    ensure!(app.exists(), "the app path `{}` does not exist", arguments.path.display());
    let (project, project_directory) = project(&arguments, &app)?;
    let builder = match arguments.builder {
        Some(builder) => builder,
        None => project.builder.as_deref().or(settings.default_builder.as_deref()).map_or_else(
            || Err(no_builder()),
            |name| name.parse().with_context(|| format!("the builder `{name}` cannot be used")),
        )?,
    };
    let variables = variables(&arguments.env_file, arguments.env, &project)?;
    let here = std::env::current_dir().context("cannot tell the current directory")?;
    let locators = |texts: Vec<String>| texts.into_iter().map(ModuleLocator::Uri).collect::<Vec<_>>();
    let named = [&arguments.buildpack, &arguments.pre_buildpack, &arguments.post_buildpack];
    let from_flags = named.iter().any(|list| !list.is_empty());
    let project_metadata = project_metadata(&project);
    let or = |flags: Vec<String>, project: Vec<ModuleLocator>| {
        if flags.is_empty() { project } else { locators(flags) }
    };
    Ok(BuildRequest {
        image: arguments.image,
        tags: arguments.tag,
        filter: project.filter,
        workspace: Path::new("/").join(&arguments.workspace),
        builder,
        run_image: arguments.run_image,
        previous_image: arguments.previous_image,
        publish: arguments.publish,
        pull_policy: arguments.pull_policy.or(settings.pull_policy).unwrap_or_default(),
        clear_cache: arguments.clear_cache,
        is_paranoid: arguments.paranoid,
        group: or(arguments.buildpack, project.group),
        pre: or(arguments.pre_buildpack, project.pre),
        post: or(arguments.post_buildpack, project.post),
        modules_base: if from_flags { here } else { project_directory },
        variables,
        default_process: arguments.default_process,
        exec_env: arguments.exec_env,
        created: creation_time(arguments.creation_time)?,
        app_layer: arguments.app_layer.or(settings.app_layer).unwrap_or_default(),
        layer_format,
        manifest_format,
        network: network(arguments.network.as_deref()),
        volumes: arguments.volume,
        ca_certificates: certificates(arguments.ca_cert)?,
        uid: arguments.uid,
        gid: arguments.gid,
        project: project_metadata,
        report_directory: arguments.report_output_dir,
        sbom_directory: arguments.sbom_output_dir,
        verbose: output.verbose,
        quiet: output.quiet,
        app,
    })
}

fn check(arguments: &BuildArguments) -> anyhow::Result<()> {
    if let Some(text) = &arguments.platform {
        let (wanted, host) = (parse_platform(text)?, Platform::host());
        ensure!(
            wanted.accepts(&host),
            "cannot build for {wanted}: buildpacks run on this machine, which is {host}"
        );
    }
    if arguments.image.digest().is_some() {
        bail!(UsageError(format!(
            "`{}` names an image by its digest, which is known only after the build; leave it out",
            arguments.image.familiar()
        )));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if arguments.exec_env.is_empty() || !arguments.exec_env.chars().all(allowed) {
        bail!(UsageError(format!(
            "`--exec-env {}` may have letters, digits, `.` and `-`",
            arguments.exec_env
        )));
    }
    let workspace = Path::new(&arguments.workspace);
    let plain = workspace.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if arguments.workspace.is_empty() || !plain {
        bail!(UsageError(format!("`--workspace {}` is not the name of a directory", arguments.workspace)));
    }
    Ok(())
}

fn no_builder() -> anyhow::Error {
    UsageError(
        "no builder was named. Name one with `--builder`, or for all builds with `longshore config default-builder \
         NAME`. `longshore builder suggest` lists some, and `longshore base create` with `longshore builder create` \
         makes one."
            .to_owned(),
    )
    .into()
}

/// The project descriptor, and the directory that its paths are relative to.
fn project(arguments: &BuildArguments, app: &Path) -> anyhow::Result<(ProjectDescriptor, PathBuf)> {
    let path = match &arguments.descriptor {
        Some(path) => std::path::absolute(path)?,
        None => app.join("project.toml"),
    };
    let directory = path.parent().unwrap_or(app).to_owned();
    if arguments.descriptor.is_none() && !path.exists() {
        return Ok((ProjectDescriptor::default(), directory));
    }
    Ok((ProjectDescriptor::read(&path, &arguments.exec_env)?, directory))
}

/// `--env` goes before `--env-file`, which goes before the project descriptor.
fn variables(
    files: &[PathBuf],
    flags: Vec<Assignment>,
    project: &ProjectDescriptor,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut variables: BTreeMap<String, String> =
        project.env.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect();
    let mut assignments = Vec::new();
    for file in files {
        assignments.extend(read_environment_file(file)?);
    }
    assignments.extend(flags);
    for (name, value) in assignments.into_iter().filter_map(Assignment::resolve) {
        let text = |text: std::ffi::OsString| {
            text.into_string().map_err(|text| UsageError(format!("the variable {text:?} is not UTF-8")))
        };
        variables.insert(text(name)?, text(value)?);
    }
    for name in variables.keys() {
        if name.is_empty() || name.contains(['/', '\0']) || matches!(name.as_str(), "." | "..") {
            bail!(UsageError(format!("`{name}` is not a name for a variable")));
        }
    }
    Ok(variables)
}

/// What descriptors of schema 0.1 say about the source.
fn project_metadata(project: &ProjectDescriptor) -> ProjectMetadata {
    if project.version.is_none() && project.source_url.is_none() {
        return ProjectMetadata::default();
    }
    let object = |name: &str, value: &Option<String>| match value {
        Some(value) => serde_json::json!({ name: value }),
        None => serde_json::Value::Null,
    };
    ProjectMetadata {
        source: Some(ProjectSource {
            kind: "project".to_owned(),
            version: object("declared", &project.version),
            metadata: object("url", &project.source_url),
        }),
    }
}

fn network(name: Option<&str>) -> NetworkAccess {
    match name {
        Some("none") => NetworkAccess::None,
        None | Some("host" | "default" | "bridge" | "") => NetworkAccess::Host,
        Some(other) => {
            tracing::warn!("there is no container network `{other}` without a daemon; the host's is used");
            NetworkAccess::Host
        }
    }
}

fn certificates(flag: Option<PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = &flag {
        ensure!(path.is_file(), "there is no file with certificates `{}`", path.display());
    }
    let from_environment =
        || std::env::var_os("SSL_CERT_FILE").map(PathBuf::from).filter(|path| path.is_file());
    flag.or_else(from_environment).map(|path| Ok(std::path::absolute(path)?)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Variable;

    #[test]
    fn variables_of_flags_go_before_files_and_the_project() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), "A=file\nB=file\n").unwrap();
        let variable = |name: &str| Variable { name: name.to_owned(), value: "project".to_owned() };
        let project = ProjectDescriptor {
            env: vec![variable("A"), variable("B"), variable("C")],
            ..ProjectDescriptor::default()
        };
        let flags = vec!["A=flag".parse().unwrap()];
        let variables = variables(&[file.path().to_owned()], flags, &project).unwrap();
        let pairs: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("A", "flag"), ("B", "file"), ("C", "project")]);
        let wrong = vec!["../x=1".parse().unwrap()];
        assert!(super::variables(&[], wrong, &project).is_err());
    }

    #[test]
    fn only_schema_0_1_says_where_the_source_is() {
        assert_eq!(project_metadata(&ProjectDescriptor::default()), ProjectMetadata::default());
        let project = ProjectDescriptor { version: Some("1".to_owned()), ..ProjectDescriptor::default() };
        let source = project_metadata(&project).source.unwrap();
        assert_eq!(source.version, serde_json::json!({"declared": "1"}));
    }
}
