//! Finding secrets in a URL, which may be no valid URL: what fails to parse must not be echoed either.

/// The query parameters that hold secrets, by a part of their names.
const TELLING: [&str; 10] = [
    "password",
    "passwd",
    "pwd",
    "secret",
    "signature",
    "sastoken",
    "accesstoken",
    "accountkey",
    "sharedkey",
    "connectionstring",
];

/// Whether `url` holds a secret.
pub(crate) fn is_in(url: &str) -> bool {
    !secrets(url).is_empty()
}

/// `text` without the secrets of `url`, as they stand there or percent-decoded.
pub(crate) fn scrub(url: &str, text: &str) -> String {
    let secrets = secrets(url).into_iter().flat_map(|secret| [decoded(&secret), secret]);
    let mut hidden: Vec<_> = secrets
        .filter(|secret| !secret.is_empty())
        .flat_map(|secret| text.match_indices(&secret).map(|(at, found)| (at, at + found.len())).collect::<Vec<_>>())
        .collect();
    hidden.sort_unstable();
    // They may overlap: what one of them covers is hidden.
    let (mut shown, mut from) = (String::new(), 0);
    for (start, end) in hidden {
        if start >= from {
            shown.push_str(&text[from..start]);
            shown.push_str("***");
        }
        from = from.max(end);
    }
    shown + &text[from..]
}

fn secrets(url: &str) -> Vec<String> {
    let mut found: Vec<String> = direct(url).into_iter().map(str::to_owned).collect();
    // Nodes of a quorum have addresses of their own, percent-encoded; they are shown as a whole or not at all.
    for value in values(url) {
        let inner = secrets(&decoded(value));
        if !inner.is_empty() {
            found.push(value.to_owned());
            found.extend(inner);
        }
    }
    found
}

/// What stands in the query, each value without its option's name.
fn values(url: &str) -> impl Iterator<Item = &str> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split(['&', '#']).filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        // Any other value is an address only if it looks like one: a password may have an @ and a colon.
        (decoded(key.trim()).eq_ignore_ascii_case("node") || decoded(value).contains("://")).then_some(value)
    })
}

/// The secrets that stand in `url` itself.
fn direct(url: &str) -> Vec<&str> {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let mut found = Vec::new();
    // Passwords may hold unencoded '/', '?' and '#' in a URL that is wrong, so the last '@' counts.
    if let Some((before, _)) = after_scheme.rsplit_once('@')
        && let Some((_, password)) = before.split_once(':')
        && !password.is_empty()
    {
        found.push(password);
        // Several hosts, each with its user and password: u:p@a,u:p@b.
        found.extend(before.split(',').filter_map(|part| {
            let part = part.rsplit_once('@').map_or(part, |(userinfo, _)| userinfo);
            part.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
        }));
    }
    // A connection string: host:port,password=…,ssl=True. A password in it may have all of the above.
    let plain =
        |item: &str| item.split('=').next().is_some_and(|key| key.trim().bytes().all(|b| b.is_ascii_alphanumeric()));
    found.extend(url.split(',').filter(|item| plain(item)).filter_map(secret_of));
    if let Some((_, query)) = after_scheme.split_once('?') {
        found.extend(query.split(['&', '#', ';']).filter_map(secret_of));
    }
    found
}

/// The secret of `option=value`.
fn secret_of(pair: &str) -> Option<&str> {
    let (key, value) = pair.split_once('=')?;
    let key = decoded(key.trim()).to_lowercase().replace(['-', '_', '.'], "");
    let telling =
        TELLING.iter().any(|part| key.contains(part)) || ["key", "pass", "sig", "sas"].contains(&key.as_str());
    // `password-file=…` and `password-env=…` say where the secret is, not what it is.
    let elsewhere = key.ends_with("file") || key.ends_with("env");
    (telling && !elsewhere && !value.trim().is_empty()).then_some(value)
}

/// Percent-decoded; what is no UTF-8 or no encoding stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|&c| (c as char).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_and_scrubbed() {
        for url in [
            "redis://user:hunter2@host:6379/0",
            "redis://:hunter2@host",
            "redis://user:hunter2@[bad",
            "nonsense:hunter2@x",
            "postgres://host/db?password=hunter2",
            "postgres://host/db?sslmode=require&PassWord=hunter2&x=1",
            "azblob://container?account-key=hunter2",
            "azblob://container?sv=1&sig=hunter2",
            "redlock://a:hunter2@h1,b:hunter2@h2",
            "redlock://u:hunter2@h1,h2,h3/2",
            "redlock://?node=redis%3A%2F%2Fu%3Ahunter2%40host",
            "redlock://?node=redis://u:hunter2@host&node=h:1",
            "redlock://?node=h:1&lease=5s&Node=redis%3A%2F%2Fh%3Fpassword%3Dhunter2",
            "redlock://?node=h:1&node=redis%3A%2F%2Fh%3Fpassword%3Dhun%2574er2",
            "redlock://?node=h:1&node=redis-sentinel%3A%2F%2Fh%2Fm%3Fsentinel-password%3Dhunter2",
            "redlock://?node=h%3A1%2Cpassword%3Dhunter2&node=h:2",
            "redlock://?node=h:1,password=hunter2",
            "redis://user:hun%74er2@host",
            "redis://user:p/a?hunter2@host",
            "redis://:hunter2@h1:1,h2:2,h3:3/0",
            "redis-sentinel://user:hunter2@h1,h2/mymaster?sentinel-password=hunter2",
            "redis-sentinel://h1,h2/mymaster?sentinel-password=hunter2",
            "redis+unix:///run/redis.sock?password=hunter2&db=1",
            "contoso.redis.cache.windows.net:6380,password=hunter2,ssl=True,abortConnect=False",
            "contoso.redis.cache.windows.net:6380, Password=hunter2",
            "h:1,password=a:b@hunter2,ssl=True",
            "h:1,password=hunter2://a@hunter2?hunter2",
            "redis://h?password=a@hunter2",
        ] {
            assert!(is_in(url), "{url}");
            let shown = scrub(url, &format!("can't parse {url}, really: {url}"));
            assert!(!shown.contains("hunter2") && !shown.contains("74er2"), "{shown}");
        }
        let url = "redlock://?node=h:1&node=redis%3A%2F%2Fu%3Ahunter2%40h&lease=5s";
        assert_eq!(scrub(url, url), "redlock://?node=h:1&node=***&lease=5s");
        assert_eq!(scrub(url, "hunter2 is no password"), "*** is no password");
        assert_eq!(scrub("redis://u:hun%74er2@h", "bad password hunter2"), "bad password ***");
    }

    #[test]
    fn harmless_urls_are_left_alone() {
        for url in [
            "file:///var/lock?record-holder=true&tokens=true",
            "redis://127.0.0.1:6379",
            "redis://user@host",
            "redlock://host1:1,host2:2,host3:3?lease=30s&key-format=redlock:{}",
            "redlock://?node=redis%3A%2F%2Fu%40h%3Fpassword-file%3D%2Frun%2Fsecret&node=redis://h:1/2&node=h:3",
            "redlock://?quorum-name=orders&node=redis-sentinel://s1,s2/mymaster",
            "postgres://host/db?password-file=/run/secrets/pg",
            "redis://u@h1:1,h2:2/3?password-env=REDIS_PASSWORD&sentinel-password-file=/run/secrets/s&key-file=/k,b",
            "127.0.0.1:6379",
            "h:1,user=u,ssl=True,password=,name=x",
            "memory://",
            "",
        ] {
            assert!(!is_in(url), "{url}");
            assert_eq!(scrub(url, url), url);
        }
    }
}
