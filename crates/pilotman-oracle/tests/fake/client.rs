//! The side of the program: a driver whose calls block, as those of a real one do, and which knows no time limits.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use pilotman_oracle::driver::{Bind, Call, Connection, Driver, Failure, Value};
use serde_json::{Value as Json, json};

/// Connects to a [`Database`](super::Database) at this port.
#[derive(Debug, Clone)]
pub(crate) struct FakeDriver {
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl FakeDriver {
    pub(crate) fn new(port: u16) -> Self {
        Self { port, user: "APP".into(), password: "app".into() }
    }
}

struct Session {
    stream: BufReader<TcpStream>,
    serial: u64,
}

impl Driver for FakeDriver {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn connect(&self, limit: Duration) -> Result<Box<dyn Connection>, Failure> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let stream = TcpStream::connect_timeout(&address, limit).map_err(|error| Failure::over(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| Failure::over(error.to_string()))?;
        let mut session = Session { stream: BufReader::new(stream), serial: 0 };
        // As with the driver in Rust, only connecting has a limit; logging in has none.
        let hello = session.ask(&json!({"do": "login", "user": self.user, "password": self.password}))?;
        session.serial = hello["serial"].as_u64().unwrap_or(0);
        Ok(Box::new(session))
    }
}

impl Session {
    fn ask(&mut self, question: &Json) -> Result<Json, Failure> {
        let failed = |error: std::io::Error| Failure::over(error.to_string());
        self.stream.get_mut().write_all(format!("{question}\n").as_bytes()).map_err(failed)?;
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => return Err(Failure::over("the database closed the connection")),
            Ok(_) => {}
            Err(error) => return Err(failed(error)),
        }
        let answer: Json = serde_json::from_str(&line).map_err(|error| Failure::over(error.to_string()))?;
        match answer["error"].as_u64() {
            Some(code) => Err(Failure::server(code as u32, answer["message"].as_str().unwrap_or_default())),
            None => Ok(answer),
        }
    }
}

fn question(what: &str, call: &Call) -> Json {
    let bind = |(name, bind): &(std::borrow::Cow<'static, str>, Bind)| match bind {
        Bind::In(Value::Number(number)) => json!({"name": name, "in": number}),
        Bind::In(Value::Text(text)) => json!({"name": name, "in": text}),
        Bind::In(Value::Null) => json!({"name": name, "in": null}),
        Bind::OutNumber => json!({"name": name, "out": "NUMBER"}),
        Bind::OutText => json!({"name": name, "out": "VARCHAR2"}),
    };
    json!({"do": what, "text": call.text, "binds": call.binds.iter().map(bind).collect::<Vec<_>>()})
}

fn values(of: &Json) -> Vec<Value> {
    let value = |json: &Json| match json {
        Json::Number(number) => number.as_i64().map_or(Value::Null, Value::Number),
        Json::String(text) => Value::Text(text.clone()),
        _ => Value::Null,
    };
    of.as_array().map(|values| values.iter().map(value).collect()).unwrap_or_default()
}

impl Connection for Session {
    fn run(&mut self, call: &Call, _: Duration) -> Result<Vec<Value>, Failure> {
        self.ask(&question("run", call)).map(|answer| values(&answer["outs"]))
    }

    fn query(&mut self, call: &Call, _: Duration) -> Result<Vec<Vec<Value>>, Failure> {
        let answer = self.ask(&question("query", call))?;
        Ok(answer["rows"].as_array().map(|rows| rows.iter().map(values).collect()).unwrap_or_default())
    }

    fn ping(&mut self, _: Duration) -> Result<(), Failure> {
        self.ask(&json!({"do": "ping"})).map(drop)
    }

    fn serial(&self) -> Option<u64> {
        Some(self.serial)
    }

    fn close(mut self: Box<Self>) {
        // Whether it was heard is nothing to who goes.
        let _ = self.ask(&json!({"do": "logoff"}));
    }

    fn abort(self: Box<Self>) {
        // A connection that is gone is as good as one that is closed.
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
    }
}
