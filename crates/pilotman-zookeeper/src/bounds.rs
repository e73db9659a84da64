//! What each member allows the time-out of a session to be. A session that moves to a member that allows less than was asked for
//! is shortened there, for good, and the driver tells nobody. So the members are asked, as far as they answer such words.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use pilotman_core::clock::Clock;

use crate::host::Host;
use crate::options::ZooKeeper;
use crate::session::Session;
use crate::words;

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one member has in its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
    pub(crate) tick: Option<Duration>,
}

impl Bounds {
    fn read(configuration: &str) -> Option<Self> {
        let millis = |key: &str| words::value(configuration, key)?.parse().ok().map(Duration::from_millis);
        Some(Self { least: millis("minSessionTimeout")?, most: millis("maxSessionTimeout")?, tick: millis("tickTime") })
    }
}

/// The bounds of each of these; `None` for one that doesn't tell them.
pub(crate) async fn ask(hosts: &[Host], clock: &Arc<dyn Clock>) -> Vec<Option<Bounds>> {
    let answers = hosts.iter().map(|host| words::ask(clock, host, "conf", PATIENCE));
    join_all(answers).await.iter().map(|answer| Bounds::read(answer.as_deref()?)).collect()
}

/// Counts on no more than the member allows that allows the least.
pub(crate) async fn look_after(zookeeper: &ZooKeeper, session: &Weak<Session>, clock: &Arc<dyn Clock>) {
    // Words are not answered on ports for TLS.
    if zookeeper.tls.is_some() {
        return;
    }
    let found = ask(&zookeeper.hosts, clock).await;
    let Some(session) = session.upgrade() else { return };
    // A session of no length is none that a server would keep.
    let told = zookeeper.hosts.iter().zip(found).filter_map(|(host, bounds)| Some((host, bounds?)));
    let told = told.filter(|(_, bounds)| !bounds.most.is_zero());
    if let Some((host, Bounds { most, tick, .. })) = told.min_by_key(|(_, bounds)| bounds.most)
        && session.shorten(host, most, tick)
    {
        tracing::warn!(
            member = %host,
            "a member of the ensemble keeps sessions for {most:?} at most, not for {:?}: holds are counted on for that long only",
            session.asked()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read() {
        let text = "clientPort=2181\ntickTime=2000\nminSessionTimeout=4000\nmaxSessionTimeout=40000\nserverId=0\n";
        let seconds = Duration::from_secs;
        let bounds = Bounds { least: seconds(4), most: seconds(40), tick: Some(seconds(2)) };
        assert_eq!(Bounds::read(text), Some(bounds));
        for bad in ["", "maxSessionTimeout=40000", "minSessionTimeout=x\nmaxSessionTimeout=-1"] {
            assert_eq!(Bounds::read(bad), None, "{bad}");
        }
    }
}
