//! The proxy loses, delays and cuts what it is told to, and nothing else.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pilotman_testkit::proxy::{Cut, Flow, Proxy};

const LONG: Duration = Duration::from_secs(20);
/// Long enough for what must not come to have come.
const SHORT: Duration = Duration::from_millis(150);

/// Answers each line with the same line in capitals, and remembers it.
struct Server {
    port: u16,
    lines: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, lines: Arc::default(), ended: Arc::default() };
        let (lines, ended) = (server.lines.clone(), server.ended.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, lines, ended) = (stream.unwrap(), lines.clone(), ended.clone());
                thread::spawn(move || {
                    serve(stream, &lines);
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, lines: &Mutex<Vec<String>>) {
    let mut line = Vec::new();
    let mut byte = [0];
    while matches!(stream.read(&mut byte), Ok(1)) {
        line.push(byte[0]);
        if byte[0] == b'\n' {
            let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
            lines.lock().unwrap().push(text.trim().to_owned());
            if stream.write_all(text.to_uppercase().as_bytes()).is_err() {
                return;
            }
        }
    }
}

struct Client(TcpStream);

impl Client {
    fn connect(proxy: &Proxy) -> Self {
        Self(TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap())
    }

    fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    fn receive(&mut self, length: usize, within: Duration) -> io::Result<String> {
        self.0.set_read_timeout(Some(within)).unwrap();
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[track_caller]
    fn asks(&mut self, line: &str) {
        self.send(&format!("{line}\n"));
        assert_eq!(self.receive(line.len() + 1, LONG).unwrap(), format!("{}\n", line.to_uppercase()));
    }

    #[track_caller]
    fn hears_nothing(&mut self) {
        let error = self.receive(1, SHORT).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    }

    /// How the connection ended.
    fn end(&mut self) -> ErrorKind {
        self.receive(1, LONG).unwrap_err().kind()
    }
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "not in time: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn both() -> (Server, Proxy) {
    let server = Server::start();
    let proxy = Proxy::before(server.port).unwrap();
    (server, proxy)
}

#[test]
fn everything_passes_and_is_counted() {
    let (server, proxy) = both();
    let mut clients = [Client::connect(&proxy), Client::connect(&proxy)];
    for client in &mut clients {
        client.asks("hello");
    }
    assert_eq!((proxy.connections(), proxy.open_connections()), (2, 2));
    assert_eq!((proxy.request_bytes(), proxy.reply_bytes()), (12, 12));
    assert_eq!(server.lines(), ["hello", "hello"]);
    drop(clients);
    eventually("the server hears of the ends", || server.ended.load(Ordering::SeqCst) == 2);
    eventually("nothing is open", || proxy.open_connections() == 0);
    assert_eq!(proxy.connections(), 2);
}

#[test]
fn much_passes_in_both_directions() {
    let (_server, proxy) = both();
    let mut client = Client::connect(&proxy);
    let line = format!("{}\n", "x".repeat(999));
    let mut sender = Client(client.0.try_clone().unwrap());
    let text = line.repeat(1000);
    let sending = thread::spawn(move || sender.send(&text));
    let answer = client.receive(1_000_000, LONG).unwrap();
    sending.join().unwrap();
    assert!(answer == line.to_uppercase().repeat(1000));
}

#[test]
fn dropped_replies_never_come_though_the_server_did_the_work() {
    let (server, proxy) = both();
    let mut client = Client::connect(&proxy);
    client.asks("one");
    proxy.replies(Flow::Drop);
    client.send("two\n");
    eventually("the server got it", || server.lines().len() == 2);
    client.hears_nothing();
    proxy.pass().unwrap();
    client.asks("three");
}

#[test]
fn dropped_requests_never_reach_the_server() {
    let (server, proxy) = both();
    let mut client = Client::connect(&proxy);
    client.asks("one");
    proxy.requests(Flow::Drop);
    client.send("two\n");
    client.hears_nothing();
    proxy.requests(Flow::Pass);
    client.asks("three");
    assert_eq!(server.lines(), ["one", "three"]);
}

#[test]
fn what_is_held_comes_later() {
    let (server, proxy) = both();
    let mut client = Client::connect(&proxy);
    proxy.requests(Flow::Hold);
    client.send("one\n");
    client.hears_nothing();
    assert!(server.lines().is_empty());
    proxy.replies(Flow::Hold);
    proxy.requests(Flow::Pass);
    eventually("the server got it", || server.lines().len() == 1);
    client.hears_nothing();
    proxy.pass().unwrap();
    assert_eq!(client.receive(4, LONG).unwrap(), "ONE\n");
}

#[test]
fn a_delay_counts_for_each_direction_and_is_no_bottleneck() {
    let (_server, proxy) = both();
    let mut client = Client::connect(&proxy);
    let (there, back) = (Duration::from_millis(60), Duration::from_millis(90));
    proxy.delay(there, back);
    let start = Instant::now();
    client.asks("one");
    assert!(start.elapsed() >= there + back, "{:?}", start.elapsed());

    let start = Instant::now();
    for _ in 0..100 {
        client.send("x\n");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.receive(200, LONG).unwrap(), "X\n".repeat(100));
    // One after the other they would take 15 seconds.
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
}

#[test]
fn a_cut_ends_all_connections_and_new_ones_work() {
    let (server, proxy) = both();
    for (how, seen) in [(Cut::Close, ErrorKind::UnexpectedEof), (Cut::Reset, ErrorKind::ConnectionReset)] {
        let mut clients = [Client::connect(&proxy), Client::connect(&proxy)];
        for client in &mut clients {
            client.asks("hello");
        }
        let before = server.ended.load(Ordering::SeqCst);
        proxy.cut(how);
        assert_eq!(proxy.open_connections(), 0);
        for client in &mut clients {
            let end = client.end();
            assert!(end == seen || (cfg!(not(unix)) && how == Cut::Reset), "{how:?}: {end:?}");
        }
        eventually("the server's sides end, too", || server.ended.load(Ordering::SeqCst) == before + 2);
        Client::connect(&proxy).asks("again");
        eventually("only the cut ones ended so", || proxy.open_connections() == 0);
    }
}

#[test]
fn a_cut_ends_what_is_held_or_stuck() {
    let (_server, proxy) = both();
    let mut client = Client::connect(&proxy);
    client.asks("one");
    proxy.requests(Flow::Hold);
    client.send("two\n");
    proxy.delay(LONG * 10, LONG * 10);
    proxy.cut(Cut::Reset);
    assert_eq!(proxy.open_connections(), 0);
}

#[test]
fn refused_connections_find_nobody_and_the_others_go_on() {
    let (_server, proxy) = both();
    let mut client = Client::connect(&proxy);
    client.asks("one");
    proxy.refuse();
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    client.asks("two");
    proxy.accept_again().unwrap();
    Client::connect(&proxy).asks("three");
}

#[test]
fn the_reply_to_a_chosen_request_is_lost_and_its_connection_cut() {
    let (server, proxy) = both();
    let (mut client, mut other) = (Client::connect(&proxy), Client::connect(&proxy));
    proxy.lose_reply("acquire", 1);
    client.asks("acquire first");
    client.asks("renew");
    // In two pieces, as a network may deliver it.
    let sent = proxy.request_bytes();
    client.send("acq");
    eventually("the first piece is through", || proxy.request_bytes() == sent + 3);
    client.send("uire second\n");
    assert!(proxy.wait_lost_replies(1, LONG));
    assert_eq!(client.end(), ErrorKind::UnexpectedEof);
    assert_eq!(server.lines(), ["acquire first", "renew", "acquire second"], "the server did the work");
    other.asks("acquire third");
    assert_eq!(proxy.lost_replies(), 1, "it happens once");
}

#[test]
fn a_server_that_is_down_means_a_cut() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let proxy = Proxy::start(nobody).unwrap();
    let end = Client::connect(&proxy).end();
    assert!(matches!(end, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{end:?}");
}

#[test]
fn nothing_is_left_of_a_dropped_proxy() {
    let (server, proxy) = both();
    let mut client = Client::connect(&proxy);
    client.asks("one");
    proxy.requests(Flow::Hold);
    client.send("two\n");
    let port = proxy.port();
    drop(proxy);
    assert!(matches!(client.end(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset));
    eventually("the server's side ends", || server.ended.load(Ordering::SeqCst) == 1);
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(server.lines(), ["one"]);
}
