//! Servers of our own that the node is held against, each a process of its own as the
//! node is: this program starts itself again.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use support::process;

pub struct OtherServer {
    child: Child,
    pub address: String,
}

impl OtherServer {
    /// `arguments` say which server it is.
    pub fn start(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("the program knows itself");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = process::spawn(command);
        let mut address = String::new();
        let output = child.stdout.take().expect("stdout is a pipe");
        BufReader::new(output).read_line(&mut address).expect("the server says where it is");
        Self { child, address: address.trim().to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for OtherServer {
    fn drop(&mut self) {
        // It may have ended by itself, which the load has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the server's process: a socket, and whoever started it is told which.
pub fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("the socket has an address"));
    listener
}
