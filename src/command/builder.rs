//! `longshore builder`: builders.

mod inspect;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use longshore_cnb::group::ModuleKind;
use longshore_image::{Platform, Reference};

use super::UsageError;
use super::shared::LayerFormatArgument;
use crate::builder::{
    BuilderConfiguration, BuilderRequest, Module, ModuleConfiguration, assemble, local_directory,
};
use crate::creation_time::creation_time;
use crate::directories::Directories;
use crate::images::{Images, Location};
use crate::settings::{PullPolicy, Settings};
use crate::{output, programs};

/// What to do with builders.
#[derive(Debug, Subcommand)]
pub(crate) enum BuilderCommand {
    /// Make a builder out of a build image and buildpacks
    Create(CreateArguments),
    /// Show what is in a builder
    Inspect(inspect::InspectArguments),
    /// Name some builders to begin with
    Suggest,
}

/// The arguments of `builder create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArguments {
    /// The name of the builder
    name: Reference,
    /// What the builder is made of, in the format of pack
    #[arg(short, long, value_name = "FILE", default_value = "builder.toml")]
    config: PathBuf,
    /// Push the builder to its registry instead of keeping it in the local store
    #[arg(long)]
    publish: bool,
    /// When the registry is asked for the build image
    #[arg(long, value_enum)]
    pull_policy: Option<PullPolicy>,
    /// The platform to make it for, as OS[/ARCH][/VARIANT]
    #[arg(short, long, value_name = "TARGET")]
    target: Vec<String>,
    /// Another name for the builder; may be given several times
    #[arg(long, value_name = "NAME")]
    tag: Vec<Reference>,
    /// A label of the image, as NAME=VALUE; may be given several times
    #[arg(short, long, value_name = "LABEL", value_parser = super::shared::name_and_value)]
    label: Vec<(String, String)>,
    #[command(flatten)]
    layer_format: LayerFormatArgument,
}

/// Runs the command.
pub(crate) fn run(command: BuilderCommand) -> anyhow::Result<()> {
    match command {
        BuilderCommand::Create(arguments) => create(&arguments),
        BuilderCommand::Inspect(arguments) => inspect::run(&arguments),
        BuilderCommand::Suggest => {
            suggest();
            Ok(())
        }
    }
}

fn suggest() {
    let rows = [
        [
            "docker.io/heroku/builder:24",
            "Ruby, Node.js, Python, Go, Java, Scala, PHP and .NET on Ubuntu 24.04",
        ],
        [
            "docker.io/paketobuildpacks/builder-jammy-base",
            "Java, Node.js, Go, Python, .NET and more on Ubuntu 22.04",
        ],
        [
            "gcr.io/buildpacks/builder:google-22",
            "Go, Java, Node.js, PHP, Python, Ruby and .NET on Ubuntu 22.04",
        ],
    ];
    output::table(&rows.map(|row| row.map(str::to_owned)));
    output::tip("make your own with `longshore base create` and `longshore builder create`");
}

fn create(arguments: &CreateArguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let configuration = BuilderConfiguration::read(&arguments.config)?;
    ensure!(
        configuration.lifecycle.uri.is_empty() && configuration.lifecycle.version.is_empty(),
        "`[lifecycle]` names another lifecycle; builders get this program's own, so leave it out"
    );
    let platform = platform(arguments, &configuration)?;
    let directories = Directories::of_user()?;
    let settings = Settings::read(&directories)?;
    let images = Images::open(&directories, &settings)?;
    let policy = arguments.pull_policy.or(settings.pull_policy).unwrap_or_default();
    let location: Location = configuration.build_image().parse()?;
    let build_image = images.get(&location, &platform, policy, "build image")?;
    let base =
        arguments.config.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let sink = images.local().sink();
    let request = BuilderRequest {
        configuration: &configuration,
        build_image: &build_image,
        modules: modules(&configuration, base)?,
        lifecycle: &programs::lifecycle()?,
        launcher: &programs::launcher(&directories)?,
        created: creation_time(None)?,
        format: arguments.layer_format.format(),
        sink: &sink,
    };
    let mut builder = assemble(&request)?;
    for (name, value) in &arguments.label {
        builder.config.set_label(name, value);
    }
    let store = images.destination(arguments.publish)?;
    for name in std::iter::once(&arguments.name).chain(&arguments.tag) {
        let digest = builder.put(store.as_ref(), name)?;
        output::result(format_args!(
            "Successfully created builder {} {digest}",
            output::symbol(name.familiar())
        ));
    }
    output::took("builder create", started.elapsed());
    Ok(())
}

fn platform(arguments: &CreateArguments, configuration: &BuilderConfiguration) -> anyhow::Result<Platform> {
    let host = Platform::host();
    let wanted = match arguments.target.as_slice() {
        [] => match configuration.targets.first() {
            Some(target) if !target.arch.is_empty() => Platform::linux(&target.arch),
            _ => host.clone(),
        },
        [one] => super::shared::parse_platform(one)?,
        _ => bail!(UsageError("`--target` can be given once: builders are made for one platform".to_owned())),
    };
    ensure!(
        wanted.accepts(&host),
        "a builder for {wanted} cannot be made here: this program, which becomes its lifecycle, is for {host}"
    );
    Ok(wanted)
}

fn modules(configuration: &BuilderConfiguration, base: &Path) -> anyhow::Result<Vec<Module>> {
    let buildpacks = configuration.buildpacks.iter().map(|module| (ModuleKind::Buildpack, module));
    let extensions = configuration.extensions.iter().map(|module| (ModuleKind::Extension, module));
    buildpacks.chain(extensions).map(|(kind, module)| read(kind, module, base)).collect()
}

fn read(kind: ModuleKind, wanted: &ModuleConfiguration, base: &Path) -> anyhow::Result<Module> {
    let uri = if wanted.uri.is_empty() { format!("docker://{}", wanted.image) } else { wanted.uri.clone() };
    let directory = local_directory(&uri, base)?;
    let module = Module::read(kind, &directory)
        .with_context(|| format!("cannot use the buildpack in `{}`", directory.display()))?;
    let id = module.id();
    let agree = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    ensure!(
        agree(&wanted.id, &id.id) && agree(&wanted.version, &id.version),
        "`{}` has the buildpack `{id}`, not `{}@{}`",
        directory.display(),
        wanted.id,
        wanted.version
    );
    Ok(module)
}
