//! The TCP connections of a network namespace.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

use super::message;

/// States in which the server's program has the connection, or is to have it: TCP_ESTABLISHED and TCP_CLOSE_WAIT
/// (net/tcp_states.h).
const OPEN: [&str; 2] = ["01", "08"];

/// A line is some 150 bytes; what is longer is none.
const LINE_LIMIT: u64 = 512;

/// Whether a process's network has at least `count` connections that have been made to this port of it, as
/// /proc/PID/net/tcp and tcp6 show them (proc_pid_net(5)).
///
/// # Errors
/// If the process has ended.
pub(crate) fn has_connections(pid: i32, port: u16, count: u32) -> io::Result<bool> {
    let mut found = 0;
    for table in ["tcp", "tcp6"] {
        let path = format!("/proc/{pid}/net/{table}");
        let file = match File::open(&path) {
            // A kernel without IPv6.
            Err(e) if table == "tcp6" && e.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|e| message(e, format_args!("open {path}")))?,
        };
        let mut lines = BufReader::new(file);
        let mut line = String::new();
        loop {
            line.clear();
            if io::Read::take(&mut lines, LINE_LIMIT).read_line(&mut line)? == 0 {
                break;
            }
            found += u32::from(is_open_at(&line, port));
            if found >= count {
                return Ok(true);
            }
        }
    }
    Ok(found >= count)
}

/// Whether a line is about an open connection to this port: number, own address and port, the peer's, state.
fn is_open_at(line: &str, port: u16) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let own = words.next().and_then(|own| own.rsplit_once(':'));
    let state = words.nth(1);
    own.is_some_and(|(_, own)| u16::from_str_radix(own, 16) == Ok(port))
        && state.is_some_and(|state| OPEN.contains(&state))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_to_a_port_are_counted_in_both_families() {
        let me = i32::try_from(std::process::id()).unwrap();
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).unwrap();
            let address = listener.local_addr().unwrap();
            assert!(!has_connections(me, address.port(), 1).unwrap());
            let held: Vec<_> = (0..3)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            assert!(has_connections(me, address.port(), 3).unwrap());
            assert!(!has_connections(me, address.port(), 4).unwrap());
            drop(held);
        }
    }

    #[test]
    fn what_is_no_line_of_the_table_is_passed_over() {
        for line in [
            "",
            "  sl  local_address rem_address   st",
            "0: 1 2 01",
            "0: A:XYZ B:1 01",
        ] {
            assert!(!is_open_at(line, 445), "{line}");
        }
        assert!(is_open_at(
            "0: 0100007F:01BD 0100007F:9C40 01 00000000:00000000",
            445
        ));
        assert!(!is_open_at(
            "0: 0100007F:01BD 00000000:0000 0A 00000000:00000000",
            445
        ));
    }
}
