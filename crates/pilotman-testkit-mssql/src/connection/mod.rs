//! One connection, from its first byte to its last.

mod describe;
mod handshake;
mod send;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Instant, SystemTime};

use crate::engine::error::{Stop, killed};
use crate::engine::faults::Fault;
use crate::engine::run::Run;
use crate::engine::server::Server;
use crate::engine::session::{Interrupt, Item, Session};
use crate::engine::state::State;
use crate::wire::bytes::malformed;
use crate::wire::packet::{Kind, Message};
use crate::wire::request::{self, Request};
use crate::wire::tokens::Reply;
use crate::wire::transport::{Receiver, open};
use send::Outgoing;

/// Serves a client until it is gone.
pub(crate) fn serve(server: &Arc<Server>, stream: &TcpStream, client: SocketAddr) -> io::Result<()> {
    let (mut receiver, mut sender) = open(stream, &server.gate)?;
    let accepted = handshake::accept(server, &mut receiver, &mut sender, stream)?;
    let Some(accepted) = accepted else {
        sender.close();
        return Ok(());
    };
    let database = accepted.identity.database.clone();
    let session = server.login(accepted.identity, stream.try_clone()?, client);
    let welcomed = sender.message(Kind::Reply, session.id, accepted.packet_size, &accepted.welcome);
    let reader = {
        let (server, session) = (Arc::clone(server), Arc::clone(&session));
        thread::Builder::new()
            .name(format!("mssql {} in", session.id))
            .spawn(move || read(&server, &session, receiver))?
    };
    if welcomed.is_ok() {
        let outgoing = Outgoing { sender, session: Arc::clone(&session), packet_size: accepted.packet_size };
        Connection { server: Arc::clone(server), session: Arc::clone(&session), state: State::new(database), outgoing }
            .work();
    }
    session.disconnect();
    server.logout(&session);
    // It ends with the connection.
    let _ = reader.join();
    Ok(())
}

/// Reads while a statement runs, so that an attention or the client's end comes through.
fn read(server: &Server, session: &Session, mut receiver: Receiver) {
    loop {
        match receiver.message() {
            Ok(Some(message)) if message.kind == Kind::Attention => session.post_attention(),
            Ok(Some(message)) if message.ignored => {}
            Ok(Some(message)) => session.post(Item::Request(message)),
            Ok(None) | Err(_) => {
                session.post(Item::End);
                server.nudge(session);
                return;
            }
        }
        server.nudge(session);
    }
}

/// What carries out the requests of one session, one after another.
#[derive(Debug)]
struct Connection {
    server: Arc<Server>,
    session: Arc<Session>,
    state: State,
    outgoing: Outgoing,
}

impl Connection {
    fn work(mut self) {
        loop {
            let item = self.session.next();
            self.server.gate.pass();
            let goes_on = match item {
                Item::Request(message) => self.request(&message),
                Item::Attention(number) => self.session.answered(number) || self.acknowledge(),
                Item::End | Item::Killed => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// The answer to an attention that came after its request was done.
    fn acknowledge(&mut self) -> bool {
        self.session.answer_attention();
        let mut reply = Reply::default();
        reply.attention();
        let fault = self.server.faults.take_attention();
        self.outgoing.reply(reply, fault).is_ok()
    }

    /// Carries out a request. `false` at the end of the connection.
    fn request(&mut self, message: &Message) -> bool {
        let parsed = match message.kind {
            Kind::Batch => request::batch(&message.body),
            Kind::Rpc => request::call(&message.body),
            Kind::Transaction => request::transaction(&message.body),
            _ => Err(malformed("not a request")),
        };
        let request = match parsed {
            Ok(request) => request,
            Err(error) => {
                self.server.log_unknown(error.to_string());
                return false;
            }
        };
        let text = describe::text(&request.body);
        self.server.log(self.session.id, text.clone());
        let fault = self.server.faults.take(&text);
        if fault == Some(Fault::CutBefore) {
            return false;
        }
        self.session.change(|activity| {
            activity.running = true;
            activity.began = SystemTime::now();
            activity.idle_since = Instant::now();
        });
        let goes_on = self.carry_out(&request, message.reset, fault);
        self.session.change(|activity| {
            activity.running = false;
            activity.ended = SystemTime::now();
            activity.idle_since = Instant::now();
        });
        goes_on
    }

    fn carry_out(&mut self, request: &Request, reset: bool, fault: Option<Fault>) -> bool {
        let mut reply = Reply::default();
        let mut run = Run::new(&self.server, &self.session, &mut self.state, &mut reply);
        if reset {
            run.reset();
        }
        let result = match &fault {
            Some(Fault::Error(error)) => {
                run.tell(error);
                Ok(())
            }
            _ => run.request(&request.body, request.transaction),
        };
        if reset {
            reply.was_reset();
        }
        let mut fault = fault;
        match result {
            Err(Stop::Interrupted(Interrupt::Attention)) => {
                self.session.answer_attention();
                reply.attention();
                // The attention that a pause would wait for has come.
                let own = fault.filter(|fault| !matches!(fault, Fault::PauseAfter(_)));
                fault = self.server.faults.take_attention().or(own);
            }
            Err(Stop::Interrupted(Interrupt::Gone)) => return false,
            Err(Stop::Interrupted(Interrupt::Killed)) => {
                reply.error(&killed());
                reply.fatal();
                // The client may be gone already.
                let _ = self.outgoing.reply(reply, None);
                return false;
            }
            _ => {}
        }
        self.outgoing.reply(reply, fault).is_ok()
    }
}
