//! A proxy in front of a server. It can cut a connection at the moment of a commit, and counts what is sent and
//! answered.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::wait_until;

/// The longest time for which a text is held back.
const HELD_FOR: Duration = Duration::from_secs(60);

/// The end of a text that commits; the second one is that of a block.
const COMMITS: [&[u8]; 2] = [b"COMMIT", b"COMMIT;END"];

/// The fate of the next text that commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    Nothing,
    /// It does not reach the server.
    BeforeCommit,
    /// It reaches the server, and the answer is lost.
    AfterCommit,
    /// It is held back until another cut is requested, and does not reach the server.
    HeldBack,
    /// A text is held back now.
    Holding,
}

/// A packet's header and the number of the command, in front of the text.
const BEFORE_TEXT: usize = 5;

/// Passes connections on to one server.
pub struct Proxy {
    port: u16,
    cut: Arc<AtomicU8>,
    /// The beginning of the text that is cut instead of one that commits.
    begins: Arc<Mutex<Option<&'static str>>>,
    sent: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
}

impl Proxy {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind the proxy");
        let this = Self {
            port: listener.local_addr().expect("the proxy's address").port(),
            cut: Arc::new(AtomicU8::new(Cut::Nothing as u8)),
            begins: Arc::default(),
            sent: Arc::default(),
            answered: Arc::default(),
        };
        let cut = this.cut.clone();
        let sent = this.sent.clone();
        let answered = this.answered.clone();
        let begins = this.begins.clone();
        // Both threads end with the process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("accept a connection");
                let server = TcpStream::connect(("127.0.0.1", port)).expect("connect to the server");
                pass(client, server, (cut.clone(), begins.clone()), sent.clone(), answered.clone());
            }
        });
        this
    }

    /// The URL of the same database through the proxy.
    pub fn url(&self, url: &str) -> String {
        let (head, database) = url.rsplit_once('/').expect("a url with a database");
        let (head, _) = head.rsplit_once(':').expect("a url with a port");
        format!("{head}:{}/{database}", self.port)
    }

    /// Cuts the connection of the next commit.
    pub fn cut(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// Cuts the connection of the next text with this beginning, instead of one that commits.
    pub fn cut_at(&self, cut: Cut, begins: &'static str) {
        *self.begins.lock().expect("no panic holds it") = Some(begins);
        self.cut(cut);
    }

    /// The number of packets that clients have sent so far. A text below 64 KiB is one packet. If a
    /// client waits for each answer, this is the number of round trips.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// The number of packets that the server has answered: one for each statement without rows.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    pub fn is_holding(&self) -> bool {
        self.cut.load(Ordering::SeqCst) == Cut::Holding as u8
    }

    /// Whether the cut has been made.
    pub fn has_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) == Cut::Nothing as u8
    }
}

fn pass(
    client: TcpStream,
    server: TcpStream,
    (cut, begins): (Arc<AtomicU8>, Arc<Mutex<Option<&'static str>>>),
    sent: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
) {
    let mut from_client = client.try_clone().expect("clone");
    let mut to_server = server.try_clone().expect("clone");
    let mut from_server = server;
    let mut to_client = client;
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(count @ 1..) = from_client.read(&mut buffer) {
            sent.fetch_add(1, Ordering::SeqCst);
            let text = &buffer[..count];
            let is_meant = match *begins.lock().expect("no panic holds it") {
                Some(begins) => text.get(BEFORE_TEXT..).is_some_and(|text| text.starts_with(begins.as_bytes())),
                None => COMMITS.iter().any(|end| text.ends_with(end)),
            };
            if is_meant {
                let held = cut.swap(Cut::Nothing as u8, Ordering::SeqCst);
                if held == Cut::AfterCommit as u8 {
                    // From here on the client gets nothing, but the server gets the commit.
                    let _ = from_client.shutdown(Shutdown::Both);
                    to_server.write_all(&buffer[..count]).expect("pass the commit on");
                    // The server closes after it has read the client's goodbye, which is after the commit.
                    let _ = to_server.shutdown(Shutdown::Write);
                    return;
                }
                if held == Cut::HeldBack as u8 {
                    cut.store(Cut::Holding as u8, Ordering::SeqCst);
                    wait_until("the text held back is let go", HELD_FOR, || {
                        cut.load(Ordering::SeqCst) != Cut::Holding as u8
                    });
                    cut.store(Cut::Nothing as u8, Ordering::SeqCst);
                }
                if [Cut::BeforeCommit, Cut::HeldBack].map(|cut| cut as u8).contains(&held) {
                    let _ = from_client.shutdown(Shutdown::Both);
                    let _ = to_server.shutdown(Shutdown::Both);
                    return;
                }
            }
            if to_server.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        // It ends if either side does.
        while let Ok(packet) = packet(&mut from_server) {
            answered.fetch_add(1, Ordering::SeqCst);
            if to_client.write_all(&packet).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
}

/// The next packet: three bytes with its length, a number, and the content.
fn packet(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut packet = vec![0; 4];
    from.read_exact(&mut packet)?;
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]);
    packet.resize(4 + length as usize, 0);
    from.read_exact(&mut packet[4..])?;
    Ok(packet)
}
