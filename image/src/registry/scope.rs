//! What a token allows (distribution "Token Scope Documentation").

use std::collections::BTreeSet;

/// What is done with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
    /// Deleting.
    Delete,
    /// Listing the repositories of the registry, which is about none of them.
    Catalog,
}

impl Access {
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "delete",
            Self::Catalog => "*",
        }
    }

    /// The word for messages.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Pull => "read",
            Self::Push => "write",
            Self::Delete => "delete",
            Self::Catalog => "list",
        }
    }
}

/// What one request needs: one repository, and perhaps a second one to mount a blob from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) repository: String,
    pub(super) access: Access,
    pub(super) mount_from: Option<String>,
}

impl Scope {
    pub(super) fn new(repository: &str, access: Access) -> Self {
        Self { repository: repository.to_owned(), access, mount_from: None }
    }

    pub(super) fn catalog() -> Self {
        Self::new("the catalog", Access::Catalog)
    }

    pub(super) fn mounting_from(repository: &str, from: &str) -> Self {
        Self { mount_from: Some(from.to_owned()), ..Self::new(repository, Access::Push) }
    }

    /// The `scope` parameters of a token request: ours, and those that the challenge adds.
    pub(super) fn parameters(&self, challenged: &[String]) -> BTreeSet<String> {
        let own = match self.access {
            Access::Catalog => "registry:catalog:*".to_owned(),
            access => format!("repository:{}:{}", self.repository, access.actions()),
        };
        let mut parameters = BTreeSet::from([own]);
        parameters.extend(self.mount_from.iter().map(|from| format!("repository:{from}:pull")));
        let is_ours = |scope: &&String| {
            scope
                .strip_prefix("repository:")
                .and_then(|rest| rest.rsplit_once(':'))
                .is_some_and(|(name, actions)| name == self.repository && self.includes(actions))
        };
        parameters.extend(challenged.iter().filter(|scope| !is_ours(scope)).cloned());
        parameters
    }

    fn includes(&self, actions: &str) -> bool {
        let own: Vec<&str> = self.access.actions().split(',').collect();
        actions.split(',').all(|action| own.contains(&action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_requests() {
        let cases: [(Scope, &[&str], &[&str]); 6] = [
            (Scope::catalog(), &["registry:catalog:*"], &["registry:catalog:*"]),
            (Scope::new("a/b", Access::Pull), &[], &["repository:a/b:pull"]),
            (Scope::new("a/b", Access::Push), &["repository:a/b:pull"], &["repository:a/b:pull,push"]),
            (
                Scope::new("a", Access::Pull),
                &["repository:a:pull,push"],
                &["repository:a:pull", "repository:a:pull,push"],
            ),
            (
                Scope::mounting_from("a", "base"),
                &["repository:a:push,pull"],
                &["repository:a:pull,push", "repository:base:pull"],
            ),
            (Scope::new("a", Access::Delete), &["aws"], &["aws", "repository:a:delete"]),
        ];
        for (scope, challenged, expected) in cases {
            let challenged: Vec<String> = challenged.iter().map(|scope| (*scope).to_owned()).collect();
            let parameters: Vec<String> = scope.parameters(&challenged).into_iter().collect();
            assert_eq!(parameters, expected);
        }
    }
}
