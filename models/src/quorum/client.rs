//! The clients, and the network between them and the nodes.

use super::state::{Answer, Client, Known, Phase, Push, Request, Round, State, Told, What};
use super::{Act, Action, FIRST, LEASE, Mode, Mutant, NODES, OBEYED, Plan, Q, Quorum};

/// A step, being taken.
struct World<'a> {
    model: &'a Quorum,
    state: &'a mut State,
    /// What does not come promptly.
    mode: Mode,
    /// At which node.
    at: usize,
    /// Whether there was anything to come late.
    used: bool,
}

impl Quorum {
    /// What can happen to one client at one node, or at all nodes.
    pub(super) fn acts(&self, state: &State, number: usize, act: &mut dyn FnMut(Action)) {
        let client = state.get(number);
        let left = state.left;
        let slow = state.can(left.slow);
        let pushed = [(Mode::SlowPush, state.can(left.slow_push)), (Mode::LosePush, state.can(left.lose_push))];
        let mut all = |when: bool, node: usize, what: Act, modes: &[(Mode, bool)]| {
            for mode in [(Mode::Prompt, true)].iter().chain(modes).filter(|(_, may)| when && *may) {
                act(Action { client: number as u8, node: node as u8, act: what, mode: mode.0 });
            }
        };
        let dead = matches!(client.phase, Phase::Dead { .. });
        let room = state.nodes.iter().all(|node| node.links[number].has_room());
        let round = match client.phase {
            Phase::Holding { round, .. } => round.is_none_or(|round| round.age > 0) && room,
            _ => false,
        };
        let holds = client.holds();
        let earlier =
            (0..number).all(|other| state.get(other).plan != client.plan || state.get(other).phase != Phase::Idle);
        all(client.phase == Phase::Idle && earlier, 0, Act::Begin { skewed: false }, &[]);
        all(
            client.phase == Phase::Idle && earlier && state.begun > 0 && state.can(left.skew),
            0,
            Act::Begin { skewed: true },
            &[],
        );
        all(round, 0, Act::Renew, &[]);
        all(holds, 0, Act::Release, &pushed);
        all(client.phase == Phase::Wanting && !client.waits(), 0, Act::GiveUp, &pushed);
        all(client.waits() && state.can(left.cancel), 0, Act::Cancel, &[]);
        let busy = matches!(client.phase, Phase::Wanting | Phase::Holding { .. });
        all(busy && state.can(left.crash), 0, Act::Crash { noticed: true }, &[]);
        all(busy && state.can(left.crash), 0, Act::Crash { noticed: false }, &[]);
        let slow_request = (Mode::SlowRequest, slow);
        let slow_answer = (Mode::SlowAnswer, slow);
        for (at, node) in state.nodes.iter().enumerate() {
            let link = &node.links[number];
            let asks = client.phase == Phase::Wanting && !node.down && link.has_room();
            let yields = client.waits() && link.votes() && !self.is(Mutant::NoYield);
            let asks = asks && (link.asked > 0 || yields);
            all(asks, at, Act::Ask { yields }, &[slow_request, slow_answer, pushed[0], pushed[1]]);
            all(!link.out.is_empty(), at, Act::Serve, &[pushed[0], pushed[1]]);
            all(!link.stray.is_empty(), at, Act::ServeStray, &[pushed[0], pushed[1]]);
            all(!link.answers.is_empty() && !dead, at, Act::HearAnswer, &[]);
            all(!link.pushes.is_empty() && !dead, at, Act::HearPush, &[]);
            let traffic = !link.out.is_empty() || !link.answers.is_empty();
            all(traffic && state.can(left.break_off), at, Act::Break, &[]);
        }
        for at in (0..NODES).filter(|at| slow && !state.nodes[*at].down) {
            let mut late = |when: bool, what: Act, mode: Mode| {
                if when {
                    act(Action { client: number as u8, node: at as u8, act: what, mode });
                }
            };
            late(round, Act::Renew, Mode::SlowRequest);
            late(round, Act::Renew, Mode::SlowAnswer);
            late(holds, Act::Release, Mode::SlowRequest);
            late(client.phase == Phase::Wanting && !client.waits(), Act::GiveUp, Mode::SlowRequest);
            late(client.waits() && state.can(left.cancel) && state.together > 1, Act::Cancel, Mode::SlowRequest);
        }
    }

