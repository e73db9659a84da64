//! Connection strings of storage accounts.

use pilotman_core::{Error, Result};

/// Where the tools of Azure keep one.
pub(crate) const VARIABLE: &str = "AZURE_STORAGE_CONNECTION_STRING";

/// What a connection string says about blobs.
#[derive(Default)]
pub(crate) struct ConnectionString {
    pub(crate) account: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) sas: Option<String>,
    blob_endpoint: Option<String>,
    protocol: Option<String>,
    suffix: Option<String>,
    /// `UseDevelopmentStorage=true`.
    pub(crate) emulator: bool,
}

impl ConnectionString {
    /// Reads `Name=value;Name=value`. No error has anything of it but the names that are known.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut read = Self::default();
        let mut seen = Vec::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(bad("has a part that is no Name=value"));
            };
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            if seen.contains(&name) {
                return Err(bad("says something twice"));
            }
            let given = || Some(value.to_owned()).filter(|value| !value.is_empty());
            match name.as_str() {
                "accountname" => read.account = given(),
                "accountkey" => read.key = given(),
                "sharedaccesssignature" => read.sas = given(),
                "blobendpoint" => read.blob_endpoint = given(),
                "defaultendpointsprotocol" => read.protocol = given(),
                "endpointsuffix" => read.suffix = given(),
                "usedevelopmentstorage" => read.emulator = value.eq_ignore_ascii_case("true"),
                "developmentstorageproxyuri" if !value.is_empty() => {
                    return Err(bad("names a proxy of the emulator, which is not known here")
                        .with_advice("name where the emulator listens with BlobEndpoint"));
                }
                // Other services of the account, and their second endpoints.
                _ => {}
            }
            seen.push(name);
        }
        let knows_place = read.account.is_some() || read.blob_endpoint.is_some();
        match read.emulator || knows_place {
            true => Ok(read),
            false => Err(bad("names no account")
                .with_advice("it has AccountName and AccountKey, or BlobEndpoint and SharedAccessSignature")),
        }
    }

    /// Where the blobs of the account are.
    pub(crate) fn endpoint(&self) -> Result<String> {
        if let Some(endpoint) = &self.blob_endpoint {
            return Ok(endpoint.clone());
        }
        let protocol = self.protocol.as_deref().unwrap_or("https").to_ascii_lowercase();
        if !matches!(protocol.as_str(), "http" | "https") {
            return Err(bad("has a DefaultEndpointsProtocol that is neither http nor https"));
        }
        let suffix = self.suffix.as_deref().unwrap_or("core.windows.net");
        let account = self.account.as_deref().unwrap_or_default();
        Ok(format!("{protocol}://{account}.blob.{suffix}"))
    }
}

fn bad(what: &str) -> Error {
    Error::misconfigured(format!("the connection string {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::AzureBlob;
    use crate::options::{Access, Place};

    fn at(text: &str) -> (String, String, &'static str) {
        let azure = AzureBlob::connection_string(text, "locks").unwrap();
        let access = match azure.access {
            Access::None => "none",
            Access::Key(_) => "key",
            Access::Sas(_) => "sas",
            Access::Identity(_) => "identity",
        };
        match azure.place {
            Place::Endpoint { endpoint, account, .. } => (endpoint.to_string(), account, access),
            _ => unreachable!("it was made of an endpoint"),
        }
    }

    #[test]
    fn strings_of_the_portal_are_read() {
        let usual =
            "DefaultEndpointsProtocol=https;AccountName=contoso;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net";
        assert_eq!(at(usual), ("https://contoso.blob.core.windows.net/".into(), "contoso".into(), "key"));
        let sas = "BlobEndpoint=https://contoso.blob.core.windows.net/;QueueEndpoint=https://q/;SharedAccessSignature=sv=1&sp=rwd&sig=x";
        assert_eq!(at(sas), ("https://contoso.blob.core.windows.net/".into(), "contoso".into(), "sas"));
        let own = "accountname=contoso;accountkey=c2VjcmV0;blobendpoint=https://blobs.example";
        assert_eq!(at(own), ("https://blobs.example/".into(), "contoso".into(), "key"));
        let emulator = ("http://127.0.0.1:10000/devstoreaccount1".into(), "devstoreaccount1".into(), "key");
        assert_eq!(at("UseDevelopmentStorage=true"), emulator);
        assert_eq!(
            at("AccountName=contoso;EndpointSuffix=core.chinacloudapi.cn;").0,
            "https://contoso.blob.core.chinacloudapi.cn/"
        );
    }

    #[test]
    fn errors_say_what_is_missing_and_no_secret() {
        for (text, part) in [
            ("", "names no account"),
            ("hunter2", "no Name=value"),
            ("AccountKey=aHVudGVyMg==", "names no account"),
            ("AccountName=contoso;AccountName=hunter2", "twice"),
            ("AccountName=contoso;DefaultEndpointsProtocol=hunter2", "neither http nor https"),
            ("AccountName=contoso;AccountKey=hunter2!", "base 64"),
            ("AccountName=contoso;SharedAccessSignature=hunter2", "shared access signature"),
            ("UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://h", "proxy"),
            ("BlobEndpoint=hunter2", "endpoint"),
        ] {
            let error = AzureBlob::connection_string(text, "locks").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("hunter2") && !error.contains("aHVudGVyMg"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in "\\PC{0,60}", key in "(AccountName|AccountKey|BlobEndpoint|SharedAccessSignature)=\\PC{0,30}") {
            let _ = AzureBlob::connection_string(&text, "locks");
            let _ = AzureBlob::connection_string(&format!("{key};{text}"), "locks");
        }
    }
}
