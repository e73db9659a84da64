//! Azure Blob Storage: `azblob://CONTAINER?account=…`.

use std::sync::Arc;

use pilotman_azure::{AzureBackend, AzureBlob};
use pilotman_core::backend::Backend;
use pilotman_core::{Error, Result};

use crate::address::Address;
use crate::query::Query;
use crate::secret::{self, Names};

const CONNECTION_STRING: Names =
    Names { plain: "connection-string", env: "connection-string-env", file: "connection-string-file" };
const KEY: Names = Names { plain: "account-key", env: "account-key-env", file: "account-key-file" };
const SAS: Names = Names { plain: "sas", env: "sas-env", file: "sas-file" };

pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let azure = read(address).map_err(|error| error.with_backend("azure"))?;
    Ok(Arc::new(AzureBackend::new(azure)?))
}

fn read(address: &mut Address) -> Result<AzureBlob> {
    if !address.segments()?.is_empty() {
        return Err(Error::misconfigured("this azblob:// URL has a path")
            .with_advice("it has the name of a container only; a folder is a prefix: azblob://locks?prefix=app/"));
    }
    if address.url.port().is_some() || address.username()?.is_some() || address.password()?.is_some() {
        return Err(Error::misconfigured(
            "this azblob:// URL has more than the name of a container before its options",
        )
        .with_advice("write it as in azblob://locks?account=contoso; where it is reached is said by endpoint=…"));
    }
    let container = address.hosts()?.pop().unwrap_or_default();
    if container.is_empty() {
        return Err(Error::misconfigured("this azblob:// URL names no container")
            .with_advice("write it as in azblob://locks?account=contoso"));
    }
    let query = &mut address.query;
    let mut azure = access(place(&container, query)?, query)?;
    if let Some(rule) = query.take_names("names")? {
        azure = azure.names(rule);
    }
    if let Some(prefix) = query.take("prefix") {
        azure = azure.prefix(prefix)?;
    }
    if query.take_bool("infinite-lease")?.unwrap_or(false) {
        azure = azure.infinite_lease();
    }
    if let Some(create) = query.take_bool("create-container")? {
        azure = azure.create_container(create);
    }
    if let Some(keep) = query.take_bool("keep-blobs")? {
        azure = azure.keep_blobs(keep);
    }
    if let Some(limit) = query.take_duration("connect-timeout")? {
        azure = azure.connect_timeout(limit);
    }
    if let Some(ca) = secret::take_pem(query, "ca-file")? {
        azure = azure.ca(ca);
    }
    Ok(azure)
}

/// Where the container is.
fn place(container: &str, query: &mut Query) -> Result<AzureBlob> {
    let (account, endpoint) = (query.take("account"), query.take("endpoint"));
    let connection_string = secret::take(query, &CONNECTION_STRING, None)?;
    let emulator = query.take_bool("emulator")?.unwrap_or(false);
    match (connection_string, endpoint, account, emulator) {
        (Some(text), None, None, false) => AzureBlob::connection_string(&text, container),
        (None, Some(endpoint), account, false) => {
            let azure = AzureBlob::endpoint(&endpoint, container)?;
            Ok(match account {
                Some(account) => azure.account_name(&account),
                None => azure,
            })
        }
        (None, None, Some(account), false) => AzureBlob::account(&account, container),
        (None, None, None, true) => AzureBlob::emulator(container),
        (None, None, None, false) => AzureBlob::from_env(container),
        _ => Err(Error::misconfigured("where the container is, is said more than once").with_advice(
            "give one of account, endpoint, connection-string and emulator (account and endpoint go together)",
        )),
    }
}

