//! The bare commands on all nodes at once, over one connection to each.

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use pilotman_bench::Failure;

use crate::bare::{self, BareLock};

/// A lock on several nodes as one writes it by hand: taken and given back when more than half of them have said so.
pub(crate) struct BareQuorum {
    nodes: Vec<BareLock>,
    // What came too late to count is waited for with what is asked next. Dropping it could keep it from being sent.
    asked: FuturesUnordered<BoxFuture<'static, (u64, Result<bool, Failure>)>>,
    round: u64,
}

impl BareQuorum {
    /// Locks with these keys, which share a connection to each node.
    pub(crate) async fn some(ports: &[u16], keys: &[String]) -> Result<Vec<Self>, Failure> {
        let mut connections = Vec::with_capacity(ports.len());
        for port in ports {
            connections.push(bare::connect(*port).await?);
        }
        let mut locks = Vec::with_capacity(keys.len());
        for key in keys {
            let mut nodes = Vec::with_capacity(ports.len());
            for connection in &connections {
                nodes.push(BareLock::new(connection.clone(), key).await?);
            }
            locks.push(Self { nodes, asked: FuturesUnordered::new(), round: 0 });
        }
        Ok(locks)
    }

    pub(crate) async fn pair(&mut self) -> Result<(), Failure> {
        self.round += 1;
        let round = self.round;
        self.asked.extend(self.nodes.iter().map(|node| {
            let taken = node.take();
            Box::pin(async move { (round, taken.await) }) as BoxFuture<'static, _>
        }));
        self.quorum().await?;
        self.round += 1;
        let round = self.round;
        self.asked.extend(self.nodes.iter().map(|node| {
            let given_back = node.give_back();
            Box::pin(async move { (round, given_back.await) }) as BoxFuture<'static, _>
        }));
        self.quorum().await
    }

    /// Waits until more than half of the nodes have said yes.
    async fn quorum(&mut self) -> Result<(), Failure> {
        let mut yes = 0;
        while yes <= self.nodes.len() / 2 {
            let (round, said) = self.asked.next().await.ok_or("somebody else uses the key of the bare commands")?;
            if said? && round == self.round {
                yes += 1;
            }
        }
        Ok(())
    }
}
