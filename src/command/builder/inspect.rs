//! `longshore builder inspect`.

use anyhow::Context;
use longshore_cnb::order::OrderGroup;
use longshore_image::Platform;

use crate::builder::{BuilderImage, Depth, order_tree};
use crate::command::inspect::Format;
use crate::directories::Directories;
use crate::images::{Images, Location};
use crate::output;
use crate::settings::{PullPolicy, Settings};

/// The arguments of `builder inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArguments {
    /// The builder: of the local store or a registry, or `oci:DIRECTORY[:NAME]`; left out, the default builder
    builder: Option<Location>,
    /// How many levels of composite buildpacks are shown
    #[arg(short, long, value_name = "LEVELS")]
    depth: Option<usize>,
    /// How it is printed
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human-readable")]
    output: Format,
    /// When the registry is asked for the builder
    #[arg(long, value_enum, value_name = "POLICY")]
    pull_policy: Option<PullPolicy>,
}

/// Prints what is in a builder.
pub(super) fn run(arguments: &InspectArguments) -> anyhow::Result<()> {
    let directories = Directories::of_user()?;
    let settings = Settings::read(&directories)?;
    let images = Images::open(&directories, &settings)?;
    let policy = arguments.pull_policy.or(settings.pull_policy).unwrap_or_default();
    let location = match (&arguments.builder, &settings.default_builder) {
        (Some(location), _) => location.clone(),
        (None, Some(name)) => name.parse()?,
        (None, None) => return Err(crate::command::UsageError("name a builder".to_owned()).into()),
    };
    let found = images.get(&location, &Platform::host(), policy, "builder")?;
    let builder = BuilderImage::read(&found.image.config)
        .with_context(|| format!("`{location}` cannot be used as a builder"))?;
    match arguments.output {
        Format::Json => {
            let document = serde_json::json!({
                "builder_name": location.to_string(),
                "digest": found.image.manifest.digest().to_string(),
                "metadata": builder.metadata,
                "order": builder.order,
                "order_extensions": builder.order_extensions,
            });
            output::result(serde_json::to_string_pretty(&document)?);
        }
        Format::HumanReadable => print(&location, &builder, arguments.depth),
    }
    Ok(())
}

fn print(location: &Location, builder: &BuilderImage, depth: Option<usize>) {
    let metadata = &builder.metadata;
    let row = |name: &str, value: String| [name.to_owned(), value];
    let mut rows = vec![
        row("Builder", location.to_string()),
        row("Description", metadata.description.clone()),
        row("Made by", format!("{} {}", metadata.created_by.name, metadata.created_by.version)),
        row("User", format!("{}:{}", builder.uid, builder.gid)),
        row("Lifecycle", metadata.lifecycle.version.clone()),
        row("Buildpack APIs", metadata.lifecycle.apis.buildpack.supported.join(", ")),
        row("Platform APIs", metadata.lifecycle.apis.platform.supported.join(", ")),
    ];
    for image in builder.run_images().unwrap_or_default() {
        rows.push(row("Run image", image.image));
        rows.extend(image.mirrors.into_iter().map(|mirror| row("  mirror", mirror)));
    }
    output::table(&rows);
    output::result("\nBuildpacks");
    let title = ["  ID", "VERSION", "HOMEPAGE"].map(str::to_owned);
    let modules = metadata
        .buildpacks
        .iter()
        .map(|module| [format!("  {}", module.id), module.version.clone(), module.homepage.clone()]);
    output::table(&std::iter::once(title).chain(modules).collect::<Vec<_>>());
    output::result("\nOrder");
    print_order(&builder.order, builder, depth.map_or(Depth::All, Depth::Levels));
}

fn print_order(order: &[OrderGroup], builder: &BuilderImage, depth: Depth) {
    for line in order_tree(order, &builder.buildpacks, depth) {
        output::result(format_args!("  {line}"));
    }
}
