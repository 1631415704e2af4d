//! `stack.toml`: the run image of a stack, before Platform API 0.12 had `run.toml`.

use serde::Deserialize;

use crate::lifecycle_metadata::RunImageNames;

/// The content of `stack.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Stack {
    /// The run image.
    pub run_image: RunImageNames,
}

impl Stack {
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
    fn the_run_image_is_read() {
        let stack = Stack::parse("[run-image]\nimage = \"a\"\nmirrors = [\"b\"]\n").unwrap();
        assert_eq!(stack.run_image.all().collect::<Vec<_>>(), ["a", "b"]);
    }
}
