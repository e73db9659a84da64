//! The side of the database: sessions, each with a thread.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::locks::{Ended, ILLEGAL_HANDLE, Locks, PARAMETER, Seen};
use super::plsql::{self, Arguments, OraError, Packages, Val};
use super::rights::Rights;

/// The values of IN binds, by their names.
type Ins = HashMap<String, Val>;
/// OUT binds, with their types.
type Outs = Vec<(String, String)>;

/// The longest name of a lock, in bytes.
const LONGEST: usize = 128;

/// A text that was run, by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) session: u64,
    pub(crate) text: String,
}

#[derive(Debug)]
struct Session {
    serial: u64,
    user: String,
    module: String,
    stream: TcpStream,
    /// Nothing that it sends or is sent goes through.
    is_muted: bool,
    is_killed: bool,
    commits: u64,
}

#[derive(Debug, Default)]
struct State {
    rights: Rights,
    sessions: HashMap<u64, Session>,
    sequences: HashMap<String, i64>,
    log: Vec<Statement>,
    /// What the next block is answered instead.
    failing: Option<OraError>,
    /// The session that next runs a block with this in it is muted, once that is done.
    muting: Option<&'static str>,
    /// So many log-ins from now on have no answer; and so many wait for one.
    hanging: (usize, usize),
}

/// A database on the loopback. Its sessions end with it.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) port: u16,
    pub(crate) locks: Locks,
    state: Mutex<State>,
    thawed: Condvar,
    is_frozen: AtomicBool,
    is_down: AtomicBool,
    numbers: AtomicU64,
}

/// Ends the database when a test is done with it.
#[derive(Debug)]
pub(crate) struct Running(Arc<Database>);

impl std::ops::Deref for Running {
    type Target = Arc<Database>;

    fn deref(&self) -> &Arc<Database> {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.is_down.store(true, Ordering::SeqCst);
        self.0.thaw();
        let sessions: Vec<u64> = self.0.state().sessions.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.0.cut(session));
        // Wakes the thread that accepts; if that can't be reached, it is gone already.
        drop(TcpStream::connect(("127.0.0.1", self.0.port)));
    }
}

