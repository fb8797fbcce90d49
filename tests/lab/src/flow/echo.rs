//! The echo: what it is sent, by UDP or TCP, it sends back.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Child;
use std::thread;
use std::time::Duration;

use crate::control::Lab;
use crate::error::{Context, Error, Result};
use crate::process;
use crate::wait::{holds, wait_for};

const PORT: u16 = 7007;
const START_LIMIT: Duration = Duration::from_secs(20);
const ANSWER_LIMIT: Duration = Duration::from_millis(200);

/// The program: echoes until it is killed.
///
/// # Errors
/// If the address can't be used.
pub fn main(address: SocketAddr) -> Result<()> {
    let datagrams = UdpSocket::bind(address).context(format_args!("UDP {address}"))?;
    let connections = TcpListener::bind(address).context(format_args!("TCP {address}"))?;
    thread::spawn(move || {
        for stream in connections.incoming().flatten() {
            // A connection that breaks is its client's to tell of.
            thread::spawn(move || drop(echo(stream)));
        }
    });
    let mut buffer = [0; 2048];
    loop {
        // An error is the news of an earlier answer that did not arrive: the next one may.
        if let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
            let _ = datagrams.send_to(&buffer[..length], from);
        }
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

/// An echo in a cell, ended when dropped.
#[derive(Debug)]
pub struct Echo {
    child: Child,
    address: SocketAddr,
}

impl Echo {
    /// Starts one at `vip`, in the cell of `vserver` on `node`; returns when `client` is answered.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn start(
        lab: &Lab,
        (node, vserver): (&str, &str),
        vip: &str,
        client: &str,
    ) -> Result<Self> {
        Self::run(lab, node, &["berth", "exec", vserver, "--"], vip, client)
    }

    /// Starts one on a machine itself, at one of its addresses.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn start_on(lab: &Lab, machine: &str, address: &str, client: &str) -> Result<Self> {
        Self::run(lab, machine, &[], address, client)
    }

    fn run(lab: &Lab, node: &str, by: &[&str], address: &str, client: &str) -> Result<Self> {
        let address = SocketAddr::new(address.parse().context(address)?, PORT);
        let text = address.to_string();
        let words = [by, &["lab", "echo", &text]].concat();
        let mut command = lab.command(node, &words)?;
        process::silence(&mut command);
        let mut echo = Self {
            child: command.spawn().context("start the echo")?,
            address,
        };
        wait_for("the echo's first answer", START_LIMIT, || {
            let ended = echo.child.try_wait().context("look after the echo")?;
            holds(ended.is_none(), Error::new("it has ended"))?;
            lab.on_network_of(client, || ask(address))?.context("ask")
        })?;
        Ok(echo)
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It can only have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(address: SocketAddr) -> io::Result<()> {
    let socket = super::probe::socket(address)?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    socket.send(b"?")?;
    socket.recv(&mut [0; 8]).map(drop)
}
