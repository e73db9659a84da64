//! Shared access signatures, as the portal makes them.

use std::time::Duration;

use pilotman_azure::azure_core::credentials::Secret;
use pilotman_azure::azure_core::hmac::hmac_sha256;
use pilotman_azure::azure_core::http::Url;
use pilotman_azure::azure_core::time::{OffsetDateTime, to_rfc3339};
use pilotman_testkit::servers::azurite::{ACCOUNT, KEY};

/// One for the account with these rights, for so long.
pub(crate) fn account_sas(rights: &str, life: Duration) -> String {
    let end = OffsetDateTime::now_utc() + life;
    let end = to_rfc3339(&end.replace_nanosecond(0).expect("it is in range"));
    let version = "2019-12-12";
    let text = format!("{ACCOUNT}\n{rights}\nb\nsco\n\n{end}\n\n\n{version}\n");
    let signature = hmac_sha256(&text, &Secret::new(KEY)).expect("the key is one");
    let pairs = [("sv", version), ("ss", "b"), ("srt", "sco"), ("sp", rights), ("se", &end), ("sig", &signature)];
    let url = Url::parse_with_params("http://h/", pairs).expect("it is a URL");
    url.query().unwrap_or_default().to_owned()
}
