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

#[cfg(all(feature = "os", target_os = "linux"))]
#[tokio::test]
async fn locks_of_the_operating_system_are_a_url_away() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("os://?directory={}&names=strict", directory.path().display());
    let (one, other) = (Locks::connect(&url).await.unwrap(), Locks::connect(&url).await.unwrap());
    assert_eq!(one.backend_kind(), "os");
    let guard = one.mutex("invoice:42").acquire().await.unwrap();
    assert!(other.mutex("invoice:42").try_acquire().await.unwrap().is_none());
    guard.release().await.unwrap();
    let built = Locks::builder().use_os(pilotman::os::OsOptions::new().directory(directory.path())).build().unwrap();
    assert!(built.mutex("invoice:42").try_acquire().await.unwrap().is_some());
}

#[test]
fn bad_addresses_are_clear_errors_without_secrets() {
    let bad = [
        ("s3cret", "not a URL"),
        ("gopher://:s3cret@host", "no backend knows the scheme gopher://"),
        ("nonsense:s3cret@host", "not a URL"),
        ("s3cret,other", "not a URL"),
        ("s3cret@host:1", "not a URL"),
        ("memory://x#s3cret", "has a #"),
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
        #[cfg(feature = "os")]
        ("os://:s3cret@host", "has neither host nor path"),
        #[cfg(feature = "os")]
        ("os:///s3cret", "has neither host nor path"),
        #[cfg(feature = "os")]
        ("os://?scope=s3cret", "must be machine or session"),
        #[cfg(all(feature = "os", target_os = "linux"))]
        ("os://?security=s3cret", "is for Windows"),
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

#[cfg(feature = "redis")]
#[test]
fn bad_addresses_of_redis_are_clear_errors_without_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (empty, binary) = (file("empty", b"\n"), file("binary", b"s3cret\xFF"));
    let long = file("long", &[b'x'; 100_000]);
    let (absent, there) = (directory.path().join("s3cret").display().to_string(), file("there", b"s3cret\r\n"));
    let in_file = |name: &str, path: &str| format!("rediss://h?{name}={path}");
    let bad = [
        ("redis://".to_owned(), "names no host"),
        ("redis://:0".into(), "can't be read"),
        ("redis://h:0".into(), "no number from 1"),
        ("redis://h:s3cret".into(), "can't be read"),
        ("redis://u:s3/cret@h".into(), "write them as %2F"),
        ("redis://u:s3cret@[h".into(), "can't be read"),
        ("redis://a,,b".into(), "has no host"),
        ("redis://,a".into(), "has no host"),
        ("redis://a,b:s3cret".into(), "has a port that is no number"),
        ("redis://a,a:6379".into(), "given twice"),
        ("redis://u:s3cret@a,u:s3cret@b".into(), "more than one @"),
        ("redis://u:s3cret@a/0#s3cret".into(), "has a #"),
        ("redis://s3cret@h".into(), "a user name but no password"),
        ("redis://u:s3cret@h?username=v".into(), "the user name is given twice"),
        ("redis://:s3cret@h?password=s3cret".into(), "the password is given 2 times"),
        (
            "redis://h?password-env=S3CRET_OF_NOBODY".into(),
            "'password-env' names an environment variable that is not set",
        ),
        ("redis://h?password-env=s3cret%3Dx%00".into(), "'password-env' names"),
        (in_file("password-file", &absent), "'password-file' names a file that can't be read"),
        (in_file("password-file", &directory.path().display().to_string()), "can't be read"),
        (in_file("password-file", &empty), "'password-file' names a file that is empty"),
        (in_file("password-file", &binary), "is no UTF-8"),
        (in_file("password-file", &long), "is too long"),
        (in_file("password=s3cret&password-file", &there), "the password is given 2 times"),
        (in_file("ca-file", &absent), "'ca-file' names a file that can't be read"),
        (in_file("cert-file", &there), "belong together"),
        (in_file("key-file", &there), "belong together"),
        ("redis://h?server-name=s3cret".into(), "turn it on with rediss://"),
        ("redis://h/s3cret".into(), "the database is not a number"),
        ("redis://h/1/s3cret".into(), "too long a path"),
        ("redis://h/1?db=2".into(), "given twice"),
        ("redis://h?db=-1".into(), "the database is not a number"),
        ("redis://h?lease=1ms".into(), "is outside"),
        ("redis://h?connect-timeout=0".into(), "would never connect"),
        ("redis://h?connect-timeout=s3cret".into(), "'connect-timeout' must be a duration"),
        ("redis://h?wait-replicas=s3cret".into(), "'wait-replicas' must be a number"),
        ("redis://h?wait-timeout=1s".into(), "wait-replicas=N"),
        ("redis://h?client-name=s3cret%20x".into(), "no spaces"),
        ("redis://h?names=s3cret".into(), "must be dotnet, strict or exact"),
        ("redis://h?key-format=x".into(), "no placeholder"),
        ("redis://h?key-format={}&prefix=x".into(), "are both given"),
        ("redis://h?prefix={}".into(), "more than one placeholder"),
        ("redis://h?pasword=s3cret".into(), "the option 'pasword' is not known here"),
        ("redis://h?sentinel-password=s3cret".into(), "the option 'sentinel-password' is not known here"),
        ("redis-sentinel://h".into(), "the name of the Sentinel service is empty"),
        ("redis-sentinel://h/m?sentinel-username=s3cret".into(), "no sentinel-password"),
        ("redis-cluster://h/1".into(), "database 0 only"),
        ("rediss-cluster://h?server-name=x".into(), "can't stand for all nodes"),
        ("h:1,password=s3cret,colour=blue".into(), "the options are abortConnect"),
        ("h:1,password=a,s3cret".into(), "a password with a comma"),
        ("h:1,password=a,s3cret=x".into(), "is not known here"),
        ("h:1,password=a://s3cret,ssl=s3cret".into(), "'ssl' must be True or False"),
        ("h:1,password=s3cret,Password=s3cret".into(), "given twice"),
        ("h:1,sslHost=s3cret".into(), "needs ssl=True"),
        ("h:1,connectTimeout=s3cret".into(), "a number of milliseconds"),
        ("h:1,defaultDatabase=s3cret".into(), "the database is not a number"),
        ("h:1,user=s3cret".into(), "a user name but no password"),
        ("h:0".into(), "not a URL"),
        ("h:65536".into(), "not a URL"),
        ("[::g]:1".into(), "not a URL"),
    ];
    for (address, part) in bad {
        let error = Locks::open(&address).map(|_| address.clone()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Misconfigured | ErrorKind::Unsupported), "{address}: {error}");
        assert!(error.has_no_effect() && !error.is_retryable(), "{address}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(part), "{address}: {text}");
        assert!(!text.to_lowercase().contains("s3cret"), "{address}: {text}");
    }
}

#[cfg(feature = "redis")]
#[test]
fn bad_addresses_of_quorums_are_clear_errors_without_secrets() {
    let bad = [
        ("redlock://", "names no host and no node"),
        ("redlock://?lease=1s", "names no host and no node"),
        ("redlock://a,,b", "has no host"),
        ("redlock://a,b:s3cret", "has a port that is no number"),
        ("redlock://a,b,a:6379", "the nodes a:6379 and a:6379 are the same"),
        ("redlock://u:s3cret@a,u:s3cret@b", "more than one @"),
        ("redlock://s3cret@a,b,c", "a user name but no password"),
        ("redlock://a,b,c/s3cret", "the database is not a number"),
        ("redlock://a,b,c/1/s3cret", "as in redlock://host/3"),
        ("redlock://a,b,c?server-name=s3cret", "TLS, which is off here"),
        ("redlock://a,b,c?pasword=s3cret", "the option 'pasword' is not known here; the options are"),
        ("redlock://a,b,c?sentinel-password=s3cret", "the option 'sentinel-password' is not known here"),
        ("redlock://a,b,c?quarantine=s3cret", "'quarantine' must be true or false"),
        ("redlock://a,b,c?semaphores=s3cret", "'semaphores' must be true or false"),
        ("redlock://a,b,c?longest-lease=s3cret", "'longest-lease' must be a duration"),
        ("redlock://a,b,c?longest-lease=1ms", "the longest lease, 1ms, is outside"),
        ("redlock://a,b,c?quorum-name=s3cret%20x", "the name of a quorum"),
        ("redlock://a,b,c?lease=2m", "a lease of 120s is outside"),
        ("redlock://a,b,c?connect-timeout=0", "would never connect"),
        ("redlock://a?quarantine=1&quarantine=0", "'quarantine' is given twice"),
        ("redis://a?quarantine=1", "the option 'quarantine' is not known here"),
        ("redis://a?node=b&node=s3cret", "the option 'node' is not known here"),
        ("redlock://a,b?node=redis://:s3cret@c", "hosts beside its nodes"),
        ("redlock:///3?node=redis://:s3cret@c", "a path beside its nodes"),
        ("redlock://:s3cret@?node=redis://c", "can't be read"),
        ("redlocks://?node=rediss://:s3cret@c", "rediss:// for the nodes with TLS"),
        ("redlock://?node=c:1&key-format=s3cret", "the option 'key-format' is none of the quorum's own"),
        ("redlock://?node=c:1&password=s3cret", "the option 'password' is none of the quorum's own"),
        ("redlock://?node=c:1&S3cret=1", "an option of the URL is none of the quorum's own"),
        ("redlock://?node=", "node 1 of the quorum: this backend address is not a URL"),
        ("redlock://?node=c:1&node=s3cret", "node 2 of the quorum: this backend address is not a URL"),
        ("redlock://?node=redlock://:s3cret@c,d", "node 1 of the quorum: its URL is not one of a Redis"),
        ("redlock://?node=redlock%3A%2F%2F%3Fnode%3Ds3cret", "its URL is not one of a Redis"),
        ("redlock://?node=file:///s3cret", "its URL is not one of a Redis"),
        ("redlock://?node=memory://", "the URLs of nodes begin with redis://"),
        ("redlock://?node=gopher://s3cret", "its URL is not one of a Redis"),
        ("redlock://?node=c:1&node=redis://u:s3/cret@h", "node 2 of the quorum: this redis:// URL can't be read"),
        ("redlock://?node=c:1&node=redis://h/s3cret", "node 2 of the quorum: the database is not a number"),
        ("redlock://?node=redis://h?lease%3D1s", "write them beside node="),
        ("redlock://?node=redis://h?quarantine%3D1", "node 1 of the quorum: the option 'quarantine' is not known"),
        ("redlock://?node=redis://h?node%3Ds3cret", "node 1 of the quorum: the option 'node' is not known"),
        ("redlock://?node=h:1,password=s3cret,colour=blue", "node 1 of the quorum: an option of this connection"),
        ("redlock://?node=c:1&node=redis://c:1/2", "the nodes c:1 and c:1 are the same"),
        ("redlock://?node=c:1&node=redis-cluster://d/1", "database 0 only"),
    ];
    for (address, part) in bad {
        let error = Locks::open(address).map(|_| address).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Misconfigured | ErrorKind::Unsupported), "{address}: {error}");
        assert!(error.has_no_effect() && !error.is_retryable(), "{address}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(part), "{address}: {text}");
        assert!(!text.to_lowercase().contains("s3cret"), "{address}: {text}");
    }
}

