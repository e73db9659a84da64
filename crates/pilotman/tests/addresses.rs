//! Backend URLs, good and bad.

use std::time::Duration;

use pilotman::{ErrorKind, LockProvider, Locks};

#[tokio::test]
async fn a_backend_is_chosen_by_its_url() {
    let locks = Locks::connect("memory://").await.unwrap();
    assert_eq!(locks.backend_kind(), "memory");
    let (one, other) = (Locks::open("memory://x").unwrap(), Locks::open("memory://x?hold-at-most=1m").unwrap());
    let guard = one.mutex("a").acquire().await.unwrap();
    assert!(other.mutex("a").try_acquire().await.unwrap().is_none());
    assert!(locks.mutex("a").try_acquire().await.unwrap().is_some());
    drop(guard);
    let short = Locks::open("memory://?lease=1.5s").unwrap();
    let guard = short.mutex("a").acquire().await.unwrap();
    assert!(guard.remaining().unwrap() <= Duration::from_millis(1500));
}

#[cfg(feature = "file")]
#[tokio::test]
async fn files_are_a_url_away() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}/my%20locks?names=strict&record-holder=true", directory.path().display());
    let locks = Locks::connect(&url).await.unwrap();
    let guard = locks.mutex("invoice:42").acquire().await.unwrap();
    assert!(directory.path().join("my locks").is_dir());
    let other = pilotman::blocking::Locks::connect(&url).unwrap();
    let shut_out = tokio::task::spawn_blocking(move || other.mutex("invoice:42").try_acquire().unwrap().is_none());
    assert!(shut_out.await.unwrap());
    guard.release().await.unwrap();
}

#[test]
fn bad_addresses_are_clear_errors_without_secrets() {
    let bad = [
        ("s3cret", "not a URL"),
        ("redis://:s3cret@host", "no backend knows the scheme redis://"),
        ("S3CRET pasted://x", "no backend knows this scheme"),
        ("memory://?lease=s3cret", "the option 'lease' must be a duration"),
        ("memory://?lease=1s&lease=2s", "the option 'lease' is given twice"),
        ("memory://?s3cret=1", "an option of the URL is not known here; the options are hold-at-most, lease, retry"),
        ("memory://?leese=1s", "the option 'leese' is not known here; the options are hold-at-most, lease, retry"),
        ("memory://user:s3cret@x", "a memory:// URL has nothing but a name"),
        ("memory://?lease=1us", "a lease of 1µs is outside"),
        #[cfg(feature = "file")]
        ("file://s3cret/path", "write three slashes"),
        #[cfg(feature = "file")]
        ("file:///tmp/x?names=s3cret", "must be dotnet, strict or exact"),
        #[cfg(feature = "file")]
        ("file:///tmp/x?shared=s3cret", "must be true or false"),
        #[cfg(feature = "file")]
        ("file:///tmp/x?lease=10s", "don't expire"),
        #[cfg(feature = "file")]
        ("file://:s3cret@[::/x", "can't be read"),
    ];
    for (url, part) in bad {
        let error = Locks::open(url).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Misconfigured | ErrorKind::Unsupported), "{url}: {error}");
        assert!(error.has_no_effect() && !error.is_retryable());
        let text = format!("{error} {error:?}");
        assert!(text.contains(part), "{url}: {text}");
        assert!(!text.to_lowercase().contains("s3cret"), "{text}");
    }
}

#[test]
fn exactly_one_backend() {
    assert!(Locks::builder().build().unwrap_err().to_string().contains("no backend was chosen"));
    let two = Locks::builder().use_memory().use_url("memory://").build().unwrap_err();
    assert!(two.to_string().contains("2 backends were chosen"), "{two}");
    assert_eq!(Locks::builder().use_memory().build().unwrap().backend_kind(), "memory");
}

#[test]
fn every_backend_describes_itself() {
    for backend in pilotman::backends() {
        assert_eq!(backend.built, backend.capabilities.is_some(), "{}", backend.kind);
    }
}

#[tokio::test]
async fn locks_are_a_dependency_that_can_be_swapped() {
    let provider: std::sync::Arc<dyn LockProvider> = std::sync::Arc::new(Locks::memory());
    let guard = provider.try_get("a", Duration::ZERO).await.unwrap().unwrap();
    assert!(provider.try_get("a", Duration::from_millis(10)).await.unwrap().is_none());
    drop(guard);
    assert!(provider.rw_lock("a").try_read().await.unwrap().is_some());
}

#[cfg(feature = "serde")]
#[test]
fn configuration_comes_from_any_format() {
    let config: pilotman::Config = serde_json::from_str(r#"{"url": "memory://u:pw@x", "lease": "2s"}"#).unwrap();
    assert_eq!(config.lease, Some(Duration::from_secs(2)));
    assert!(!format!("{config:?}").contains("pw"));
    assert_eq!(config.build().unwrap_err().kind(), ErrorKind::Misconfigured);
    assert!(serde_json::from_str::<pilotman::Config>(r#"{"leese": "2s"}"#).is_err());
    assert!(serde_json::from_str::<pilotman::Config>(r#"{"lease": "soon"}"#).is_err());
    let config: pilotman::Config = serde_json::from_str(r#"{"url": "memory://", "lease": "2s"}"#).unwrap();
    assert_eq!(config.build().unwrap().default_options().lease, Some(Duration::from_secs(2)));
}
