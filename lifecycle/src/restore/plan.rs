//! Which layers of one buildpack are restored, and from where: the table of buildpack.md "Layer Types".

use std::collections::BTreeMap;
use std::fmt;

use longshore_cnb::PlatformApi;
use longshore_cnb::lifecycle_metadata::LayerMetadata;
use longshore_image::DiffId;

/// What happens to a layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision<'a> {
    /// Nothing is restored.
    Skip(&'static str),
    /// Nothing is restored: the cache holds another version of the layer than the app image.
    Mismatch {
        /// The DiffID in the app image.
        app: &'a str,
        /// The DiffID in the cache.
        cached: &'a str,
    },
    /// Only the metadata, from the app image.
    Metadata(&'a LayerMetadata),
    /// The metadata and the directory.
    Data {
        /// The metadata.
        metadata: &'a LayerMetadata,
        /// Where the metadata are from.
        origin: Origin,
        /// Which layer of the cache.
        diff_id: DiffId,
    },
}

/// Where metadata are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The label of the previous app image.
    AppImage,
    /// The cache.
    Cache,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AppImage => "app image",
            Self::Cache => "cache",
        })
    }
}

/// Decides for every layer that the app image or the cache knows of, by name.
pub(super) fn plan<'a>(
    app: &'a BTreeMap<String, LayerMetadata>,
    cached: &'a BTreeMap<String, LayerMetadata>,
    platform_api: PlatformApi,
) -> Vec<(&'a str, Decision<'a>)> {
    let mut names: Vec<&str> = app.keys().chain(cached.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| (name, decide(app.get(name), cached.get(name), platform_api))).collect()
}

fn decide<'a>(
    app: Option<&'a LayerMetadata>,
    cached: Option<&'a LayerMetadata>,
    platform_api: PlatformApi,
) -> Decision<'a> {
    let in_cache = cached.filter(|layer| layer.cache);
    match (app.filter(|layer| layer.launch), in_cache) {
        // The cache says that it is no launch layer: then the cache's word counts.
        (_, Some(cached)) if !cached.launch => with_data(cached, cached, Origin::Cache),
        (Some(app), _) if app.build && !app.cache => {
            Decision::Skip("it is a build layer that was not cached")
        }
        (Some(app), Some(cached)) => with_data(app, cached, Origin::AppImage),
        (Some(app), None) if app.cache => Decision::Skip("it was cached, but the cache does not have it"),
        (Some(app), None) => Decision::Metadata(app),
        (None, Some(cached)) if app.is_none() && platform_api.restores_launch_metadata_from_cache() => {
            with_data(cached, cached, Origin::Cache)
        }
        (None, Some(_)) => Decision::Skip("it is a launch layer that the app image does not have"),
        (None, None) => Decision::Skip("it was neither a launch nor a cached layer"),
    }
}

fn with_data<'a>(metadata: &'a LayerMetadata, cached: &'a LayerMetadata, origin: Origin) -> Decision<'a> {
    if metadata.sha != cached.sha {
        return Decision::Mismatch { app: &metadata.sha, cached: &cached.sha };
    }
    match cached.sha.parse() {
        Ok(diff_id) => Decision::Data { metadata, origin, diff_id },
        Err(_) => Decision::Skip("the cache names no valid DiffID for it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(types: &str, content: &str) -> LayerMetadata {
        LayerMetadata {
            sha: DiffId::of(content.as_bytes()).to_string(),
            build: types.contains('b'),
            launch: types.contains('l'),
            cache: types.contains('c'),
            ..LayerMetadata::default()
        }
    }

    /// The net effect in one letter: `-` nothing, `m` metadata, `d` metadata and data, `x` removed.
    fn outcome(
        app: Option<&LayerMetadata>,
        cached: Option<&LayerMetadata>,
        api: &str,
    ) -> (char, Option<Origin>) {
        match decide(app, cached, PlatformApi::parse(api).unwrap()) {
            Decision::Skip(_) => ('-', None),
            Decision::Mismatch { .. } => ('x', None),
            Decision::Metadata(_) => ('m', Some(Origin::AppImage)),
            Decision::Data { origin, .. } => ('d', Some(origin)),
        }
    }

    /// buildpack.md "Layer Types": the table, for a layer that the previous build left as it says.
    #[test]
    fn every_combination_of_types() {
        let table = [
            ("blc", 'd'),
            ("bc", 'd'),
            ("bl", '-'),
            ("b", '-'),
            ("lc", 'd'),
            ("c", 'd'),
            ("l", 'm'),
            ("", '-'),
        ];
        for (types, expected) in table {
            let metadata = layer(types, "x");
            let app = types.contains('l').then_some(&metadata);
            let cached = types.contains('c').then_some(&metadata);
            for api in ["0.7", "0.13", "0.14", "0.15"] {
                assert_eq!(outcome(app, cached, api).0, expected, "{types} with {api}");
            }
        }
    }

    #[test]
    fn cache_and_app_image_may_disagree() {
        let (lc, lc2) = (layer("lc", "x"), layer("lc", "y"));
        let (l, bl, c) = (layer("l", "x"), layer("bl", "x"), layer("c", "y"));
        type Layer<'a> = Option<&'a LayerMetadata>;
        type Outcome = (char, Option<Origin>);
        let table: &[(Layer<'_>, Layer<'_>, &str, Outcome)] = &[
            (Some(&lc), Some(&lc2), "0.14", ('x', None)),
            (Some(&lc), None, "0.14", ('-', None)),
            (None, Some(&lc), "0.13", ('-', None)),
            (None, Some(&lc), "0.14", ('d', Some(Origin::Cache))),
            (Some(&l), Some(&lc), "0.14", ('d', Some(Origin::AppImage))),
            (Some(&l), Some(&lc2), "0.14", ('x', None)),
            (Some(&bl), Some(&lc), "0.14", ('-', None)),
            // The last build made it a plain cached layer, but its export failed after the cache was written.
            (Some(&lc), Some(&c), "0.14", ('d', Some(Origin::Cache))),
            (Some(&l), Some(&layer("l", "x")), "0.14", ('m', Some(Origin::AppImage))),
        ];
        for (index, (app, cached, api, expected)) in table.iter().enumerate() {
            assert_eq!(outcome(*app, *cached, api), *expected, "case {index}");
        }
    }

    #[test]
    fn an_invalid_diff_id_is_not_asked_for() {
        let broken = LayerMetadata { sha: "sha256:../../x".to_owned(), ..layer("c", "") };
        assert_eq!(outcome(None, Some(&broken), "0.15"), ('-', None));
    }
}
