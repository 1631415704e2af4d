//! What a registry asks for in `WWW-Authenticate` (RFC 9110, section 11; distribution "Token Authentication").

use reqwest::header::HeaderMap;

/// How a registry wants to be shown who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user and a password with every request.
    Basic,
    /// An access token from a token endpoint.
    Bearer(BearerChallenge),
}

/// The parameters of a `Bearer` challenge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct BearerChallenge {
    /// The URL of the token endpoint, unchecked.
    pub(super) realm: String,
    /// The name of the registry at the token endpoint.
    pub(super) service: Option<String>,
    /// The scopes that the request needs, as the registry sees it.
    pub(super) scopes: Vec<String>,
}

impl Challenge {
    /// The challenge that is answered: `Bearer` before `Basic`; others are not known to registries.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(reqwest::header::WWW_AUTHENTICATE).iter();
        let mut challenges: Vec<Self> =
            values.filter_map(|value| value.to_str().ok()).flat_map(parse).collect();
        challenges.sort_by_key(|challenge| matches!(challenge, Self::Basic));
        challenges.into_iter().next()
    }

    /// The challenge without what only one request needs: other requests name their own repositories.
    pub(super) fn for_all_repositories(&self) -> Self {
        let mut general = self.clone();
        if let Self::Bearer(challenge) = &mut general {
            challenge.scopes.retain(|scope| !scope.starts_with("repository:"));
        }
        general
    }
}

/// All known challenges of one header value.
fn parse(value: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = value.trim_start();
    while !rest.is_empty() {
        let word_end = rest.find(|c: char| c == '=' || c == ',' || c.is_whitespace()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_end);
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let (value, after) = parameter_value(value.trim_start());
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word.to_ascii_lowercase(), value));
            }
            rest = after;
        } else {
            if !word.is_empty() {
                found.push((word.to_ascii_lowercase(), Vec::new()));
            }
            rest = after;
        }
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    }
    found.into_iter().filter_map(|(scheme, parameters)| known(&scheme, parameters)).collect()
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

fn known(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let mut challenge = BearerChallenge::default();
            for (name, value) in parameters {
                match name.as_str() {
                    "realm" => challenge.realm = value,
                    "service" => challenge.service = Some(value),
                    "scope" => challenge.scopes = value.split_whitespace().map(str::to_owned).collect(),
                    _ => {}
                }
            }
            (!challenge.realm.is_empty()).then_some(Challenge::Bearer(challenge))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scopes: &[&str]) -> Challenge {
        Challenge::Bearer(BearerChallenge {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        })
    }

    #[test]
    fn challenges_of_known_registries() {
        let table = [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    &["repository:a/b:pull,push"],
                )],
            ),
            (
                r#"bearer REALM = "https://a/t?x=1,2" , scope="repository:a:pull repository:b:pull""#,
                vec![bearer("https://a/t?x=1,2", None, &["repository:a:pull", "repository:b:pull"])],
            ),
            (r#"Bearer realm=https://a/t,service=s"#, vec![bearer("https://a/t", Some("s"), &[])]),
            (r#"Basic realm="a \"quoted\", realm""#, vec![Challenge::Basic]),
            (
                r#"Negotiate, Basic realm="x", Bearer realm="https://a""#,
                vec![Challenge::Basic, bearer("https://a", None, &[])],
            ),
            (r#"Bearer service="no realm""#, vec![]),
            (r#"Bearer realm="unfinished"#, vec![bearer("unfinished", None, &[])]),
            ("", vec![]),
            (",,=,", vec![]),
        ];
        for (header, expected) in table {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    #[test]
    fn tokens_are_preferred() {
        let mut headers = HeaderMap::new();
        for value in ["Basic realm=\"x\"", "Bearer realm=\"https://a\""] {
            headers.append(reqwest::header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        assert_eq!(Challenge::from_headers(&headers), Some(bearer("https://a", None, &[])));
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_read(header in ".*") {
            parse(&header);
        }
    }
}
