//! A quorum of independent Redis nodes: hosts that are alike, or a URL for each node.

use std::sync::Arc;

use pilotman_core::backend::Backend;
use pilotman_core::{Error, Result};
use pilotman_redis::{RedisNode, Redlock, RedlockBackend};

use super::redis;
use crate::address::{Address, split_scheme};
use crate::query::Query;

/// What a node's URL begins with.
const SCHEMES_OF_NODES: &str = "redis://, rediss://, redis-sentinel://, rediss-sentinel://, redis-cluster://, \
                                rediss-cluster:// and redis+unix://";
const EXAMPLE: &str = "write it as in redlock://10.0.0.1,10.0.0.2,10.0.0.3";
const EXAMPLE_OF_NODES: &str =
    "write redlock://?node=…&node=…, each with the percent-encoded URL of a Redis, such as redis%3A%2F%2F10.0.0.1";

pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let quorum = quorum(address).map_err(|error| error.with_backend("redlock"))?;
    Ok(Arc::new(RedlockBackend::new(quorum)?))
}

/// What an address says about a quorum.
fn quorum(address: &mut Address) -> Result<Redlock> {
    let query = &mut address.query;
    let urls = query.take_nodes();
    let longest_lease = query.take_duration("longest-lease")?;
    let quarantine = query.take_bool("quarantine")?;
    let semaphores = query.take_bool("semaphores")?;
    let name = query.take("quorum-name");
    let nodes = if urls.is_empty() { alike(address)? } else { each_by_itself(address, &urls)? };

    let mut redlock = Redlock::new(nodes);
    if let Some(lease) = longest_lease {
        redlock = redlock.longest_lease(lease);
    }
    if let Some(on) = quarantine {
        redlock = redlock.quarantine(on);
    }
    if let Some(on) = semaphores {
        redlock = redlock.semaphores(on);
    }
    if let Some(name) = name {
        redlock = redlock.name(name);
    }
    Ok(redlock)
}

/// A node on each host, all with the same options.
fn alike(address: &mut Address) -> Result<Vec<RedisNode>> {
    let scheme = address.url.scheme().to_owned();
    let is_tls = scheme == "redlocks";
    let hosts = address.hosts()?;
    if hosts == [""] {
        let error = Error::misconfigured(format!("this {scheme}:// URL names no host and no node"));
        return Err(error.with_advice(format!("{EXAMPLE}; for nodes that differ, {EXAMPLE_OF_NODES}")));
    }
    let db = redis::database(&scheme, address.segments()?.into_iter())?;
    let given = address.query.clone();
    let mut nodes = Vec::new();
    for host in hosts {
        // All take the same options; what is left over is the same, too.
        address.query = given.clone();
        nodes.push(redis::with_options(RedisNode::endpoint(host)?, address, db.clone(), is_tls)?);
    }
    Ok(nodes)
}

/// A node by each of these URLs.
fn each_by_itself(address: &Address, urls: &[String]) -> Result<Vec<RedisNode>> {
    let scheme = address.url.scheme();
    let only = |what: &str| {
        Err(Error::misconfigured(format!("this {scheme}:// URL has {what} beside its nodes")).with_advice(format!(
            "name all nodes before the question mark, or all by node=…: {EXAMPLE_OF_NODES}, with what belongs to a \
             node in its URL"
        )))
    };
    if scheme == "redlocks" {
        return Err(Error::misconfigured("redlocks:// turns on TLS for hosts, but nodes have URLs of their own")
            .with_advice("write redlock://?node=…, and rediss:// for the nodes with TLS"));
    }
    if address.hosts()? != [""] {
        return only("hosts");
    }
    if !address.segments()?.is_empty() {
        return only("a path");
    }
    if let Some(option) = address.query.first_left() {
        let error = Error::misconfigured(format!("{option} is none of the quorum's own, and applies to no node"));
        return Err(error.with_advice(
            "beside node=… there can be hold-at-most, lease, longest-lease, quarantine, quorum-name, retry and \
             semaphores; write everything else into the URL of each node",
        ));
    }
    let nodes = urls.iter().enumerate();
    nodes.map(|(at, url)| node(url).map_err(|error| in_node(at + 1, &error))).collect()
}

fn node(url: &str) -> Result<RedisNode> {
    // Also what this build has no backend for is no node, whatever else it is.
    if let Some((scheme, _)) = split_scheme(url)
        && !is_redis(scheme)
    {
        return Err(Error::misconfigured("its URL is not one of a Redis")
            .with_advice(format!("the URLs of nodes begin with {SCHEMES_OF_NODES}")));
    }
    let mut address = Address::parse(url)?;
    refuse_lock_options(&mut address.query)?;
    let node = redis::node(&mut address)?;
    address.query.finish()?;
    Ok(node)
}

fn is_redis(scheme: &str) -> bool {
    super::ALL.iter().any(|known| known.kind == "redis" && known.schemes.contains(&scheme))
}

fn refuse_lock_options(query: &mut Query) -> Result<()> {
    // Not to be listed as known to a node.
    let options = query.clone().take_lock_options()?;
    if options.lease.is_some() || options.retry.is_some() || options.hold_at_most.is_some() {
        return Err(Error::misconfigured("lease, retry and hold-at-most are the quorum's, not a node's")
            .with_advice("write them beside node=…"));
    }
    Ok(())
}

