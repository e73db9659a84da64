//! The clients, as in `waiting.rs` and the engine, and the network between them and the server.

use super::state::{Act, Action, Client, Mail, Message, Phase, Request, State, What};
use super::{FIRST, HandOff, LEASE, Mutant, RENEW, server};
use crate::list::List;

impl Client {
    pub(super) fn holds(&self) -> bool {
        matches!(self.phase, Phase::Holding { .. })
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self.phase, Phase::Asking { .. } | Phase::Listening { .. })
    }

    /// An answer that the client wants is under way, or can be.
    fn is_owed(&self) -> bool {
        self.out.iter().any(|request| request.awaited) || self.inbox.iter().any(|message| !message.is_push())
    }

    fn send(&mut self, what: What) {
        self.connect();
        self.out.push(Request { what, attempt: self.attempt, awaited: true });
    }

    fn connect(&mut self) {
        if !self.connected {
            self.connected = true;
            self.ghost = false;
        }
    }

    /// No answer is awaited any longer.
    fn forget_question(&mut self) {
        self.out.iter_mut().for_each(|request| request.awaited = false);
        self.inbox.retain(Message::is_push);
    }

    /// The attempt has ended, and goes back.
    fn end(&mut self, what: What) {
        self.phase = Phase::Idle;
        self.forget_question();
        self.inbox = List::default();
        let back = Request { what, attempt: self.attempt, awaited: false };
        if self.connected {
            self.out.push(back);
        } else {
            self.back.push(back);
        }
    }

    fn cut_off(&mut self) {
        self.forget_question();
        for request in self.out.iter() {
            self.stray.push(request);
        }
        self.out = List::default();
        self.inbox = List::default();
        self.connected = false;
        self.ghost = true;
    }

    fn break_off(&mut self) {
        // Whether it came through is not known, so it is sent once more.
        for request in self.out.iter().filter(|request| matches!(request.what, What::Release | What::Abandon)) {
            self.back.push(request);
        }
        self.cut_off();
        match &mut self.phase {
            Phase::Listening { .. } => self.phase = Phase::Asking { sent: None, mail: Mail::default() },
            Phase::Asking { sent, .. } => *sent = None,
            Phase::Holding { renewing, .. } => *renewing = None,
            Phase::Idle | Phase::Dead => {}
        }
    }

    fn tick(&mut self) {
        match &mut self.phase {
            Phase::Asking { sent: Some(sent), .. } => *sent = (*sent + 1).min(LEASE),
            Phase::Listening { sent, .. } => *sent = (*sent + 1).min(LEASE),
            Phase::Holding { left, renewing } => {
                *left -= 1;
                if let Some(sent) = renewing {
                    *sent = (*sent + 1).min(LEASE);
                }
                if *left == 0 {
                    self.end(What::Release);
                }
            }
            Phase::Idle | Phase::Asking { sent: None, .. } | Phase::Dead => {}
        }
    }
}

impl HandOff {
    /// What can happen to one client.
    pub(super) fn acts(&self, state: &State, number: usize, act: &mut dyn FnMut(Act)) {
        let Some(client) = state.clients.get(number) else { return };
        let mut when = |may: bool, what: Act| {
            if may {
                act(what);
            }
        };
        when(!client.out.is_empty(), Act::Serve);
        when(!client.stray.is_empty(), Act::ServeStray);
        when(!client.inbox.is_empty(), Act::Hear);
        when(!client.back.is_empty(), Act::Return);
        when(client.ghost, Act::Notice);
        let left = state.left;
        match client.phase {
            Phase::Idle => when(client.attempts_left > 0, Act::Begin),
            Phase::Asking { sent: None, .. } => when(true, Act::Ask),
            Phase::Asking { sent: Some(sent), .. } => {
                when(!client.is_owed() || sent > 0 && state.can(left.give_up), Act::GiveUp);
            }
            Phase::Listening { sent, .. } => when(sent > 0 && !self.is(Mutant::NoTimer), Act::Ask),
            Phase::Holding { left, renewing } => {
                when(true, Act::Release);
                when(renewing.is_none() && left <= RENEW, Act::Renew);
                when(renewing.is_some() && !client.is_owed(), Act::GiveUp);
            }
            Phase::Dead => return,
        }
        let pushed = client.inbox.iter().any(Message::is_push);
        let answered = client.inbox.iter().any(|message| !message.is_push());
        let busy = client.phase != Phase::Idle || !client.is_silent();
        when(client.waits() && state.can(left.cancel), Act::Cancel);
        when(client.connected && busy && state.can(left.break_off), Act::Break);
        when(pushed && state.can(left.lose_push), Act::LosePush);
        when(answered && state.can(left.lose_reply), Act::LoseReply);
        when(busy && state.can(left.crash), Act::Crash);
    }