    /// Something happens.
    pub(super) fn act(&self, state: &mut State, action: Action) -> Result<(), String> {
        let Action { client, node, act, mode } = action;
        let (number, at) = (usize::from(client), usize::from(node));
        let mut world = World { model: self, state, mode, at, used: false };
        world.act(number, act)?;
        if world.used {
            count(state, mode);
        }
        Ok(())
    }
}

fn count(state: &mut State, mode: Mode) {
    let left = match mode {
        Mode::Prompt => return,
        Mode::SlowRequest | Mode::SlowAnswer => &mut state.left.slow,
        Mode::SlowPush => &mut state.left.slow_push,
        Mode::LosePush => &mut state.left.lose_push,
    };
    *left -= 1;
    state.together -= 1;
}

impl World<'_> {
    fn is(&self, mutant: Mutant) -> bool {
        self.model.is(mutant)
    }

    fn act(&mut self, number: usize, act: Act) -> Result<(), String> {
        self.count_fault(act);
        let at = self.at;
        match act {
            Act::Tick => return self.tick(),
            Act::Begin { skewed } => self.begin(number, skewed),
            Act::Ask { yields } => {
                let keeps = self.is(Mutant::VotesWhileYielding);
                let link = self.state.link(at, number);
                link.asked = 0;
                if yields && !keeps {
                    link.yielding = true;
                    link.taint = Some(OBEYED);
                    // What the clock showed before is of no use.
                    link.answers.iter_mut().for_each(|answer| answer.safe = false);
                    link.vote = 0;
                }
                let seq = self.state.nodes[at].next_number(number);
                return self.send(at, number, What::Ask { yields }, seq);
            }
            Act::Renew => {
                let client = self.state.client(number);
                if let Phase::Holding { round, .. } = &mut client.phase {
                    *round = Some(Round { age: 0, done: false });
                }
                for node in 0..NODES {
                    self.state.link(node, number).round = None;
                }
                for node in 0..NODES {
                    // Where it was lost by then, it would be given back next.
                    if self.state.get(number).holds() {
                        self.send(node, number, What::Renew, 0)?;
                    }
                }
            }
            Act::Release | Act::Cancel | Act::GiveUp => return self.end(number),
            Act::Serve => {
                self.mode_of_served();
                return self.serve(at, number);
            }
            Act::ServeStray => {
                if let Some(request) = self.state.link(at, number).stray.remove(0) {
                    self.state.untidy |= matches!(request.what, What::Ask { .. } | What::Fill);
                    let (_, pushes) = self.model.run(self.state, at, number, request);
                    return self.push(at, pushes);
                }
            }
            Act::HearAnswer => {
                if let Some(answer) = self.state.link(at, number).answers.remove(0) {
                    return self.hear(at, number, answer);
                }
            }
            Act::HearPush => {
                if let Some(push) = self.state.link(at, number).pushes.remove(0) {
                    return self.hear_push(at, number, push);
                }
            }
            Act::Break => {
                let ignores = self.is(Mutant::IgnoresTaint);
                let link = self.state.link(at, number);
                link.out.iter().for_each(|request| link.stray.push(request));
                link.out.retain(|_| false);
                link.answers.retain(|_| false);
                link.pushes.retain(|_| false);
                // Whether a question with yield is obeyed is not known.
                link.yielding = false;
                if ignores {
                    link.taint = None;
                }
                (link.vote, link.known) = (0, None);
                link.asked = 1;
                // Whether it came through is not known, so it is sent once more.
                if link.stray.iter().any(|request| request.what == What::Release) {
                    return self.send(at, number, What::Release, 0);
                }
            }
            Act::Crash { noticed } => {
                self.state.untidy = true;
                self.state.client(number).phase = Phase::Dead { noticed };
                (0..NODES).for_each(|node| self.state.link(node, number).forget());
            }
            Act::Down => self.state.nodes[at].down = true,
            Act::Up => self.state.nodes[at].down = false,
            Act::Restart => {
                let none = self.is(Mutant::NoQuarantine);
                let node = &mut self.state.nodes[at];
                node.lock = None;
                node.quarantine = if none { 0 } else { LEASE };
                for link in &mut node.links {
                    link.entry = None;
                    link.out.retain(|_| false);
                    link.stray.retain(|_| false);
                }
                self.state.untidy = true;
            }
            Act::Step { by, noticed } => {
                let node = &mut self.state.nodes[at];
                node.pass(by);
                if noticed && !self.model.is(Mutant::NoQuarantine) {
                    node.quarantine = LEASE;
                }
            }
            Act::Vanish => {
                if let Some(lock) = self.state.nodes[at].lock.take() {
                    let owner = usize::from(lock.owner);
                    let was_full = self.state.nodes.iter().all(|node| node.links[owner].round == Some(true));
                    let client = self.state.client(owner);
                    (client.robbed, client.was_full) = (true, was_full && client.holds());
                }
            }
        }
        Ok(())
    }

    /// What is served late has its answer promptly.
    fn mode_of_served(&mut self) {
        if matches!(self.mode, Mode::SlowRequest | Mode::SlowAnswer) {
            self.mode = Mode::Prompt;
        }
    }

    fn count_fault(&mut self, act: Act) {
        let left = &mut self.state.left;
        let left = match act {
            Act::Begin { skewed: true } => &mut left.skew,
            Act::Cancel => &mut left.cancel,
            Act::Break => &mut left.break_off,
            Act::Crash { .. } => &mut left.crash,
            Act::Down => &mut left.down,
            Act::Restart => &mut left.restart,
            Act::Step { noticed: true, .. } => &mut left.step,
            Act::Step { noticed: false, .. } => &mut left.step_unnoticed,
            Act::Vanish => &mut left.vanish,
            _ => return,
        };
        // The rest of a state's way to its end has no faults of these kinds.
        *left -= 1;
        self.state.together -= 1;
    }

    fn tick(&mut self) -> Result<(), String> {
        self.state.tick();
        for number in 0..self.state.clients.len() {
            let client = self.state.client(number);
            if let Phase::Holding { left, round } = &mut client.phase {
                *left -= 1;
                *round = round.filter(|round| round.age + 1 < LEASE).map(|round| Round { age: round.age + 1, ..round });
                if *left == 0 {
                    self.end(number)?;
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, number: usize, skewed: bool) {
        let mut before = 0;
        for other in (0..self.state.clients.len()).filter(|other| self.state.get(*other).waits()) {
            let stands = |node: &&super::state::Node| {
                let link = &node.links[other];
                let owns = node.lock.is_some_and(|lock| usize::from(lock.owner) == other);
                owns && (link.vote > 0 || !link.pushes.is_empty()) || link.entry.is_some() && link.known.is_some()
            };
            if self.state.nodes.iter().filter(stands).count() >= Q {
                before |= 1 << other;
            }
        }
        self.state.begun += 1;
        // 0 is for those who hold.
        let ticket = if skewed { 2 * self.state.begun - 3 } else { 2 * self.state.begun };
        let client = self.state.client(number);
        client.after = before;
        client.ticket = ticket;
        client.phase = Phase::Wanting;
    }

    /// The attempt is over. What it had is given back.
    fn end(&mut self, number: usize) -> Result<(), String> {
        let client = self.state.client(number);
        client.phase = Phase::Done;
        (client.rivalled, client.robbed, client.was_full) = (false, false, false);
        client.after = 0;
        for node in 0..NODES {
            self.state.link(node, number).forget();
        }
        (0..NODES).try_for_each(|node| self.send(node, number, What::Release, 0))
    }

    fn send(&mut self, node: usize, number: usize, what: What, seq: u8) -> Result<(), String> {
        if self.state.nodes[node].down {
            self.state.untidy |= matches!(what, What::Release);
            return Ok(());
        }
        let link = self.state.link(node, number);
        let first = link.out.is_empty();
        let rest = if what == (What::Ask { yields: true }) { OBEYED } else { 0 };
        link.out.push(Request { what, seq, rest, age: 0 });
        if first && node == self.at && self.mode == Mode::SlowRequest {
            self.used = true;
            return Ok(());
        }
        if first { self.serve(node, number) } else { Ok(()) }
    }

    fn serve(&mut self, node: usize, number: usize) -> Result<(), String> {
        let Some(request) = self.state.link(node, number).out.remove(0) else { return Ok(()) };
        if self.state.nodes[node].down {
            self.state.untidy |= matches!(request.what, What::Release);
            return Ok(());
        }
        let (answer, pushes) = self.model.run(self.state, node, number, request);
        self.push(node, pushes)?;
        let Some(answer) = answer else { return Ok(()) };
        if !matches!(self.state.get(number).phase, Phase::Wanting | Phase::Holding { .. }) {
            return Ok(());
        }
        let slow = self.mode == Mode::SlowAnswer && self.at == node;
        let link = self.state.link(node, number);
        if slow || !link.answers.is_empty() {
            self.used |= slow;
            link.answers.push(answer);
            return Ok(());
        }
        self.hear(node, number, answer)
    }

    fn push(&mut self, node: usize, pushes: super::node::Pushes) -> Result<(), String> {
        for (to, push) in pushes.iter() {
            let to = usize::from(to);
            if self.state.get(to).phase != Phase::Wanting {
                continue;
            }
            match self.mode {
                Mode::LosePush => self.used = true,
                Mode::SlowPush => {
                    self.used = true;
                    self.state.link(node, to).pushes.push(push);
                }
                _ => self.hear_push(node, to, push)?,
            }
        }
        Ok(())
    }

    fn hear(&mut self, node: usize, number: usize, answer: Answer) -> Result<(), String> {
        let Client { phase, plan, .. } = self.state.get(number);
        let waits = plan == Plan::Wait;
        let given = if waits && !self.is(Mutant::WholeLease) { FIRST } else { LEASE };
        match (answer.told, phase) {
            (Told::Ours, Phase::Holding { .. }) => {
                // It came after there was a quorum without it.
                let link = self.state.link(node, number);
                link.counted |= !answer.quarantine && (link.taint.is_none() || answer.safe);
                Ok(())
            }
            (Told::Renewed { mine }, Phase::Holding { left, round: Some(round) }) if round.age == answer.age => {
                let link = self.state.link(node, number);
                if answer.safe {
                    link.taint = None;
                }
                // It may be undone, so it counts for nothing.
                if mine && link.is_tainted() {
                    return Ok(());
                }
                self.renewed(node, number, left, round, mine)
            }
            (Told::Ours | Told::Others { .. }, Phase::Wanting) => {
                let link = self.state.link(node, number);
                if answer.yields || answer.safe && !link.yielding {
                    (link.yielding, link.taint) = (false, None);
                }
                link.known = None;
                link.vote = 0;
                match answer.told {
                    Told::Others { place } => {
                        let left = FIRST.saturating_sub(answer.age);
                        if waits && left > 0 {
                            link.known = Some(Known { place, left, quarantine: answer.quarantine });
                        }
                    }
                    _ if answer.quarantine || link.is_tainted() => {}
                    _ => link.vote = given.saturating_sub(answer.age),
                }
                self.take(number)
            }
            _ => Ok(()),
        }
    }

    fn hear_push(&mut self, node: usize, number: usize, push: Push) -> Result<(), String> {
        let (any, arrival) = (self.is(Mutant::AnyPlace), self.is(Mutant::FromArrival));
        let waits = self.state.get(number).waits();
        let link = self.state.link(node, number);
        let Some(known) = link.known else { return Ok(()) };
        if !waits || !(known.place == push.place || any) {
            return Ok(());
        }
        link.known = None;
        if !push.quarantine && !known.quarantine && !link.is_tainted() {
            link.vote = if arrival { FIRST } else { known.left };
        }
        self.take(number)
    }

    /// With enough votes the lock is its own.
    fn take(&mut self, number: usize) -> Result<(), String> {
        if self.state.votes(number) < Q {
            return Ok(());
        }
        let forgets = self.is(Mutant::IgnoresTaint) || self.is(Mutant::ForgetsTaint);
        let mut lefts = [0; NODES];
        for (node, left) in lefts.iter_mut().enumerate() {
            let link = self.state.link(node, number);
            let votes = link.votes();
            *left = if votes { link.vote } else { 0 };
            *link = super::state::Link { entry: link.entry, out: link.out, stray: link.stray, ..*link };
            (link.counted, link.vote, link.known, link.yielding, link.asked) = (votes, 0, None, false, 1);
            link.pushes.retain(|_| false);
            if forgets {
                link.taint = None;
            }
        }
        lefts.sort_unstable();
        let client = self.state.client(number);
        let after = client.after;
        client.phase = Phase::Holding { left: lefts[NODES - Q], round: None };
        client.after = 0;
        if self.model.setup.ordered
            && (0..self.state.clients.len()).any(|o| after >> o & 1 == 1 && self.state.get(o).waits())
        {
            return Err("a waiter was overtaken".to_owned());
        }
        let holders = self.state.clients.iter().filter(Client::holds).count();
        if self.model.setup.faults.vanish > 0 {
            if holders > 1 && self.state.clients.iter().any(|client| client.was_full && client.holds()) {
                return Err("one key of three was deleted, and another takes the lock".to_owned());
            }
            // This cannot be prevented, but must not go on.
            for client in self.state.clients.iter_mut().filter(|client| holders > 1 && client.holds()) {
                client.rivalled |= client.robbed;
            }
            return Ok(());
        }
        if holders > 1 { Err(format!("{holders} clients take the lock for theirs at the same time")) } else { Ok(()) }
    }

    /// A node has said whether the lock is still the holder's.
    fn renewed(&mut self, node: usize, number: usize, left: u8, round: Round, mine: bool) -> Result<(), String> {
        self.state.link(node, number).round = Some(mine);
        let (mut still, mut open) = (0, 0);
        for node in &self.state.nodes {
            let link = &node.links[number];
            still += usize::from(link.counted && link.round == Some(true));
            open += usize::from(link.counted && link.round != Some(false));
        }
        let done = round.done || still >= Q;
        let own = self.is(Mutant::CountsFilled);
        if !done && !own && open < Q {
            return self.end(number);
        }
        let mut client = self.state.get(number);
        let new = if done && !round.done { left.max(LEASE - round.age) } else { left };
        if done && !round.done && client.rivalled {
            return Err("a hold is renewed although another had the lock meanwhile".to_owned());
        }
        client.phase = Phase::Holding { left: new, round: Some(Round { done, ..round }) };
        *self.state.client(number) = client;
        for at in 0..NODES {
            let link = self.state.link(at, number);
            match link.round {
                Some(true) if done => link.counted = true,
                Some(false) if own => {
                    // A filled node counts at once, whatever the others said.
                    link.round = None;
                    let seq = self.state.nodes[at].next_number(number);
                    self.send(at, number, What::Fill, seq)?;
                    let lock = self.state.nodes[at].lock;
                    if lock.is_some_and(|lock| usize::from(lock.owner) == number) {
                        self.state.link(at, number).counted = true;
                        return self.renewed(at, number, new, Round { done, ..round }, true);
                    }
                    self.state.link(at, number).counted = false;
                }
                Some(false) => {
                    link.counted = false;
                    let fresh = at == node || !round.done;
                    if done && fresh && link.out.len() < 3 {
                        let seq = self.state.nodes[at].next_number(number);
                        self.send(at, number, What::Fill, seq)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