#[cfg(not(feature = "redis"))]
#[test]
fn a_backend_that_is_not_built_names_its_feature() {
    for address in ["redis://:s3cret@h", "redlock://:s3cret@h,i,j", "127.0.0.1:6379", "h,password=s3cret"] {
        let error = Locks::open(address).unwrap_err().to_string();
        assert!(error.contains("enable the feature 'redis'") && !error.contains("s3cret"), "{error}");
    }
}

#[cfg(feature = "redis")]
#[test]
fn redis_is_set_up_with_types_too() {
    let node = || pilotman::redis::RedisNode::endpoint("127.0.0.1:6379").unwrap();
    let locks = Locks::builder().use_redis(node()).lease(Duration::from_secs(5)).build().unwrap();
    assert_eq!((locks.backend_kind(), locks.default_options().lease), ("redis", Some(Duration::from_secs(5))));
    assert!(Locks::builder().use_redis(node()).use_redis(node()).build().is_err());
    assert!(Locks::builder().use_redis(node().connect_timeout(Duration::ZERO)).build().is_err());
}

#[cfg(feature = "redis")]
#[test]
fn a_quorum_is_set_up_with_types_too() {
    use pilotman::redis::{RedisNode, Redlock};

    let nodes = || ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|host| RedisNode::endpoint(host).unwrap());
    let quorum = || Redlock::new(nodes());
    let locks = Locks::builder().use_redlock(quorum().semaphores(true)).build().unwrap();
    assert_eq!(locks.backend_kind(), "redlock");
    assert!(locks.capabilities().semaphore);
    assert!(!Locks::open("redlock://10.0.0.1,10.0.0.2,10.0.0.3").unwrap().capabilities().semaphore);
    let long = quorum().longest_lease(Duration::from_secs(120));
    assert!(Locks::builder().use_redlock(long).lease(Duration::from_secs(90)).build().is_ok());
    assert!(Locks::builder().use_redlock(quorum()).lease(Duration::from_secs(90)).build().is_err());
    assert!(Locks::builder().use_redlock(Redlock::new([])).build().is_err());
    assert!(Locks::builder().use_redlock(quorum()).use_redis(nodes()[0].clone()).build().is_err());
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
    let config: pilotman::Config = serde_json::from_str(r#"{"url": "h:1,password=pw://pw"}"#).unwrap();
    assert!(!format!("{config:?}").contains("pw"), "{config:?}");
    let config: pilotman::Config = serde_json::from_str(r#"{"url": "memory://u:pw@x", "lease": "2s"}"#).unwrap();
    assert_eq!(config.build().unwrap_err().kind(), ErrorKind::Misconfigured);
    assert!(serde_json::from_str::<pilotman::Config>(r#"{"leese": "2s"}"#).is_err());
    assert!(serde_json::from_str::<pilotman::Config>(r#"{"lease": "soon"}"#).is_err());
    let config: pilotman::Config = serde_json::from_str(r#"{"url": "memory://", "lease": "2s"}"#).unwrap();
    assert_eq!(config.build().unwrap().default_options().lease, Some(Duration::from_secs(2)));
}
