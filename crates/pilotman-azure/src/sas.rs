//! Shared access signatures, as far as they say what they allow.

use azure_core::http::Url;
use azure_core::time::{OffsetDateTime, parse_rfc3339};
use pilotman_core::{Error, Result};

/// A shared access signature. It is a secret.
#[derive(Clone)]
pub(crate) struct Sas {
    query: String,
}

impl Sas {
    /// Reads one, with or without its question mark.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let query = text.trim().trim_start_matches('?').to_owned();
        let read = Self { query };
        match read.value("sig").is_some_and(|signature| !signature.is_empty()) && read.value("sv").is_some() {
            true => Ok(read),
            false => Err(Error::misconfigured("this is no shared access signature").with_advice(
                "it looks like sv=…&sp=rwdl&se=…&sr=c&sig=…; a stored access policy may stand for some of that",
            )),
        }
    }

    /// The URL with the signature behind it.
    pub(crate) fn sign(&self, url: &mut Url) {
        url.set_query(Some(&self.query));
    }

    fn value(&self, name: &str) -> Option<String> {
        let mut url = Url::parse("https://sas.invalid/").ok()?;
        // It is percent-encoded as in a URL; a plus is a plus in some that tools made.
        url.set_query(Some(&self.query.replace('+', "%2B")));
        url.query_pairs().find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
    }

    /// When it ends; `None` if it leaves that to a policy.
    pub(crate) fn expires(&self) -> Option<OffsetDateTime> {
        time(&self.value("se")?)
    }

    /// When it begins.
    pub(crate) fn starts(&self) -> Option<OffsetDateTime> {
        time(&self.value("st")?)
    }

    /// Which of the rights that locks need it lacks; `None` if it leaves that to a policy.
    pub(crate) fn lacks(&self, needed: &str) -> Option<String> {
        let rights = self.value("sp")?;
        Some(needed.chars().filter(|right| !rights.contains(*right)).collect())
    }

    /// Whether it is for one blob, rather than for a container or an account.
    pub(crate) fn is_for_one_blob(&self) -> bool {
        self.value("sr").is_some_and(|resource| resource.starts_with('b'))
    }
}

/// A time as it stands in a signature: a day, or with hours, minutes and seconds.
fn time(text: &str) -> Option<OffsetDateTime> {
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        17 if text.ends_with('Z') => format!("{}:00Z", text.trim_end_matches('Z')),
        _ => text.to_owned(),
    };
    parse_rfc3339(&full).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_signature_tells_what_it_allows() {
        let sas =
            Sas::parse("?sv=2021-08-06&st=2026-01-01&se=2030-01-02T03%3A04%3A05Z&sr=c&sp=rwl&sig=a%2Bb%3D").unwrap();
        assert_eq!(sas.lacks("rwdl").as_deref(), Some("d"));
        assert_eq!(sas.expires().unwrap().unix_timestamp(), 1_893_553_445);
        assert_eq!(sas.starts().unwrap().unix_timestamp(), 1_767_225_600);
        assert!(!sas.is_for_one_blob());
        let sas = Sas::parse("sv=1&si=policy&sr=b&sig=x").unwrap();
        assert_eq!((sas.lacks("rw"), sas.expires()), (None, None));
        assert!(sas.is_for_one_blob());
        assert!(time("2030-01-02T03:04Z").is_some());
    }

    #[test]
    fn it_stands_behind_a_url_as_it_was_given() {
        let mut url = Url::parse("https://h/locks").unwrap();
        Sas::parse("sv=1&sp=r&sig=a%2Bb%3D").unwrap().sign(&mut url);
        assert_eq!(url.as_str(), "https://h/locks?sv=1&sp=r&sig=a%2Bb%3D");
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in "\\PC{0,60}") {
            if let Ok(sas) = Sas::parse(&format!("sv=1&sig=x&{text}")) {
                let _ = (sas.expires(), sas.starts(), sas.lacks("rwdl"), sas.is_for_one_blob());
                sas.sign(&mut Url::parse("https://h/").unwrap());
            }
            prop_assert!(Sas::parse(&text.replace("sig=", "")).is_err());
        }
    }
}