/// By which right it is used.
fn access(azure: AzureBlob, query: &mut Query) -> Result<AzureBlob> {
    let (key, sas, auth) = (secret::take(query, &KEY, None)?, secret::take(query, &SAS, None)?, query.take("auth"));
    match (key, sas, auth.as_deref()) {
        (Some(key), None, None) => azure.account_key(key),
        (None, Some(sas), None) => azure.sas(sas),
        (None, None, Some("entra")) => azure.entra(),
        (None, None, None) => Ok(azure),
        (None, None, Some(_)) => Err(Error::misconfigured("the option 'auth' must be entra")),
        _ => Err(Error::misconfigured("by which right the account is used is said more than once")
            .with_advice("give one of account-key, sas and auth=entra")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "aHVudGVyMg==";

    fn shown(text: &str) -> Result<String> {
        let mut address = Address::parse(text)?;
        let azure = read(&mut address)?;
        address.query.finish()?;
        Ok(format!("{azure:?}"))
    }

    #[track_caller]
    fn same(text: &str, azure: Result<AzureBlob>) {
        assert_eq!(shown(text).unwrap(), format!("{:?}", azure.unwrap()), "{text}");
    }

    #[test]
    fn containers() {
        let account = || AzureBlob::account("contoso", "locks").unwrap();
        same("azblob://locks?account=contoso", Ok(account()));
        same(&format!("azblob://locks?account=contoso&account-key={KEY}"), account().account_key(KEY));
        same("azblob://locks?account=contoso&sas=sv%3D1%26sp%3Drwd%26sig%3Dx", account().sas("sv=1&sp=rwd&sig=x"));
        same("azblob://locks?emulator=true", AzureBlob::emulator("locks"));
        let endpoint = AzureBlob::endpoint("http://127.0.0.1:1/acc", "locks");
        same("azblob://locks?endpoint=http://127.0.0.1:1/acc", endpoint.clone());
        same("azblob://locks?endpoint=http://127.0.0.1:1/acc&account=x", endpoint.map(|azure| azure.account_name("x")));
        let text = format!("AccountName%3Dcontoso%3BAccountKey%3D{}", KEY.replace('=', "%3D"));
        same(&format!("azblob://locks?connection-string={text}"), account().account_key(KEY));
        same(
            "azblob://locks?account=contoso&prefix=a/&names=strict&keep-blobs=true&create-container=true&infinite-lease=true",
            account().prefix("a/").map(|azure| {
                azure.names(pilotman_core::NameRule::Strict).keep_blobs(true).create_container(true).infinite_lease()
            }),
        );
    }

    #[test]
    fn bad_addresses_say_what_to_write_and_no_secret() {
        for (text, says) in [
            ("azblob://?account=contoso", "names no container"),
            ("azblob://locks/folder?account=contoso", "prefix"),
            ("azblob://Locks?account=contoso", "container"),
            ("azblob://contoso:hunter2@locks", "endpoint="),
            ("azblob://locks:10000?account=contoso", "endpoint="),
            ("azblob://locks?account=con-toso", "account"),
            ("azblob://locks?account=contoso&endpoint=hunter2", "no URL"),
            ("azblob://locks?account=contoso&emulator=true", "more than once"),
            ("azblob://locks?account=contoso&account-key=hunter2!", "base 64"),
            ("azblob://locks?account=contoso&account-key=aHVudGVyMg==&sas=sv%3D1%26sig%3Dhunter2", "more than once"),
            ("azblob://locks?account=contoso&sas=hunter2", "shared access signature"),
            ("azblob://locks?account=contoso&auth=hunter2", "entra"),
            ("azblob://locks?account=contoso&acount-key=hunter2", "account-key"),
            ("azblob://locks?account=contoso&prefix=/hunter2", "prefix"),
            ("azblob://locks?account=contoso&account-key-file=/nowhere/x", "account-key-file"),
            ("azblob://locks?connection-string=AccountName%3Dcontoso%3BAccountKey%3Dhunter2!", "base 64"),
        ] {
            let error = shown(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("hunter2") && !error.contains("aHVudGVyMg"), "{error}");
        }
    }
}
