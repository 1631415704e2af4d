//! Which images are meant: those that were named, those of a file, and those that match patterns.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, bail};
use globset::{GlobBuilder, GlobMatcher};
use longshore_image::Reference;

use super::RebaseArguments;
use super::fleet;
use super::outcome::{Kind, Outcome};
use crate::images::Images;

/// An image that is to be rebased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) name: Reference,
    /// In its registry, instead of in the local store.
    pub(super) publish: bool,
    /// Named as itself: it must be one that can be rebased.
    pub(super) is_named: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) images: Vec<Selected>,
    /// Repositories whose tags could not be listed.
    pub(super) failed: Vec<Outcome>,
}

impl Selection {
    fn add(&mut self, name: Reference, publish: bool, is_named: bool) {
        let is_known = |known: &&mut Selected| known.name == name && known.publish == publish;
        match self.images.iter_mut().find(is_known) {
            Some(known) => known.is_named |= is_named,
            None => self.images.push(Selected { name, publish, is_named }),
        }
    }
}

/// Finds them.
pub(super) fn select(arguments: &RebaseArguments, images: &Images) -> anyhow::Result<Selection> {
    let mut selection = Selection::default();
    let of_file = arguments.from_file.as_deref().map(read).transpose()?.unwrap_or_default();
    for name in arguments.images.iter().cloned().chain(of_file) {
        selection.add(name, arguments.publish, true);
    }
    for pattern in &arguments.all {
        let before = selection.images.len() + selection.failed.len();
        match Pattern::parse(pattern)? {
            Pattern { host: Some(host), rest } => {
                in_registry(arguments, images, &host, &rest, &mut selection)?;
            }
            Pattern { host: None, rest } if arguments.publish => {
                bail!("`{rest}` names no registry; with `--publish`, write `HOST/{rest}`")
            }
            Pattern { host: None, rest } => in_store(images, &rest, &mut selection)?,
        }
        if selection.images.len() + selection.failed.len() == before {
            tracing::warn!("no image matches `{pattern}`, or none that is not named already");
        }
    }
    Ok(selection)
}

/// A file of references, one in each line; what follows a `#` is a comment.
fn read(path: &Path) -> anyhow::Result<Vec<Reference>> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        text
    } else {
        fs_err::read_to_string(path)?
    };
    let names = references(&text);
    let names = names.with_context(|| format!("cannot use the names in `{}`", path.display()))?;
    if names.is_empty() {
        tracing::warn!("`{}` names no image", path.display());
    }
    Ok(names)
}

fn references(text: &str) -> anyhow::Result<Vec<Reference>> {
    let mut names = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // A reference has no `#`.
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            names.push(line.parse().with_context(|| format!("line {}", number + 1))?);
        }
    }
    Ok(names)
}

/// A pattern and the registry whose images it is about; without one, it is about the local store.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    host: Option<String>,
    rest: String,
}

impl Pattern {
    /// As in references, the first part is a registry when it has a dot or a port, or is `localhost`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let is_host = |part: &str| {
            (part.contains(['.', ':']) || part == "localhost") && !part.contains(['*', '?', '[', '{'])
                || part.starts_with('[')
        };
        let pattern = match text.split_once('/') {
            Some((host, rest)) if is_host(host) && !rest.is_empty() => {
                Self { host: Some(host.to_owned()), rest: rest.to_owned() }
            }
            _ => Self { host: None, rest: text.to_owned() },
        };
        pattern.matcher()?;
        Ok(pattern)
    }

    fn matcher(&self) -> anyhow::Result<GlobMatcher> {
        matcher(&self.rest)
    }
}

/// `*` stands for anything, slashes included: teams have repositories of any depth.
fn matcher(pattern: &str) -> anyhow::Result<GlobMatcher> {
    let glob = GlobBuilder::new(pattern).literal_separator(false).build();
    Ok(glob.with_context(|| format!("`{pattern}` is not a pattern"))?.compile_matcher())
}

/// The repository of a pattern that names one, whatever it says of tags.
fn only_repository(rest: &str) -> Option<&str> {
    let (directory, last) = rest.rsplit_once('/').map_or(("", rest), |(directory, last)| (directory, last));
    let name = last.split(':').next().unwrap_or_default();
    let repository = if directory.is_empty() { name } else { &rest[..directory.len() + 1 + name.len()] };
    (!repository.contains(['*', '?', '[', ']', '{', '}'])).then_some(repository)
}

