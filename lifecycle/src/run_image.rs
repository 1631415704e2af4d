//! Which run image is used, and under which names it is recorded (platform.md "Run Image Resolution").

use longshore_cnb::PlatformApi;
use longshore_cnb::lifecycle_metadata::RunImageNames;
use longshore_cnb::run::Run;
use longshore_cnb::stack::Stack;
use longshore_image::Reference;

/// The run images that a platform offers: `run.toml`, or `stack.toml` before Platform API 0.12.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunImages {
    /// `run.toml`.
    Run(Run),
    /// `stack.toml`.
    Stack(Stack),
}

impl RunImages {
    /// The first choice, if there is any.
    #[must_use]
    pub fn first(&self) -> Option<&RunImageNames> {
        let first = match self {
            Self::Run(run) => run.images.first(),
            Self::Stack(stack) => Some(&stack.run_image),
        };
        first.filter(|names| !names.image.is_empty())
    }

    /// Whether one of the run images has the name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Run(run) => run.images.iter().any(|names| has_name(names, name)),
            Self::Stack(stack) => has_name(&stack.run_image, name),
        }
    }
}

/// The name of a run image that can be read: the first on the app image's registry, or else the first of all. `None`
/// when none can be read.
pub fn accessible<'a>(
    names: &'a RunImageNames,
    app_image: &Reference,
    can_read: &mut dyn FnMut(&Reference) -> bool,
) -> Option<&'a str> {
    let parsed: Vec<(&str, Reference)> =
        names.all().filter_map(|name| Some((name, name.parse().ok()?))).collect();
    let (near, far): (Vec<_>, Vec<_>) =
        parsed.into_iter().partition(|(_, reference)| reference.registry() == app_image.registry());
    near.into_iter().chain(far).find(|(_, reference)| can_read(reference)).map(|(name, _)| name)
}

/// The names under which an app image records its run image, which analyze found under `image`. With image extensions
/// (`extended`) the run image may be one that the platform does not offer.
#[must_use]
pub fn for_export(
    offered: &RunImages,
    image: &str,
    extended: bool,
    platform_api: PlatformApi,
) -> RunImageNames {
    let run = match offered {
        RunImages::Run(run) if platform_api.has_run_toml() => run,
        RunImages::Run(_) => return RunImageNames::default(),
        RunImages::Stack(stack) => return stack.run_image.clone(),
    };
    let Some(first) = run.images.first() else { return RunImageNames::default() };
    match run.images.iter().find(|names| has_name(names, image)) {
        Some(names) => names.clone(),
        None if extended => RunImageNames { image: image.to_owned(), mirrors: Vec::new() },
        None => first.clone(),
    }
}

/// Whether a run image is known under a name. Digests do not count, tags do, and short names are the same as long ones.
#[must_use]
pub fn has_name(names: &RunImageNames, name: &str) -> bool {
    let wanted = canonical(name);
    !name.is_empty() && names.all().any(|known| canonical(known) == wanted)
}

/// Whether a run image is known under a name with another tag, or with a digest instead of one.
#[must_use]
pub fn has_repository(names: &RunImageNames, name: &str) -> bool {
    let repository = |name: &str| name.parse().ok().map(|reference: Reference| reference.name());
    let wanted = repository(name);
    wanted.is_some() && names.all().any(|known| repository(known) == wanted)
}

fn canonical(name: &str) -> String {
    let without_digest = name.split_once('@').map_or(name, |(name, _)| name);
    match without_digest.parse::<Reference>() {
        Ok(reference) => format!("{}:{}", reference.name(), reference.tag_or_latest()),
        Err(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(image: &str, mirrors: &[&str]) -> RunImageNames {
        RunImageNames {
            image: image.to_owned(),
            mirrors: mirrors.iter().map(|&mirror| mirror.to_owned()).collect(),
        }
    }

    #[test]
    fn the_app_images_registry_comes_first() {
        let run = names("hub/run:1", &["a.io/run:1", "b.io/run:1"]);
        let table: &[(&str, &[&str], Option<&str>)] = &[
            ("b.io/app", &[], Some("b.io/run:1")),
            ("b.io/app", &["b.io"], Some("hub/run:1")),
            ("c.io/app", &["docker.io"], Some("a.io/run:1")),
            ("app", &[], Some("hub/run:1")),
            ("app", &["docker.io", "a.io", "b.io"], None),
        ];
        for (app, forbidden, expected) in table {
            let mut can_read = |reference: &Reference| !forbidden.contains(&reference.registry());
            assert_eq!(
                accessible(&run, &app.parse().unwrap(), &mut can_read),
                *expected,
                "{app} {forbidden:?}"
            );
        }
    }

    #[test]
    fn names_are_compared_without_digests() {
        let run = names("paketo/run:1", &["localhost:5000/run"]);
        let digest = longshore_image::Digest::of(b"");
        for (name, expected) in [
            ("docker.io/paketo/run:1", true),
            ("index.docker.io/paketo/run:1", true),
            ("paketo/run", false),
            ("localhost:5000/run:latest", true),
            ("other/run:1", false),
            ("", false),
        ] {
            assert_eq!(has_name(&run, name), expected, "{name}");
        }
        assert!(has_name(&run, &format!("paketo/run:1@{digest}")));
        for (name, expected) in [
            ("docker.io/paketo/run:1.0.7".to_owned(), true),
            (format!("localhost:5000/run@{digest}"), true),
            ("paketo/runner:1".to_owned(), false),
            ("m.io/paketo/run:1".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(has_repository(&run, &name), expected, "{name}");
        }
    }

    #[test]
    fn recorded_names_are_those_of_the_platform() {
        let (one, two) = (names("one", &["m/one"]), names("two", &[]));
        let offered = RunImages::Run(Run { images: vec![one.clone(), two.clone()] });
        let (new, old) = (PlatformApi::latest(), PlatformApi::parse("0.11").unwrap());
        assert_eq!(for_export(&offered, "two", false, new), two);
        assert_eq!(for_export(&offered, "m/one", false, new), one);
        assert_eq!(for_export(&offered, "three", false, new), one);
        assert_eq!(for_export(&offered, "three", true, new), names("three", &[]));
        let stack = RunImages::Stack(Stack { run_image: two.clone() });
        assert_eq!(for_export(&stack, "one", false, old), two);
    }
}
