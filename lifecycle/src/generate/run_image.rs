//! Choosing the run image from the Dockerfiles of image extensions.
//!
//! Spec: platform.md "`detector`", "When image extensions are present in the order".

/// What one `run.Dockerfile` does to the run image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunDockerfile {
    pub(super) new_base: Option<String>,
    pub(super) extends: bool,
}

/// What all of them do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// The image that the last switch names.
    pub(super) new_base: Option<String>,
    /// Whether anything is to be added to the selected image.
    pub(super) extend: bool,
    /// How many Dockerfiles from the start have no effect, because a later one switches the image.
    pub(super) ignored: usize,
}

/// Selects the run image: the last switch counts, and whatever comes before it does not.
pub(super) fn select(dockerfiles: &[RunDockerfile]) -> Selection {
    let last_switch = dockerfiles.iter().rposition(|dockerfile| dockerfile.new_base.is_some());
    let ignored = last_switch.unwrap_or(0);
    Selection {
        new_base: last_switch.and_then(|position| dockerfiles[position].new_base.clone()),
        extend: dockerfiles[ignored..].iter().any(|dockerfile| dockerfile.extends),
        ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_switch_decides() {
        let keeps = |extends| RunDockerfile { new_base: None, extends };
        let switches = |base: &str, extends| RunDockerfile { new_base: Some(base.to_owned()), extends };
        let cases = [
            (vec![], None, false, 0),
            (vec![keeps(true)], None, true, 0),
            (vec![keeps(true), keeps(true)], None, true, 0),
            (vec![switches("a", false)], Some("a"), false, 0),
            (vec![switches("a", true)], Some("a"), true, 0),
            (vec![keeps(true), switches("a", false)], Some("a"), false, 1),
            (vec![switches("a", false), keeps(true)], Some("a"), true, 0),
            (vec![switches("a", true), switches("b", false)], Some("b"), false, 1),
            (vec![switches("a", true), keeps(true), switches("b", false), keeps(true)], Some("b"), true, 2),
        ];
        for (dockerfiles, base, extend, ignored) in cases {
            let expected = Selection { new_base: base.map(str::to_owned), extend, ignored };
            assert_eq!(select(&dockerfiles), expected, "{dockerfiles:?}");
        }
    }
}