fn in_registry(
    arguments: &RebaseArguments,
    images: &Images,
    host: &str,
    rest: &str,
    selection: &mut Selection,
) -> anyhow::Result<()> {
    let registry = images.registry()?;
    let matcher = matcher(rest)?;
    let repositories = match only_repository(rest) {
        Some(repository) => vec![repository.to_owned()],
        None => registry.repositories(host).with_context(|| {
            format!(
                "cannot list the repositories of `{host}`, as many registries have no such list; write the images into a \
                 file, and name it with `--from-file`"
            )
        })?,
    };
    // Without what can match: a pattern for tags begins with its repository.
    let start = rest.split(['*', '?', '[', '{']).next().unwrap_or_default();
    let may_match = |name: &String| name.starts_with(start) || start.starts_with(name.as_str());
    let repositories: Vec<String> = repositories.into_iter().filter(may_match).collect();
    let tags = |repository: &String| -> anyhow::Result<Vec<Reference>> {
        let name: Reference = format!("{host}/{repository}").parse()?;
        let tags = registry.tags(&name)?;
        let matches = |tag: &&String| {
            !is_referrers_tag(tag)
                && (matcher.is_match(repository) || matcher.is_match(format!("{repository}:{tag}")))
        };
        Ok(tags.iter().filter(matches).map(|tag| name.with_tag(tag)).collect())
    };
    let listed = fleet::map(&repositories, arguments.jobs.get(), tags, |_| ());
    for (repository, listed) in repositories.iter().zip(listed) {
        match listed {
            Ok(names) => names.into_iter().for_each(|name| selection.add(name, true, false)),
            Err(error) => selection.failed.push(Outcome {
                cause: Some(format!("{error:#}")),
                ..Outcome::new(format!("{host}/{repository}"), Kind::Failed)
            }),
        }
    }
    Ok(())
}

/// Tags that stand for the referrers API, and those of signatures: `sha256-HEX`, perhaps with a suffix.
fn is_referrers_tag(tag: &str) -> bool {
    let hex = tag.strip_prefix("sha256-").and_then(|rest| rest.get(..64));
    hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn in_store(images: &Images, pattern: &str, selection: &mut Selection) -> anyhow::Result<()> {
    let matcher = matcher(pattern)?;
    for image in images.local().list()? {
        let name = image.reference;
        let full = name.with_tag(name.tag_or_latest());
        let untagged = full.name();
        let texts = [full.to_string(), full.familiar(), name.familiar(), untagged.to_string()];
        if texts.iter().any(|text| matcher.is_match(text)) {
            selection.add(name, false, false);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_with_a_registry_are_about_it() {
        for (text, host, rest) in [
            ("ghcr.io/org/*", Some("ghcr.io"), "org/*"),
            ("localhost/*", Some("localhost"), "*"),
            ("127.0.0.1:5000/app:*", Some("127.0.0.1:5000"), "app:*"),
            ("*", None, "*"),
            ("org/*", None, "org/*"),
            ("*.io/app", None, "*.io/app"),
            ("app:1", None, "app:1"),
        ] {
            let expected = Pattern { host: host.map(str::to_owned), rest: rest.to_owned() };
            assert_eq!(Pattern::parse(text).unwrap(), expected, "{text}");
        }
        assert!(Pattern::parse("ghcr.io/[").is_err());
    }

    #[test]
    fn one_repository_needs_no_list_of_all() {
        for (rest, expected) in [
            ("org/app:*", Some("org/app")),
            ("app", Some("app")),
            ("app:v1-*", Some("app")),
            ("org/*", None),
            ("o?g/app:1", None),
            ("org/app*:1", None),
        ] {
            assert_eq!(only_repository(rest), expected, "{rest}");
        }
    }

    #[test]
    fn a_file_has_names_and_comments() {
        let names = references("# all of them\n\n a:1 # the first\nr.io/b\n").unwrap();
        let names: Vec<String> = names.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["a:1", "r.io/b"]);
        let error = format!("{:#}", references("a\nUPPER:!\n").unwrap_err());
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn signatures_are_no_images() {
        let hex = "ab".repeat(32);
        assert!(is_referrers_tag(&format!("sha256-{hex}")));
        assert!(is_referrers_tag(&format!("sha256-{hex}.sig")));
        assert!(!is_referrers_tag("sha256-abc"));
        assert!(!is_referrers_tag("v1"));
    }
}