    /// Something happens.
    pub(super) fn act(&self, state: &mut State, Action { client: number, act }: Action) -> Result<(), String> {
        let number = usize::from(number);
        self.count_fault(state, number, act);
        let client = state.client(number);
        match act {
            Act::Tick => {
                server::tick(state);
                state.clients.iter_mut().for_each(Client::tick);
            }
            Act::StepBack => server::step_back(state),
            Act::Begin => {
                client.attempts_left -= 1;
                client.attempt += 1;
                client.phase = Phase::Asking { sent: Some(0), mail: Mail::default() };
                client.send(What::Acquire);
            }
            Act::Ask => {
                let mail = match client.phase {
                    Phase::Asking { mail, .. } => mail,
                    _ => Mail::default(),
                };
                client.phase = Phase::Asking { sent: Some(0), mail };
                client.send(What::Acquire);
            }
            Act::Serve => {
                if let Some(request) = client.out.remove(0) {
                    self.run(state, number, request);
                }
            }
            Act::ServeStray => {
                if let Some(request) = client.stray.remove(0) {
                    state.strayed |= request.what == What::Acquire;
                    self.run(state, number, request);
                }
            }
            Act::Hear => {
                if let Some(message) = client.inbox.remove(0) {
                    return self.hear(state, number, message);
                }
            }
            Act::GiveUp => {
                client.forget_question();
                match &mut client.phase {
                    Phase::Asking { sent, .. } => *sent = None,
                    Phase::Holding { renewing, .. } => *renewing = None,
                    _ => {}
                }
            }
            Act::Cancel => client.end(What::Abandon),
            Act::Renew => {
                if let Phase::Holding { renewing, .. } = &mut client.phase {
                    *renewing = Some(0);
                }
                client.send(What::Renew);
            }
            Act::Release => client.end(What::Release),
            Act::Return => {
                client.connect();
                if let Some(back) = client.back.remove(0) {
                    client.out.push(back);
                }
            }
            Act::Break => client.break_off(),
            Act::Notice => client.ghost = false,
            Act::LosePush => lose(client, true),
            Act::LoseReply => lose(client, false),
            Act::Crash => {
                if client.connected {
                    client.cut_off();
                }
                client.back = List::default();
                client.phase = Phase::Dead;
            }
        }
        Ok(())
    }

    fn count_fault(&self, state: &mut State, number: usize, act: Act) {
        let slow = state.clients.get(number).is_some_and(|client| client.is_owed());
        let left = match act {
            Act::Break => &mut state.left.break_off,
            Act::LosePush => &mut state.left.lose_push,
            Act::LoseReply => &mut state.left.lose_reply,
            Act::GiveUp if slow => &mut state.left.give_up,
            Act::Crash => &mut state.left.crash,
            Act::Cancel => &mut state.left.cancel,
            Act::StepBack => &mut state.left.step_back,
            _ => return,
        };
        *left -= 1;
        state.together -= 1;
    }

    /// A client is told something.
    fn hear(&self, state: &mut State, number: usize, message: Message) -> Result<(), String> {
        let client = state.client(number);
        let mut begun = None;
        match (message, &mut client.phase) {
            (Message::Ours { token }, Phase::Asking { sent: Some(sent), .. }) => match LEASE - *sent {
                // It took longer than a hold lasts.
                0 => client.end(What::Release),
                left => begun = Some((left, token)),
            },
            (Message::Others { ticket }, Phase::Asking { sent: Some(sent), mail }) => {
                let (sent, mail) = (*sent, *mail);
                client.phase = Phase::Listening { sent, ticket };
                begun = self.read(client, sent, ticket, mail);
            }
            (Message::Granted { ticket, token, .. }, Phase::Asking { mail, .. }) => mail.granted.push((ticket, token)),
            (Message::Free { .. }, Phase::Asking { mail, .. }) => mail.free = true,
            (Message::Granted { ticket: of, token, .. }, Phase::Listening { sent, ticket }) => {
                let mut mail = Mail::default();
                mail.granted.push((of, token));
                let (sent, ticket) = (*sent, *ticket);
                begun = self.read(client, sent, ticket, mail);
            }
            (Message::Free { .. }, Phase::Listening { sent, ticket }) => {
                let mail = Mail { free: true, ..Mail::default() };
                let (sent, ticket) = (*sent, *ticket);
                begun = self.read(client, sent, ticket, mail);
            }
            (Message::Renewed, Phase::Holding { left, renewing: renewing @ Some(_) }) => {
                let sent = renewing.take().unwrap_or(LEASE);
                *left = (*left).max(LEASE - sent);
            }
            (Message::Gone, Phase::Holding { .. }) => client.end(What::Release),
            _ => {}
        }
        let Some((left, token)) = begun else { return Ok(()) };
        client.phase = Phase::Holding { left, renewing: None };
        client.inbox = List::default();
        let holders = state.clients.iter().filter(Client::holds).count();
        if holders > 1 {
            return Err(format!("{holders} clients take the lock for theirs at the same time"));
        }
        if token <= state.highest {
            return Err("a token is not larger than that of the holder before".to_owned());
        }
        state.highest = token;
        Ok(())
    }

    /// A waiter reads its mail: how long it has the lock and by which token, if it does.
    fn read(&self, client: &mut Client, sent: u8, ticket: u8, mail: Mail) -> Option<(u8, u8)> {
        let granted = mail.granted.iter().find(|(of, _)| *of == ticket || self.is(Mutant::AnyTicket));
        let lasts = if self.is(Mutant::WholeLease) { LEASE } else { FIRST };
        let left = match self.is(Mutant::FromArrival) {
            true => lasts,
            false => lasts.saturating_sub(sent),
        };
        match granted {
            Some((_, token)) if left > 0 => return Some((left, token)),
            // It came late, or there is more to ask for.
            Some(_) => {}
            None if mail.free => {}
            None => return None,
        }
        client.phase = Phase::Asking { sent: None, mail: Mail::default() };
        None
    }
}

fn lose(client: &mut Client, push: bool) {
    let first = client.inbox.iter().position(|message| message.is_push() == push);
    if let Some(at) = first {
        client.inbox.remove(at);
    }
}
