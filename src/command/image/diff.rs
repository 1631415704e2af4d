//! `longshore image diff`.

use longshore_image::Platform;
use longshore_image::diff::{Difference, ImageDiff, Side, diff};

use crate::command::inspect::Format;
use crate::command::shared::parse_platform;
use crate::images::{Images, Location};
use crate::output;
use crate::settings::PullPolicy;

/// The arguments of `image diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArguments {
    /// The first image
    before: Location,
    /// The second image
    after: Location,
    /// How it is printed
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "human-readable")]
    output: Format,
    /// Which images of indexes are compared [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

/// Compares.
pub(crate) fn run(images: &Images, arguments: &DiffArguments, policy: PullPolicy) -> anyhow::Result<()> {
    let platform = arguments.platform.as_deref().map(parse_platform).transpose()?;
    let platform = platform.unwrap_or_else(Platform::host);
    let before = images.get(&arguments.before, &platform, policy, "image")?;
    let after = images.get(&arguments.after, &platform, policy, "image")?;
    let found = diff(
        Side { image: &before.image, store: before.store.as_ref() },
        Side { image: &after.image, store: after.store.as_ref() },
    )?;
    match arguments.output {
        Format::Json => output::result(serde_json::to_string_pretty(&found)?),
        Format::HumanReadable => print(&found),
    }
    Ok(())
}

fn print(found: &ImageDiff) {
    if found.layers.is_empty() && found.config.is_empty() && found.files.is_empty() {
        output::result("The images have the same layers and configuration.");
        return;
    }
    output::result(format_args!("{} layers are the same.", found.common_layers));
    for (title, list) in
        [("Layers", &found.layers), ("Configuration", &found.config), ("Files", &found.files)]
    {
        if !list.is_empty() {
            output::result(format_args!("\n{title}"));
            for difference in list {
                output::result(line(difference));
            }
        }
    }
}

/// `+` is only in the second image, `-` only in the first, `~` in both.
fn line(difference: &Difference) -> String {
    let name = &difference.name;
    match (&difference.before, &difference.after) {
        (None, Some(after)) => format!("  + {name} ({after})"),
        (Some(before), None) => format!("  - {name} ({before})"),
        (before, after) => {
            let text = |side: &Option<String>| side.clone().unwrap_or_default();
            format!("  ~ {name} ({} -> {})", text(before), text(after))
        }
    }
}
