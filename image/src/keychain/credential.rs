//! Credentials, which never show themselves.

use std::fmt;

/// A password or token: it cannot be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password or token.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the header or form it is made for.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// What a registry is shown to prove who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    Anonymous,
    /// A user's name and password, or an access token in its place.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, exchanged for access tokens at the token endpoint.
    IdentityToken(Secret),
    /// An access token, sent to the registry as it is.
    BearerToken(Secret),
}

impl Credential {
    /// A name and a password as files and helpers store them: the user `<token>` marks an identity token.
    #[must_use]
    pub fn password(username: &str, password: &str) -> Self {
        if username == "<token>" {
            return Self::IdentityToken(Secret::new(password));
        }
        Self::Password { username: username.to_owned(), password: Secret::new(password) }
    }

    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        *self == Self::Anonymous
    }
}
