//! Loses what a client and a server say to each other, on demand.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What the proxy loses; then it forwards again.
pub(super) struct Lose;

impl Lose {
    pub(super) const NOTHING: u8 = 0;
    /// The client's COMMIT and the connection.
    pub(super) const COMMIT: u8 = 1;
    /// The server's reply to COMMIT and the connection.
    pub(super) const REPLY: u8 = 2;
    /// Whatever the server says next, and the connection.
    pub(super) const REPLIES: u8 = 4;
    /// The connection, at the client's next message.
    pub(super) const NOW: u8 = 3;
    /// Every connection, until it is told otherwise: the server is away.
    pub(super) const ALL: u8 = 5;
}

/// Forwards connections to a server and breaks them on demand.
pub(super) struct Proxy {
    /// Where it listens.
    pub(super) address: String,
    /// What it loses.
    pub(super) lose: Arc<AtomicU8>,
}

impl Proxy {
    /// A proxy of the server at `host:port`.
    pub(super) fn new(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let lose = Arc::new(AtomicU8::new(Lose::NOTHING));
        let (shared, server) = (Arc::clone(&lose), server.to_owned());
        std::thread::Builder::new()
            .spawn(move || {
                for client in listener.incoming() {
                    let client = client.unwrap();
                    if shared.load(Ordering::SeqCst) == Lose::ALL {
                        client.shutdown(Shutdown::Both).ok();
                    } else {
                        forward(client, TcpStream::connect(&server).unwrap(), &shared);
                    }
                }
            })
            .unwrap();
        Proxy { address, lose }
    }
}

/// Forwards both ways, each on a thread of its own, until one side ends.
fn forward(client: TcpStream, server: TcpStream, lose: &Arc<AtomicU8>) {
    let (replies, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let replying = Arc::clone(lose);
    std::thread::Builder::new()
        .spawn(move || {
            pump(&replies, &to_client, |_| {
                !matches!(replying.load(Ordering::SeqCst), Lose::REPLIES | Lose::ALL)
            });
            if replying.load(Ordering::SeqCst) == Lose::REPLIES {
                replying.store(Lose::NOTHING, Ordering::SeqCst);
            }
        })
        .unwrap();
    let lose = Arc::clone(lose);
    std::thread::Builder::new()
        .spawn(move || {
            pump(&client, &server, |message| {
                // Neither an isolation level nor what happens on commit.
                let commits = message.ends_with(b"COMMIT")
                    || message.windows(7).any(|bytes| bytes == b"COMMIT\0");
                match lose.load(Ordering::SeqCst) {
                    Lose::COMMIT if commits => lose.store(Lose::NOTHING, Ordering::SeqCst),
                    Lose::ALL => {}
                    Lose::NOW => lose.store(Lose::NOTHING, Ordering::SeqCst),
                    Lose::REPLY if commits => {
                        // The message goes on; whatever the server says next is lost.
                        lose.store(Lose::REPLIES, Ordering::SeqCst);
                        return true;
                    }
                    _ => return true,
                }
                false
            });
        })
        .unwrap();
}

/// Copies while `pass` allows, then breaks both connections.
fn pump(mut from: &TcpStream, mut to: &TcpStream, pass: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !pass(&buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
