//! The first messages, up to a login that is accepted or refused.

use std::io;
use std::net::TcpStream;

use crate::engine::error::{login_failed, no_database};
use crate::engine::server::Server;
use crate::engine::session::Identity;
use crate::engine::settings::Settings;
use crate::wire::bytes::malformed;
use crate::wire::login::{self, Login};
use crate::wire::packet::{FIRST_SIZE, Kind};
use crate::wire::prelogin::{self, Encryption};
use crate::wire::tokens::{Reply, SqlError};
use crate::wire::transport::{Receiver, Sender};

/// The first byte of a TLS record of a handshake: the client speaks TDS 8.
const TLS_HANDSHAKE: u8 = 0x16;

/// The versions that drivers ask for: 7.4, 7.3 and 7.2.
const VERSIONS: [u32; 4] = [0x7400_0004, 0x730b_0003, 0x730a_0003, 0x7209_0002];

/// Packets are at least that large.
const SMALLEST_PACKET: usize = 512;

/// A login that was accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) identity: Identity,
    pub(super) packet_size: usize,
    /// The reply, not sent yet: it has the number of the session in its header.
    pub(super) welcome: Vec<u8>,
}

/// `None` after a login that was refused, or a client that went.
pub(super) fn accept(
    server: &Server,
    receiver: &mut Receiver,
    sender: &mut Sender,
    stream: &TcpStream,
) -> io::Result<Option<Accepted>> {
    let mut first = [0];
    if stream.peek(&mut first)? == 0 {
        return Ok(None);
    }
    let strict = first[0] == TLS_HANDSHAKE;
    if strict {
        receiver.encrypt_directly(&server.tls)?;
    }
    let Some(message) = receiver.message()? else { return Ok(None) };
    if message.kind != Kind::PreLogin {
        return Err(malformed("the first message isn't PRELOGIN"));
    }
    let client = prelogin::parse(&message.body)?;
    let settings = server.settings();
    let answer = settings.encryption.answer(client.encryption);
    sender.message(Kind::Reply, 0, FIRST_SIZE, &prelogin::answer(answer, client.federated))?;
    if !strict && answer != Encryption::NotSupported {
        receiver.encrypt(&server.tls, sender)?;
    }
    let Some(message) = receiver.message()? else { return Ok(None) };
    if message.kind != Kind::Login {
        return Err(malformed("the message after PRELOGIN isn't LOGIN7"));
    }
    let login = login::parse(&message.body)?;
    let everything = strict || matches!(answer, Encryption::On | Encryption::Required);
    if !everything {
        receiver.decrypt();
    }
    decide(server, &settings, login, everything, sender)
}

fn decide(
    server: &Server,
    settings: &Settings,
    login: Login,
    encrypted: bool,
    sender: &mut Sender,
) -> io::Result<Option<Accepted>> {
    server.log(0, format!("LOGIN {} TO {}", login.user, login.database));
    let size = usize::try_from(login.packet_size).unwrap_or(0);
    let packet_size = if size == 0 { FIRST_SIZE } else { size }.clamp(SMALLEST_PACKET, settings.largest_packet);
    match check(settings, &login) {
        Err(errors) => {
            let mut reply = Reply::default();
            for error in &errors {
                reply.error(error);
            }
            reply.done(None);
            sender.message(Kind::Reply, 0, FIRST_SIZE, &reply.finish().0)?;
            Ok(None)
        }
        Ok((name, database)) => {
            let welcome = welcome(settings, &login, &database, packet_size);
            let Login { host, program, process, .. } = login;
            let identity = Identity { login: name, host, program, process, database, encrypted };
            Ok(Some(Accepted { identity, packet_size, welcome }))
        }
    }
}

fn welcome(settings: &Settings, login: &Login, database: &str, packet_size: usize) -> Vec<u8> {
    let mut reply = Reply::default();
    reply.database(database, "master");
    let changed = |number: i32, message: String| SqlError::new(number, message).class(0).state(2);
    reply.info(&changed(5701, format!("Changed database context to '{database}'.")));
    reply.collation();
    reply.language();
    reply.info(&changed(5703, "Changed language setting to us_english.".to_owned()));
    let version = VERSIONS.into_iter().find(|version| *version <= login.version).unwrap_or(VERSIONS[0]);
    reply.login_ack(version);
    reply.packet_size(packet_size, FIRST_SIZE);
    if login.token.is_some() {
        reply.federated_ack();
    }
    if let Some((host, port)) = &settings.route {
        reply.routed(host, *port);
    }
    reply.done(None);
    reply.finish().0
}

/// The login's name and database, or the errors that refuse it.
fn check(settings: &Settings, login: &Login) -> Result<(String, String), Vec<SqlError>> {
    if let Some(error) = &settings.login_failure {
        return Err(vec![error.clone()]);
    }
    let (name, allowed) = match &login.token {
        Some(token) => match settings.tokens.get(token) {
            Some(name) => (name.clone(), None),
            None => return Err(vec![login_failed("<token-identified principal>")]),
        },
        None if login.integrated => {
            let message = "Login failed. The login is from an untrusted domain and cannot be used with Integrated authentication.";
            return Err(vec![SqlError::new(18452, message).class(14)]);
        }
        None => {
            let found = settings.users.iter().find(|(name, _)| name.eq_ignore_ascii_case(&login.user));
            match found {
                Some((name, user)) if user.password == login.password => (name.clone(), user.databases.clone()),
                _ => return Err(vec![login_failed(&login.user)]),
            }
        }
    };
    let wanted = if login.database.is_empty() {
        allowed.as_ref().and_then(|allowed| allowed.first()).or(settings.databases.first()).cloned().unwrap_or_default()
    } else {
        login.database.clone()
    };
    let known = settings.databases.iter().find(|known| known.eq_ignore_ascii_case(&wanted));
    let may = |database: &String| allowed.as_ref().is_none_or(|allowed| allowed.contains(database));
    match known {
        Some(database) if may(database) => Ok((name, database.clone())),
        _ => Err(vec![no_database(&wanted), login_failed(&name)]),
    }
}
