//! Other processes of a load: servers that the node is compared with, and clients beside the measured ones. Each is this
//! program again, with other arguments. Entry points: [`OtherProcess::start`], and [`listen`] in a server's process.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use support::process;

pub struct OtherProcess {
    child: Child,
    /// Its first line on standard output. A server prints its address.
    pub address: String,
}

impl OtherProcess {
    /// `arguments` say what the process does. Returns after its first line.
    pub fn start(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("the program knows itself");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = process::spawn(command);
        let mut address = String::new();
        let output = child.stdout.take().expect("stdout is a pipe");
        BufReader::new(output).read_line(&mut address).expect("the process prints a line");
        Self { child, address: address.trim().to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        // It may have ended before; the load has noticed that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the server's process: binds a socket and prints its address for the parent process.
pub fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("the socket has an address"));
    listener
}
