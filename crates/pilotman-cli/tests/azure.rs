//! The command on Azurite: where the account's secret may stand.

#![cfg(all(target_os = "linux", feature = "azure"))]

mod common;

use common::*;
use pilotman_testkit::servers::azurite::{ACCOUNT, KEY, endpoint_of};
use pilotman_testkit::servers::shared_or_skip;

#[test]
fn the_account_is_in_the_environment() {
    let server = shared_or_skip("azurite");
    let endpoint = endpoint_of(server.url()).unwrap();
    let container = format!("cli-{}", std::process::id());
    let run = |url: &str, arguments: &[&str]| {
        let mut command = bare(arguments);
        let secret = format!("AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint}");
        command.env("PILOTMAN_BACKEND", url).env("AZURE_STORAGE_CONNECTION_STRING", secret);
        command.output().unwrap()
    };
    let output = run(&format!("azblob://{container}"), &["doctor"]);
    assert!(!output.status.success() && err(&output).contains("create-container=true"), "{output:?}");

    let url = format!("azblob://{container}?create-container=true&lease=15s");
    let output =
        run(&url, &["run", "--token", "nightly", "--", "sh", "-c", "echo $PILOTMAN_TOKEN $PILOTMAN_BACKEND_KIND"]);
    assert_eq!(out(&output).trim(), "1 azure", "{output:?}");
    assert!(err(&output).is_empty(), "a secret in the environment is not warned about: {output:?}");
    assert_eq!(out(&run(&url, &["name", "a."])).trim().len(), 92, "a mapped name");
    let output = run(&url, &["list"]);
    assert!(out(&output).contains("nightly"), "{output:?}");
    let output = run(&url, &["doctor"]);
    assert!(out(&output).contains("soft delete") && !out(&output).contains(KEY), "{output:?}");
}

#[test]
fn a_key_in_an_argument_is_warned_about_and_not_shown() {
    let key = "aHVudGVyMg==";
    let url = format!("azblob://locks?endpoint=http://127.0.0.1:1/acc&account-key={key}");
    let output = bare(&["--backend", &url, "run", "-n", "x", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(!err(&output).contains(key), "{output:?}");
    assert!(err(&output).contains("secret") || err(&output).contains("password"), "{output:?}");
}
