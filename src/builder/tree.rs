//! The order of a builder as a tree, for people.

use longshore_cnb::order::OrderGroup;

use super::labels::ModuleLayers;

/// How far composite buildpacks are unfolded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// As far as they go.
    All,
    /// So many levels of groups.
    Levels(usize),
}

/// The lines of the tree. A composite buildpack that contains itself is not unfolded again.
pub(crate) fn order_tree(order: &[OrderGroup], layers: &ModuleLayers, depth: Depth) -> Vec<String> {
    let mut tree = Tree { layers, depth, path: Vec::new(), lines: Vec::new() };
    tree.order(order, 0);
    tree.lines
}

struct Tree<'a> {
    layers: &'a ModuleLayers,
    depth: Depth,
    path: Vec<String>,
    lines: Vec<String>,
}

impl Tree<'_> {
    fn order(&mut self, order: &[OrderGroup], level: usize) {
        if matches!(self.depth, Depth::Levels(levels) if level >= levels) {
            return;
        }
        let indentation = "    ".repeat(level);
        for (number, group) in order.iter().enumerate() {
            self.lines.push(format!("{indentation}Group {}", number + 1));
            for entry in &group.group {
                let optional = if entry.optional { " (optional)" } else { "" };
                let name = entry.to_string();
                self.lines.push(format!("{indentation}  {name}{optional}"));
                let inner = self.layers.get(&entry.id).and_then(|versions| versions.get(&entry.version));
                if let Some(layer) = inner.filter(|layer| !layer.order.is_empty())
                    && !self.path.contains(&name)
                {
                    self.path.push(name);
                    self.order(&layer.order, level + 1);
                    self.path.pop();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> ModuleLayers {
        serde_json::from_str(
            r#"{"a":{"1":{"api":"0.10","order":[{"group":[{"id":"b","version":"1","optional":true}]}]}},
                "loop":{"1":{"api":"0.10","order":[{"group":[{"id":"loop","version":"1"}]}]}}}"#,
        )
        .unwrap()
    }

    fn order(id: &str) -> Vec<OrderGroup> {
        serde_json::from_str(&format!(r#"[{{"group":[{{"id":"{id}","version":"1"}}]}}]"#)).unwrap()
    }

    #[test]
    fn composite_buildpacks_are_unfolded_as_far_as_asked() {
        let tree = order_tree(&order("a"), &layers(), Depth::All);
        assert_eq!(tree, ["Group 1", "  a@1", "    Group 1", "      b@1 (optional)"]);
        assert_eq!(order_tree(&order("a"), &layers(), Depth::Levels(1)).len(), 2);
    }

    #[test]
    fn a_buildpack_that_contains_itself_ends() {
        assert_eq!(order_tree(&order("loop"), &layers(), Depth::All).len(), 4);
    }
}
