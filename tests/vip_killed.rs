//! Agents killed in the middle of a start or a stop, at many moments: the next stop clears all, the
//! next start works.
#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod vip_lab;

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::address::place::Place;
use berth::address::record::Wish;
use berth::address::service::Service;
use berth::ocf::State;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use vip_lab::network::{Cell, Network, differences};

/// Runs an action in a process of its own and kills it after `life`. Says whether it had ended.
fn killed_after(life: Duration, action: impl FnOnce()) -> bool {
    // SAFETY: the child only makes system calls and allocates, which glibc's fork allows, and ends
    // without running anything of the test's.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            action();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            let end = Instant::now() + life;
            let mut ended = false;
            while !ended && Instant::now() < end {
                let status = waitpid(child, Some(WaitPidFlag::WNOHANG)).unwrap();
                ended = !matches!(status, WaitStatus::StillAlive);
                std::hint::spin_loop();
            }
            if !ended {
                kill(child, Signal::SIGKILL).unwrap();
                waitpid(child, None).unwrap();
            }
            ended
        }
    }
}

fn start(net: &Network, cell: &Cell, wish: &Wish, runtime: &Path) {
    setns(&net.node, CloneFlags::CLONE_NEWNET).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let service = Service::new("killed", deadline).in_directory(runtime);
    let _ = service.start(wish, &Place::Here(cell.namespace.as_fd()));
}

fn stop(net: &Network, cell: &Cell, wish: &Wish, runtime: &Path) {
    setns(&net.node, CloneFlags::CLONE_NEWNET).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let service = Service::new("killed", deadline).in_directory(runtime);
    let _ = service.stop(cell.vserver, wish.vip, Some(cell.namespace.as_fd()));
}

#[test]
#[ignore = "needs root"]
fn whenever_it_is_killed_stop_clears_and_start_works() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let runtime = net.runtime.path();
    let before = net.dump();
    for vip in ["10.1.0.50", "2001:db8:1::50"] {
        let wish = alpha.wide_wish(vip);
        // The look for duplicates begins with 10 ms in which nothing is changed.
        let mut life = Duration::from_millis(9);
        let mut killed = 0;
        while !killed_after(life, || start(&net, &alpha, &wish, runtime)) {
            assert_eq!(net.stop(&alpha, &wish), State::Stopped);
            assert_eq!(
                differences(&net.dump(), &before),
                (vec![], vec![]),
                "after {life:?}"
            );
            life += Duration::from_micros(2100);
            killed += 1;
            assert!(killed < 200, "start takes no end");
        }
        let mut life = Duration::from_micros(200);
        for _ in 0..200 {
            assert_eq!(net.start(&alpha, &wish).unwrap(), State::Running);
            let ended = killed_after(life, || stop(&net, &alpha, &wish, runtime));
            if !ended && killed % 2 == 0 {
                // What is half gone can be brought back as well as cleared.
                assert_eq!(net.start(&alpha, &wish).unwrap(), State::Running);
            }
            assert_eq!(net.stop(&alpha, &wish), State::Stopped);
            assert_eq!(
                differences(&net.dump(), &before),
                (vec![], vec![]),
                "after {life:?}"
            );
            if ended {
                break;
            }
            life += Duration::from_micros(1100);
            killed += 1;
        }
        assert!(killed >= 10, "killed at {killed} moments only");
    }
}
