//! The driver there is: tiberius.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use pilotman_core::backend::BoxFuture;
use pilotman_core::clock::{Clock, Sleep};
use pilotman_session::Stop;
use tiberius::{ColumnData, Command, CommandItem, Config, Query};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

use crate::calm::calmly;
use crate::driver::{Arguments, Client, Row, Value};
use crate::failure::Failure;
use crate::socket::{self, Socket, Traffic};

type Inner = tiberius::Client<Compat<Socket>>;

/// See the [module](self).
pub(crate) struct Tiberius {
    inner: Inner,
    traffic: Arc<Traffic>,
    stream: Arc<TcpStream>,
    clock: Arc<dyn Clock>,
    /// A reply that has begun is whole within this time.
    patience: Duration,
}

/// Logs in over this stream.
pub(crate) async fn log_in(
    config: Config,
    stream: TcpStream,
    clock: Arc<dyn Clock>,
    patience: Duration,
) -> Result<Tiberius, Failure> {
    let socket = Socket::new(stream);
    let (traffic, stream) = (socket.traffic(), socket.stream());
    let inner = calmly(Inner::connect(config, socket.compat_write())).await?;
    Ok(Tiberius { inner, traffic, stream, clock, patience })
}

/// A procedure's return status. One that the server does not send would be taken for a 0.
pub(crate) async fn call<S>(
    client: &mut tiberius::Client<S>,
    procedure: &'static str,
    arguments: Arguments<'_>,
) -> tiberius::Result<i32>
where
    S: futures_util::AsyncRead + futures_util::AsyncWrite + Unpin + Send,
{
    let mut command = Command::new(procedure);
    for (name, value) in arguments {
        command.bind_param(*name, Sent(value));
    }
    let mut items = command.exec(client).await?;
    let mut status = None;
    while let Some(item) = items.try_next().await? {
        if let CommandItem::ReturnStatus(returned) = item {
            status = Some(returned.cast_signed());
        }
    }
    status.ok_or_else(|| tiberius::error::Error::Protocol("a procedure returned no status".into()))
}

/// The rows of a statement.
pub(crate) async fn rows<S>(
    client: &mut tiberius::Client<S>,
    sql: &str,
    parameters: &[Value],
) -> tiberius::Result<Vec<Row>>
where
    S: futures_util::AsyncRead + futures_util::AsyncWrite + Unpin + Send,
{
    let rows = match parameters {
        [] => client.simple_query(sql).await?.into_results().await?,
        parameters => {
            let mut query = Query::new(sql);
            for value in parameters {
                query.bind(Sent(value));
            }
            query.query(client).await?.into_results().await?
        }
    };
    Ok(rows.iter().flatten().map(|row| row.cells().map(|(_, cell)| value(cell)).collect()).collect())
}

struct Sent<'a>(&'a Value);

impl<'a> tiberius::IntoSql<'a> for Sent<'a> {
    fn into_sql(self) -> ColumnData<'a> {
        match self.0 {
            Value::Null => ColumnData::String(None),
            Value::Int(number) => ColumnData::I32(Some(*number)),
            Value::Big(number) => ColumnData::I64(Some(*number)),
            Value::Text(text) => ColumnData::String(Some(text.as_str().into())),
        }
    }
}

fn value(cell: &ColumnData<'_>) -> Value {
    let number = |number: Option<i64>| number.map_or(Value::Null, Value::Big);
    match cell {
        ColumnData::U8(value) => number(value.map(Into::into)),
        ColumnData::I16(value) => number(value.map(Into::into)),
        ColumnData::I32(value) => number(value.map(Into::into)),
        ColumnData::I64(value) => number(*value),
        ColumnData::Bit(value) => number(value.map(Into::into)),
        ColumnData::String(Some(text)) => Value::Text(text.clone().into_owned()),
        _ => Value::Null,
    }
}

impl Client for Tiberius {
    async fn call(&mut self, procedure: &'static str, arguments: Arguments<'_>) -> Result<i32, Failure> {
        Ok(calmly(call(&mut self.inner, procedure, arguments)).await?)
    }

    async fn call_until(
        &mut self,
        procedure: &'static str,
        arguments: Arguments<'_>,
        stop: &mut Stop,
    ) -> Result<Option<i32>, Failure> {
        self.traffic.begin();
        let mut work = pin!(calmly(call(&mut self.inner, procedure, arguments)));
        let stopped = async {
            stop.requested().await;
            self.traffic.quiet().await;
        };
        let stalled = async {
            self.traffic.answered().await;
            Sleep::new(self.clock.clone(), self.patience).await;
        };
        tokio::select! {
            biased;
            status = &mut work => Ok(Some(status?)),
            () = stopped => Ok(None),
            () = stalled => Err(Failure::nonsense("the server began a reply and did not end it")),
        }
    }

    async fn cancel(&mut self) -> Result<(), Failure> {
        Ok(calmly(self.inner.cancel_query()).await?)
    }

    async fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Row>, Failure> {
        Ok(calmly(rows(&mut self.inner, sql, parameters)).await?)
    }

    fn closed(&self) -> BoxFuture<'static, ()> {
        socket::closed(self.stream.clone(), self.clock.clone())
    }

    async fn end(self) {
        if let Err(error) = calmly(self.inner.close()).await {
            tracing::debug!(%error, "a session did not end well");
        }
    }
}
