//! `run.toml`: the run images that a platform offers (platform.md "`run.toml` (TOML)").

use serde::Deserialize;

use crate::lifecycle_metadata::RunImageNames;

/// The content of `run.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Run {
    /// The run images, the first choice first.
    pub images: Vec<RunImageNames>,
}

impl Run {
    /// Reads the file's content.
    ///
    /// # Errors
    /// When it is not TOML, or a value has the wrong type.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_mirrors_are_read() {
        let run =
            Run::parse("[[images]]\nimage = \"a\"\nmirrors = [\"b\", \"c\"]\n[[images]]\nimage = \"d\"\n")
                .unwrap();
        let names: Vec<Vec<&str>> = run.images.iter().map(|image| image.all().collect()).collect();
        assert_eq!(names, [vec!["a", "b", "c"], vec!["d"]]);
        assert!(Run::parse("images = 1").is_err());
        assert_eq!(Run::parse("").unwrap(), Run::default());
    }
}
