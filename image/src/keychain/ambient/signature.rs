//! Signature Version 4 of Amazon's APIs ("Signing AWS API requests").

use jiff::Timestamp;
use ring::hmac;

use super::aws::Keys;
use crate::Digest;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What is signed.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// Sorted by name, in small letters.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) date: &'a str,
}

/// A time as the header `x-amz-date` has it.
pub(super) fn date(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The header `authorization` of a request for `/`.
pub(super) fn authorization(keys: &Keys, signed: &Signed<'_>) -> String {
    let Signed { method, headers, body, region, service, date } = signed;
    let canonical: String =
        headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let hash = Digest::of(body.as_bytes());
    let request = format!("{method}\n/\n\n{canonical}\n{names}\n{}", hash.hex());
    let day = date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", Digest::of(request.as_bytes()).hex());
    let mut key = format!("AWS4{}", keys.secret.expose()).into_bytes();
    for part in [day, region, service, "aws4_request", &text] {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
    }
    let signature: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.id)
}

#[cfg(test)]
mod tests {
    use super::super::super::Secret;
    use super::*;

    /// The examples `get-vanilla` and `post-vanilla` of Amazon's test suite for the signature.
    #[test]
    fn signatures_are_amazons() {
        let keys = Keys {
            id: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session: None,
        };
        let date = date("2015-08-30T12:36:00Z".parse().unwrap());
        assert_eq!(date, "20150830T123600Z");
        for (method, expected) in [
            ("GET", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ] {
            let header = authorization(
                &keys,
                &Signed {
                    method,
                    headers: &[("host", "example.amazonaws.com"), ("x-amz-date", &date)],
                    body: "",
                    region: "us-east-1",
                    service: "service",
                    date: &date,
                },
            );
            let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                         SignedHeaders=host;x-amz-date, Signature=";
            assert_eq!(header, format!("{start}{expected}"));
        }
    }
}
