//! Signs requests with a key of the account, which the SDK has no means for.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::Secret;
use azure_core::hmac::hmac_sha256;
use azure_core::http::headers::{AUTHORIZATION, Headers, MS_DATE};
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Method, Request, Url};
use azure_core::time::{OffsetDateTime, to_rfc7231};

/// See the [module](self). It signs each try anew: a signature has a time.
pub(crate) struct SharedKey {
    account: String,
    key: Secret,
}

impl SharedKey {
    pub(crate) fn new(account: String, key: Secret) -> Self {
        Self { account, key }
    }
}

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedKey").field("account", &self.account).finish_non_exhaustive()
    }
}

// As the trait has it.
#[allow(elided_lifetimes_in_paths)]
#[async_trait]
impl Policy for SharedKey {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        request.insert_header(MS_DATE, to_rfc7231(&OffsetDateTime::now_utc()));
        let length = request.body().len().unwrap_or(0);
        let text = string_to_sign(&self.account, request.method(), request.url(), request.headers(), length);
        let signature = hmac_sha256(&text, &self.key)?;
        request.insert_header(AUTHORIZATION, format!("SharedKey {}:{signature}", self.account));
        next[0].send(ctx, request, &next[1..]).await
    }
}

/// Headers that stand in the text without their names, in its order. An empty one stands for the length, and one for the date.
const PLAIN: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// What is signed of a request.
fn string_to_sign(account: &str, method: Method, url: &Url, headers: &Headers, length: u64) -> String {
    let mut given: Vec<(String, &str)> =
        headers.iter().map(|(name, value)| (name.as_str().to_ascii_lowercase(), value.as_str())).collect();
    given.sort();
    let mut text = method.as_ref().to_owned();
    for name in PLAIN {
        text.push('\n');
        match name {
            "content-length" if length == 0 => {}
            "content-length" => text += &length.to_string(),
            // The header x-ms-date stands for it.
            "date" => {}
            name => text += given.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value),
        }
    }
    text.push('\n');
    for (name, value) in given.iter().filter(|(name, _)| name.starts_with("x-ms-")) {
        text += &format!("{name}:{}\n", value.trim());
    }
    text += &format!("/{account}{}", url.path());
    let mut pairs: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned())).collect();
    pairs.sort();
    let mut last = None;
    for (name, value) in &pairs {
        match last == Some(name) {
            true => text += &format!(",{value}"),
            false => text += &format!("\n{name}:{value}"),
        }
        last = Some(name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_the_specification() {
        let url = Url::parse(
            "https://myaccount.blob.core.windows.net/mycontainer?restype=container&comp=metadata&timeout=20",
        )
        .unwrap();
        let mut headers = Headers::new();
        headers.insert("x-ms-version", "2015-02-21");
        headers.insert("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT");
        headers.insert("if-match", "\"0x8\"");
        assert_eq!(
            string_to_sign("myaccount", Method::Get, &url, &headers, 0),
            "GET\n\n\n\n\n\n\n\n\"0x8\"\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n\
             /myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
        );
        let url = Url::parse("http://127.0.0.1:10000/dev/locks/a%2Fb%20c?x=2&X=1").unwrap();
        let text = string_to_sign("dev", Method::Put, &url, &Headers::new(), 12);
        assert_eq!(text, "PUT\n\n\n12\n\n\n\n\n\n\n\n\n/dev/dev/locks/a%2Fb%20c\nx:1,2");
    }

    #[test]
    fn the_key_is_not_shown() {
        let policy = SharedKey::new("a".into(), Secret::new("aHVudGVyMg=="));
        assert!(!format!("{policy:?}").contains("aHVudGVyMg"));
    }
}
