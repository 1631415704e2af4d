//! Names that a build must not mix up.

use anyhow::ensure;
use longshore_image::{Digest, Reference};

use crate::images::Location;

/// Refuses to write the app image where its builder or run image is.
///
/// # Errors
/// When one of the names is in the repository of the builder or of a run image.
pub(crate) fn check<'a>(
    images: impl IntoIterator<Item = &'a Reference>,
    builder: &Location,
    run_images: &[Reference],
) -> anyhow::Result<()> {
    for image in images {
        if let Location::Reference(builder) = builder {
            ensure!(
                !image.same_repository(builder),
                "the app image cannot be called `{}`: that is the name of its builder; choose another",
                image.familiar()
            );
        }
        ensure!(
            !run_images.iter().any(|run_image| image.same_repository(run_image)),
            "the app image cannot be called `{}`: that is the name of its run image; choose another",
            image.familiar()
        );
    }
    Ok(())
}

/// The name of an image's cache directory: readable, and different for every name.
pub(crate) fn cache_name(image: &Reference) -> String {
    let name = format!("{}:{}", image.name(), image.tag_or_latest());
    let readable = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let short: String = name.chars().map(readable).take(60).collect();
    format!("{short}-{}", &Digest::of(name.as_bytes()).hex()[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builder_and_run_images_are_not_overwritten() {
        let builder: Location = "team/builder:1".parse().unwrap();
        let run_images: Vec<Reference> = vec!["team/run".parse().unwrap()];
        for (image, accepted) in
            [("team/app", true), ("team/builder:2", false), ("team/run:x", false), ("builder", true)]
        {
            let image = image.parse().unwrap();
            assert_eq!(check([&image], &builder, &run_images).is_ok(), accepted, "{image}");
        }
        let image = "team/builder".parse().unwrap();
        assert!(check([&image], &"oci:team/builder".parse().unwrap(), &[]).is_ok());
    }

    #[test]
    fn caches_of_different_images_are_different() {
        let name = |text: &str| cache_name(&text.parse().unwrap());
        assert_eq!(name("app"), name("docker.io/library/app:latest"));
        assert!(name("app").starts_with("docker.io_library_app_latest-"));
        assert_ne!(name("a/b-c"), name("a-b/c"));
        assert_ne!(name("app:1"), name("app:2"));
    }
}