/// The error of one node. Nodes are told by their order: a URL may hold a secret.
fn in_node(number: usize, error: &Error) -> Error {
    Error::new(error.kind(), format!("node {number} of the quorum")).with_source(error.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Redlock> {
        let mut address = Address::parse(text)?;
        // As the builder does.
        address.query.take_lock_options()?;
        let quorum = quorum(&mut address)?;
        address.query.finish()?;
        Ok(quorum)
    }

    /// Both name the same quorum, as far as it shows.
    #[track_caller]
    fn same(text: &str, quorum: Redlock) {
        assert_eq!(format!("{:?}", read(text).unwrap()), format!("{quorum:?}"), "{text}");
    }

    fn nodes(addresses: &[&str], options: impl Fn(RedisNode) -> RedisNode) -> Redlock {
        Redlock::new(addresses.iter().map(|address| options(RedisNode::endpoint(address).unwrap())))
    }

    #[test]
    fn hosts_that_are_alike() {
        same("redlock://a:1,b,[::1]:3", nodes(&["a:1", "b", "[::1]:3"], |node| node));
        same("redlock://a", nodes(&["a"], |node| node));
        same("redlock://a,b,c/4", nodes(&["a", "b", "c"], |node| node.database(4)));
        same("redlock://a,b,c?db=4&names=exact&lease=5s", nodes(&["a", "b", "c"], |node| node.database(4)));
        let format = |node: RedisNode| node.key_format("redlock:{}").unwrap();
        same("redlock://a,b,c?key-format=redlock:{}", nodes(&["a", "b", "c"], format));
        same("redlock://a,b,c?prefix=redlock:", nodes(&["a", "b", "c"], format));
        let secured = |node: RedisNode| node.username("us/er").password("x").tls(true);
        same("redlocks://us%2Fer:p%40ss@a:1,b:2,c:3", nodes(&["a:1", "b:2", "c:3"], secured));
        same("redlocks://a:1,b:2,c:3?username=us/er&password=x", nodes(&["a:1", "b:2", "c:3"], secured));
        let limit = std::time::Duration::from_millis(300);
        let confirmed = |node: RedisNode| node.wait_replicas(1, limit);
        same("redlock://a,b?wait-replicas=1&wait-timeout=300ms", nodes(&["a", "b"], confirmed));
    }

    #[test]
    fn a_url_for_each_node() {
        let first = || RedisNode::endpoint("a:1").unwrap().username("u").password("x").database(3);
        let second = || RedisNode::endpoint("b:2").unwrap().tls(true).key_format("redlock:{}").unwrap();
        let third = || RedisNode::sentinel(["c:3", "d"], "my master").unwrap();
        let fourth = || RedisNode::cluster(["e"]).unwrap();
        let fifth = || RedisNode::endpoint("/run/my redis.sock").unwrap();
        same(
            "redlock://?node=redis%3A%2F%2Fu%3Ap%2540%26ss%40a%3A1%2F3&node=rediss%3A%2F%2Fb%3A2%3Fkey-format%3Dredlock%3A%7B%7D\
             &node=redis-sentinel%3A%2F%2Fc%3A3%2Cd%2Fmy%2520master&lease=10s&node=redis-cluster%3A%2F%2Fe\
             &node=redis%2Bunix%3A%2F%2F%2Frun%2Fmy%2520redis.sock",
            Redlock::new([first(), second(), third(), fourth(), fifth()]),
        );
        // What needs no encoding may stand as it is, and nodes are named in all the ways in which one Redis is.
        same(
            "redlock://?node=redis://u:p@a:1/3&node=rediss://b:2?key-format=redlock:{}&node=c:3",
            Redlock::new([first(), second(), RedisNode::endpoint("c:3").unwrap()]),
        );
        same("redlock:///?node=a:1,user=u,password=x,defaultDatabase=3", Redlock::new([first()]));
    }

    #[test]
    fn passwords_of_nodes_are_decoded_twice() {
        let mut address = Address::parse("redlock://?node=redis%3A%2F%2F:a%252Bb%2Bc%40h").unwrap();
        let url = address.query.take_nodes().remove(0);
        assert_eq!(Address::parse(&url).unwrap().password().unwrap().as_deref(), Some("a+b+c"));
    }

    #[test]
    fn options_of_the_quorum() {
        let plain = || nodes(&["a", "b", "c"], |node| node);
        let limit = std::time::Duration::from_secs(120);
        same("redlock://a,b,c?longest-lease=2m", plain().longest_lease(limit));
        same("redlock://a,b,c?quarantine=false", plain().quarantine(false));
        same("redlock://a,b,c?semaphores", plain().semaphores(true));
        same("redlock://a,b,c?quorum-name=orders", plain().name("orders"));
        let all = || plain().longest_lease(limit).quarantine(false).semaphores(true).name("orders");
        let options = "longest-lease=2m&quarantine=0&semaphores=1&quorum-name=orders";
        same(&format!("redlock://a,b,c?{options}"), all());
        same(&format!("redlock://?node=a:6379&node=b:6379&{options}&node=c:6379"), all());
    }
}
