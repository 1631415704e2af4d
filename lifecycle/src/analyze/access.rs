//! Whether everything that the build will read and write can be read and written.

use longshore_image::Reference;

use super::{AnalyzeError, AnalyzeInput};

/// The further names of the app image, all on its registry if it is on one.
pub(super) fn tags(input: &AnalyzeInput<'_>, image: &Reference) -> Result<Vec<Reference>, AnalyzeError> {
    let tags = input.tags.iter().map(|tag| tag.parse()).collect::<Result<Vec<Reference>, _>>()?;
    match tags.iter().find(|tag| tag.registry() != image.registry()) {
        Some(tag) if !input.identify.mixes_registries() => {
            Err(AnalyzeError::SeveralRegistries { image: image.familiar(), tag: tag.familiar() })
        }
        _ => Ok(tags),
    }
}

/// Checks write access to all names, once per repository, and to the cache image.
pub(super) fn check_write(
    input: &AnalyzeInput<'_>,
    image: &Reference,
    tags: &[Reference],
) -> Result<(), AnalyzeError> {
    let failed = |reference: &Reference, source| AnalyzeError::Write {
        reference: reference.familiar(),
        source: Box::new(source),
    };
    let mut checked: Vec<&Reference> = Vec::new();
    for name in std::iter::once(image).chain(tags) {
        if checked.iter().any(|known| known.same_repository(name)) {
            continue;
        }
        input.target.check_write(name).map_err(|source| failed(name, source))?;
        checked.push(name);
    }
    if let Some((name, store)) = &input.cache_image {
        let reference: Reference = name.parse()?;
        store.check_write(&reference).map_err(|source| failed(&reference, source))?;
    }
    Ok(())
}
