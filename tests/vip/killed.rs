//! Agents killed in the middle of a start or a stop, at many moments: the next stop clears all, the
//! next start works.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use berth::address::location::CellLocation;
use berth::address::service::Service;
use berth::ocf::State;
use berth::plan::vip::record::VipSpec;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::network::{Cell, Network, differences};

/// Runs an action in a process of its own, which has no descriptors but these and the standard ones, and kills it after
/// `life`. Says whether it had ended.
fn killed_after(life: Duration, kept: [BorrowedFd<'_>; 2], action: impl FnOnce()) -> bool {
    // SAFETY: the child only makes system calls and allocates, which glibc's fork allows, and ends
    // without running anything of the test's.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            close_all_but(kept);
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

/// Closes what other tests of this process have open: what they close has to be closed then.
fn close_all_but(kept: [BorrowedFd<'_>; 2]) {
    let mut kept = kept.map(|fd| u32::try_from(fd.as_raw_fd()).unwrap());
    kept.sort_unstable();
    let [first, second] = kept;
    for (from, to) in [
        (3, first - 1),
        (first + 1, second - 1),
        (second + 1, u32::MAX),
    ] {
        // SAFETY: takes numbers only. The process has just been forked, and neither uses nor closes these any more.
        let _ = unsafe { libc::close_range(from, to, 0) };
    }
}

fn start(net: &Network, cell: &Cell, spec: &VipSpec, runtime: &Path) {
    setns(&net.node, CloneFlags::CLONE_NEWNET).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let service = Service::new("killed", deadline).in_directory(runtime);
    let _ = service.start(spec, &CellLocation::Here(cell.namespace.as_fd()));
}

fn stop(net: &Network, cell: &Cell, spec: &VipSpec, runtime: &Path) {
    setns(&net.node, CloneFlags::CLONE_NEWNET).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let service = Service::new("killed", deadline).in_directory(runtime);
    let _ = service.stop(&cell.vserver, spec.vip, Some(cell.namespace.as_fd()));
}

#[test]
#[ignore = "needs root"]
fn whenever_it_is_killed_stop_clears_and_start_works() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let runtime = net.runtime.path();
    let kept = [net.node.as_fd(), alpha.namespace.as_fd()];
    let before = net.dump();
    for vip in ["10.1.0.50", "2001:db8:1::50"] {
        let spec = alpha.wide_spec(vip);
        // The look for duplicates begins with 10 ms in which nothing is changed.
        let mut life = Duration::from_millis(9);
        let mut killed = 0;
        while !killed_after(life, kept, || start(&net, &alpha, &spec, runtime)) {
            assert_eq!(net.stop(&alpha, &spec), State::Stopped);
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
            assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
            let ended = killed_after(life, kept, || stop(&net, &alpha, &spec, runtime));
            if !ended && killed % 2 == 0 {
                // What is half gone can be brought back as well as cleared.
                assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
            }
            assert_eq!(net.stop(&alpha, &spec), State::Stopped);
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