impl Database {
    pub(crate) fn start() -> Running {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let database = Arc::new(Self {
            port,
            locks: Locks::default(),
            state: Mutex::default(),
            thawed: Condvar::new(),
            is_frozen: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
            numbers: AtomicU64::new(10),
        });
        let accepting = database.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.is_down.load(Ordering::SeqCst) {
                    return;
                }
                let database = accepting.clone();
                std::thread::spawn(move || database.serve(stream));
            }
        });
        Running(database)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn rights(&self, change: impl FnOnce(&mut Rights)) {
        change(&mut self.state().rights);
    }

    /// The next block is answered by this error.
    pub(crate) fn fail_next(&self, code: u32, message: &str) {
        self.state().failing = Some(OraError(code, message.to_owned()));
    }

    /// The session that next runs a block with this in it has no answer, and is muted from then on.
    pub(crate) fn mute_at(&self, text: &'static str) {
        self.state().muting = Some(text);
    }

    /// Somebody drops all sequences.
    pub(crate) fn drop_sequences(&self) {
        self.state().sequences.clear();
    }

    /// So many log-ins from now on have no answer as long as the database is there.
    pub(crate) fn hang_log_ins(&self, count: usize) {
        self.state().hanging.0 = count;
    }

    /// How many log-ins wait for an answer in vain.
    pub(crate) fn hanging_log_ins(&self) -> usize {
        self.state().hanging.1
    }

    /// Whether this log-in hangs; then it has.
    fn hangs(&self) -> bool {
        {
            let mut state = self.state();
            if state.hanging.0 == 0 {
                return false;
            }
            state.hanging = (state.hanging.0 - 1, state.hanging.1 + 1);
        }
        while !self.is_down.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// All sessions of this module.
    pub(crate) fn sessions_of(&self, module: &str) -> Vec<u64> {
        let state = self.state();
        state.sessions.iter().filter(|(_, session)| session.module == module).map(|(sid, _)| *sid).collect()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.state().sessions.len()
    }

    /// How often a transaction of this session was committed.
    pub(crate) fn commits(&self, session: u64) -> u64 {
        self.state().sessions.get(&session).map_or(0, |session| session.commits)
    }

    /// The texts that were run, in order.
    pub(crate) fn log(&self) -> Vec<Statement> {
        self.state().log.clone()
    }

    /// Who holds a lock of this name.
    pub(crate) fn holders(&self, name: &str) -> Vec<u64> {
        let seen = self.locks.seen_of(name).into_iter().filter(|seen| seen.held.is_some());
        seen.map(|seen| seen.session).collect()
    }

    /// Who holds or awaits what begins so.
    pub(crate) fn seen(&self, start: &str) -> Vec<Seen> {
        self.locks.seen().into_iter().filter(|seen| seen.name.starts_with(start)).collect()
    }

    /// Ends a session as an administrator does; it is told at its next call.
    pub(crate) fn kill(&self, session: u64) {
        if let Some(session) = self.state().sessions.get_mut(&session) {
            session.is_killed = true;
        }
        self.locks.end(session);
        self.thawed.notify_all();
    }

    /// The connection is closed, as when the database ends.
    pub(crate) fn cut(&self, session: u64) {
        if let Some(session) = self.state().sessions.get(&session) {
            // One that is closed already is cut.
            let _ = session.stream.shutdown(Shutdown::Both);
        }
        self.locks.end(session);
    }

    /// Nothing goes through to this session and back, and neither side notices; its locks stay.
    pub(crate) fn mute(&self, session: u64) {
        if let Some(session) = self.state().sessions.get_mut(&session) {
            session.is_muted = true;
        }
    }

    /// The database does nothing any more, and closes nothing.
    pub(crate) fn freeze(&self) {
        self.is_frozen.store(true, Ordering::SeqCst);
    }

    pub(crate) fn thaw(&self) {
        self.is_frozen.store(false, Ordering::SeqCst);
        let _state = self.state();
        self.thawed.notify_all();
    }

    /// Waits as long as nothing goes through; whether the session is still there then.
    fn goes_through(&self, session: u64) -> bool {
        let mut state = self.state();
        loop {
            let is_muted = state.sessions.get(&session).is_some_and(|session| session.is_muted);
            if self.is_down.load(Ordering::SeqCst) {
                return false;
            }
            if !is_muted && !self.is_frozen.load(Ordering::SeqCst) {
                return true;
            }
            // A session that is muted is looked after now and then: its end is no news to this condition.
            state =
                self.thawed.wait_timeout(state, Duration::from_millis(50)).unwrap_or_else(PoisonError::into_inner).0;
            if is_muted && state.sessions.get(&session).is_some_and(|session| session.is_killed) {
                return false;
            }
        }
    }

    fn serve(self: Arc<Self>, stream: TcpStream) {
        let sid = self.numbers.fetch_add(1, Ordering::SeqCst);
        let serial = 1000 + sid;
        // A connection that is gone already is no session.
        let Ok(reading) = stream.try_clone() else { return };
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let mut lines = BufReader::new(reading).lines();
        let mut writing = stream;
        while let Some(Ok(line)) = lines.next() {
            if !self.goes_through(sid) {
                break;
            }
            let question: Json = serde_json::from_str(&line).expect("the driver speaks JSON");
            if question["do"] == "login" && self.hangs() {
                break;
            }
            let answer = match question["do"].as_str() {
                Some("login") => self.log_in(sid, serial, &question, &writing),
                _ if self.is_killed(sid) => Err(OraError(28, "ORA-00028: your session has been killed".into())),
                Some("ping") => Ok(json!({})),
                Some("logoff") => {
                    self.end(sid);
                    Ok(json!({}))
                }
                Some("run") => self.run(sid, &question),
                Some("query") => self.query(sid, &question).map(|rows| json!({"rows": rows})),
                _ => panic!("the driver asks for nothing: {question}"),
            };
            if !self.goes_through(sid) {
                break;
            }
            let answer = answer.unwrap_or_else(|OraError(code, message)| json!({"error": code, "message": message}));
            if writing.write_all(format!("{answer}\n").as_bytes()).is_err() {
                break;
            }
        }
        self.end(sid);
    }

    fn end(&self, sid: u64) {
        self.state().sessions.remove(&sid);
        self.locks.end(sid);
    }

    fn is_killed(&self, sid: u64) -> bool {
        self.state().sessions.get(&sid).is_none_or(|session| session.is_killed)
    }

    fn log_in(&self, sid: u64, serial: u64, question: &Json, stream: &TcpStream) -> Result<Json, OraError> {
        let mut state = self.state();
        if question["password"] != "app" {
            return Err(OraError(1017, "ORA-01017: invalid username/password; logon denied".into()));
        }
        if !state.rights.create_session {
            return Err(OraError(1045, "ORA-01045: user APP lacks CREATE SESSION privilege; logon denied".into()));
        }
        let stream = stream.try_clone().map_err(|error| OraError(3113, error.to_string()))?;
        let user = question["user"].as_str().unwrap_or_default().to_owned();
        let session =
            Session { serial, user, module: String::new(), stream, is_muted: false, is_killed: false, commits: 0 };
        state.sessions.insert(sid, session);
        Ok(json!({"serial": serial}))
    }

    /// The binds of a text, checked: all are given, in the order in which they first stand there.
    fn bound(question: &Json) -> Result<(Ins, Outs), OraError> {
        let text = question["text"].as_str().unwrap_or_default();
        let given = question["binds"].as_array().cloned().unwrap_or_default();
        let name = |bind: &Json| bind["name"].as_str().unwrap_or_default().to_uppercase();
        let (wanted, names) = (plsql::binds(text)?, given.iter().map(name).collect::<Vec<_>>());
        if wanted != names {
            return Err(OraError(1008, format!("ORA-01008: the text has the binds {wanted:?}, {names:?} were given")));
        }
        let (mut ins, mut outs) = (HashMap::new(), Vec::new());
        for bind in &given {
            match bind["out"].as_str() {
                Some(of) => outs.push((name(bind), of.to_owned())),
                None => {
                    let value = match &bind["in"] {
                        Json::Number(number) => Val::Number(number.as_i64().unwrap_or_default()),
                        // A text of no length is nothing to this database.
                        Json::String(text) if !text.is_empty() => Val::Text(text.clone()),
                        _ => Val::Null,
                    };
                    ins.insert(name(bind), value);
                }
            }
        }
        Ok((ins, outs))
    }

    fn run(&self, sid: u64, question: &Json) -> Result<Json, OraError> {
        let text = question["text"].as_str().unwrap_or_default();
        let failing = {
            let mut state = self.state();
            state.log.push(Statement { session: sid, text: text.to_owned() });
            state.failing.take()
        };
        if let Some(error) = failing {
            return Err(error);
        }
        // A package that the user may not see is missed before anything is run.
        if text.contains("DBMS_LOCK") && !self.state().rights.dbms_lock {
            let message = "ORA-06550: line 1, column 18:\nPLS-00201: identifier 'SYS.DBMS_LOCK' must be declared\n\
                           ORA-06550: line 1, column 7:\nPL/SQL: Statement ignored";
            return Err(OraError(6550, message.into()));
        }
        let (ins, outs) = Self::bound(question)?;
        let mut values = plsql::run(text, &ins, &mut OfSession { database: self, sid })?;
        let out = |(name, of): &(String, String)| {
            Ok(match (values.remove(name), of.as_str()) {
                (None | Some(Val::Null), _) => Json::Null,
                (Some(value), "NUMBER") => json!(value.number()?),
                (Some(value), _) => json!(value.text()?),
            })
        };
        let outs: Vec<Json> = outs.iter().map(out).collect::<Result<_, OraError>>()?;
        let is_muted = self.state().muting.take_if(|muting| text.contains(*muting)).is_some();
        if is_muted {
            self.mute(sid);
        }
        Ok(json!({"outs": outs}))
    }

    fn query(&self, sid: u64, question: &Json) -> Result<Vec<Json>, OraError> {
        let (ins, _) = Self::bound(question)?;
        let text = question["text"].as_str().unwrap_or_default();
        let state = self.state();
        let missing = || OraError(942, "ORA-00942: table or view does not exist".into());
        let name = ins.get("NAME").and_then(|name| name.text().ok());
        if text.contains("FROM sys.dbms_lock_allocated a JOIN gv$lock l") {
            if !state.rights.views {
                return Err(missing());
            }
            let seen = name.as_ref().map_or_else(|| self.locks.seen(), |name| self.locks.seen_of(name)).into_iter();
            let row = |seen: Seen| {
                let session = state.sessions.get(&seen.session)?;
                Some(json!([
                    seen.name,
                    seen.held.unwrap_or(0),
                    seen.asked.unwrap_or(0),
                    seen.since.as_secs(),
                    seen.session,
                    session.serial,
                    1,
                    session.user,
                    "localhost",
                    "tests",
                    session.module,
                ]))
            };
            return Ok(seen.filter_map(row).collect());
        }
        if text.contains("FROM user_resource_limits") {
            let names = ["CONNECT_TIME", "IDLE_TIME", "SESSIONS_PER_USER"];
            return Ok(names.iter().zip(state.rights.limits).map(|(name, limit)| json!([name, limit])).collect());
        }
        if text.contains("FROM v$session WHERE sid = SYS_CONTEXT") {
            return match state.rights.views && state.sessions.contains_key(&sid) {
                true => Ok(vec![json!([state.rights.failover, "NO"])]),
                false => Err(missing()),
            };
        }
        if text.contains("FROM nls_database_parameters") {
            return Ok(vec![json!([state.rights.character_set])]);
        }
        if text.contains("FROM product_component_version") {
            return Ok(vec![json!(["19.0.0.0.0"])]);
        }
        if text.contains("FROM user_sequences") {
            let is_there = name.is_some_and(|name| state.sequences.contains_key(&format!("\"{name}\"")));
            return Ok(if is_there { vec![json!(["Y"])] } else { Vec::new() });
        }
        Err(OraError(900, format!("ORA-00900: the tests' database has no answer to {text}")))
    }

    /// Waits until this is so.
    pub(crate) fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !so(self) {
            assert!(start.elapsed() < Duration::from_secs(30), "never: {what}: {:?}", self.locks.seen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The packages as one session sees them.
struct OfSession<'a> {
    database: &'a Database,
    sid: u64,
}

impl OfSession<'_> {
    /// Handles are the session's own: the documentation says not to pass them on.
    fn handle(&self, id: i64) -> String {
        format!("{id}{:08}", self.sid)
    }

    /// The lock that is meant: by its handle, or by the number that a program has for it.
    fn lock(&self, arguments: &Arguments) -> Result<Result<i64, i64>, OraError> {
        if let Some(id) = arguments.named.get("ID") {
            let id = id.number()?;
            return Ok(if (0..=1_073_741_823).contains(&id) { Ok(id) } else { Err(PARAMETER) });
        }
        let handle = arguments.get("LOCKHANDLE")?.text()?;
        let id = handle.get(..10).and_then(|id| id.parse().ok()).filter(|id| self.handle(*id) == handle);
        Ok(id.ok_or(ILLEGAL_HANDLE))
    }
}

fn ended(_: Ended) -> OraError {
    OraError(28, "ORA-00028: your session has been killed".into())
}

impl Packages for OfSession<'_> {
    fn call(&mut self, name: &str, arguments: &Arguments) -> Result<(Val, Vec<(String, Val)>), OraError> {
        let locks = &self.database.locks;
        let returned = |answer: i64| Ok((Val::Number(answer), Vec::new()));
        match name {
            "SYS.DBMS_LOCK.ALLOCATE_UNIQUE" => {
                let name = arguments.get("LOCKNAME")?.text()?;
                arguments.get("LOCKHANDLE")?;
                if name.len() > LONGEST {
                    return Err(OraError(
                        6502,
                        "ORA-06502: PL/SQL: numeric or value error: the name is too long".into(),
                    ));
                }
                // It commits, which is why it must not be called in anybody's transaction.
                if let Some(session) = self.database.state().sessions.get_mut(&self.sid) {
                    session.commits += 1;
                }
                let handle = self.handle(locks.allocate(&name));
                Ok((Val::Null, vec![("LOCKHANDLE".into(), Val::Text(handle))]))
            }
            "SYS.DBMS_LOCK.REQUEST" => {
                let (mode, timeout) = (arguments.get("LOCKMODE")?.number()?, arguments.get("TIMEOUT")?.number()?);
                if arguments.get("RELEASE_ON_COMMIT")? != &Val::Boolean(false) {
                    return Err(OraError(6550, "the holds of these tests outlive transactions".into()));
                }
                match self.lock(arguments)? {
                    Ok(id) => returned(locks.request(self.sid, id, mode, timeout).map_err(ended)?),
                    Err(answer) => returned(answer),
                }
            }
            "SYS.DBMS_LOCK.CONVERT" => {
                let (mode, timeout) = (arguments.get("LOCKMODE")?.number()?, arguments.get("TIMEOUT")?.number()?);
                match self.lock(arguments)? {
                    Ok(id) => returned(locks.convert(self.sid, id, mode, timeout).map_err(ended)?),
                    Err(answer) => returned(answer),
                }
            }
            "SYS.DBMS_LOCK.RELEASE" => match self.lock(arguments)? {
                Ok(id) => returned(locks.release(self.sid, id)),
                Err(answer) => returned(answer),
            },
            "SYS.DBMS_APPLICATION_INFO.SET_MODULE" => {
                let module = arguments.get("MODULE_NAME")?.text()?;
                if let Some(session) = self.database.state().sessions.get_mut(&self.sid) {
                    session.module = module;
                }
                Ok((Val::Null, Vec::new()))
            }
            "SYS_CONTEXT" => {
                let [Val::Text(of), Val::Text(what)] = arguments.positional.as_slice() else {
                    return Err(OraError(6550, "PLS-00306: SYS_CONTEXT".into()));
                };
                let value = match (of.as_str(), what.as_str()) {
                    ("USERENV", "SID") => self.sid.to_string(),
                    ("USERENV", "INSTANCE") => "1".to_owned(),
                    ("USERENV", "DATABASE_ROLE") => self.database.state().rights.role.to_owned(),
                    _ => return Err(OraError(2003, "ORA-02003: invalid USERENV parameter".into())),
                };
                Ok((Val::Text(value), Vec::new()))
            }
            other => Err(OraError(6550, format!("PLS-00201: identifier '{other}' must be declared"))),
        }
    }

    fn execute(&mut self, sql: &str) -> Result<Val, OraError> {
        let words: Vec<&str> = sql.split_whitespace().collect();
        let mut state = self.database.state();
        match words.as_slice() {
            ["ALTER", "SESSION", "SET", "NLS_COMP=BINARY", "NLS_SORT=BINARY"] => Ok(Val::Null),
            ["SELECT", of, "FROM", "DUAL"] => {
                let sequence = of.strip_suffix(".NEXTVAL").ok_or(OraError(904, "ORA-00904".into()))?;
                let next = state.sequences.get_mut(sequence);
                let next = next.ok_or(OraError(2289, "ORA-02289: sequence does not exist".into()))?;
                *next += 1;
                Ok(Val::Number(*next))
            }
            [
                "CREATE",
                "SEQUENCE",
                sequence,
                "START",
                "WITH",
                first,
                "INCREMENT",
                "BY",
                "1",
                "NOCYCLE",
                "CACHE",
                "20",
                "ORDER",
            ] => {
                if !state.rights.create_sequence {
                    return Err(OraError(1031, "ORA-01031: insufficient privileges".into()));
                }
                if state.sequences.contains_key(*sequence) {
                    return Err(OraError(955, "ORA-00955: name is already used by an existing object".into()));
                }
                let first: i64 = first.parse().map_err(|_| OraError(1722, "ORA-01722: invalid number".into()))?;
                state.sequences.insert((*sequence).to_owned(), first - 1);
                Ok(Val::Null)
            }
            ["ALTER", "SYSTEM", "KILL", "SESSION", which, "IMMEDIATE"] => {
                if !state.rights.alter_system {
                    return Err(OraError(1031, "ORA-01031: insufficient privileges".into()));
                }
                let numbers: Vec<u64> = which
                    .trim_matches('\'')
                    .split(',')
                    .filter_map(|part| part.trim_start_matches('@').parse().ok())
                    .collect();
                let [sid, serial, 1] = numbers[..] else {
                    return Err(OraError(26, "ORA-00026: missing or invalid session ID".into()));
                };
                if sid == self.sid {
                    return Err(OraError(27, "ORA-00027: cannot kill current session".into()));
                }
                if state.sessions.get(&sid).is_none_or(|session| session.serial != serial || session.is_killed) {
                    return Err(OraError(30, "ORA-00030: User session ID does not exist.".into()));
                }
                drop(state);
                self.database.kill(sid);
                Ok(Val::Null)
            }
            _ => Err(OraError(900, format!("ORA-00900: invalid SQL statement: {sql}"))),
        }
    }
}
