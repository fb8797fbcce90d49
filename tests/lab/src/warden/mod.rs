//! The warden: PID 1 of the namespaces in which a whole lab lives. It owns images, paths, bridges and
//! machines, and does what it is asked to over a socket. When it dies, the kernel ends all of it.

mod disk;
mod fuse;
mod layer;
mod machine;
mod network;
mod tools;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{ForkResult, fork, setsid};

pub use machine::{LOOPS, label_prefix};

use crate::error::{Context, Error, Result};
use crate::plan::Plan;
use crate::protocol::{Connection, Listener, Power, Reply, Request};
use crate::rootfs;
use machine::{Machine, Places};
use tools::Tools;

/// Locked by the warden as long as it lives. Contains its PID as the host counts.
pub const LOCK: &str = "warden.lock";
/// The socket through which a lab is used.
pub const SOCKET: &str = "warden.sock";
/// Said on standard output when the lab can be used.
pub const READY: &str = "ready";
/// How long the warden waits for somebody to hold it.
const HOLD_LIMIT: Duration = Duration::from_secs(10);

/// Becomes the warden of the lab whose plan is on standard input.
///
/// # Errors
/// If a part of the lab can't be built.
pub fn main() -> Result<()> {
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .context("read the plan")?;
    let plan: Plan = serde_json::from_str(&text).context("read the plan")?;
    let lock = plan.state().join(LOCK);
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock)
        .context(lock.display())?;
    let mut lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, e)| Error::new(format!("lock of lab {}: {e}", plan.name)))?;
    setsid().context("leave the terminal")?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC,
    )
    .context("make namespaces")?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("start the warden")? {
        ForkResult::Parent { child } => {
            lock.set_len(0)
                .and_then(|()| writeln!(lock, "{child}"))
                .context("note the warden's number")?;
            // The lock belongs to the warden now: unlocking it here would take it from there too.
            std::mem::forget(lock);
            Ok(())
        }
        ForkResult::Child => Warden::build(plan)?.serve(),
    }
}

struct Warden {
    plan: Plan,
    places: Places,
    tools: Tools,
    /// The system does not change under the machines.
    _system: Option<Flock<File>>,
    machines: BTreeMap<String, Mutex<Machine>>,
    kept: AtomicBool,
    held: AtomicBool,
    ending: AtomicBool,
}

impl Warden {
    fn build(plan: Plan) -> Result<Arc<Self>> {
        let none: Option<&str> = None;
        rootfs::make_private()?;
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)
            .context("mount /proc")?;
        let state = plan.state();
        let private = state.join("private");
        fs::create_dir_all(&private).context(private.display())?;
        mount(
            Some("lab"),
            &private,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=700"),
        )
        .context("mount the lab's own memory")?;
        for dir in ["images", "paths", "layer", "machines"] {
            fs::create_dir(private.join(dir)).context(dir)?;
        }
        fs::set_permissions(
            private.join("layer"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .context("layer")?;
        for disk in &plan.disks {
            disk::create_image(&private.join("images").join(disk), plan.disk_mib)?;
        }
        layer::build(&plan, &private.join("layer"))?;
        let tools = Tools::build(&plan.system, &private)?;
        network::build()?;
        let places = Places {
            switch: private.join("power.sock"),
            private,
            state,
        };
        let machines = plan.hosts().into_iter().map(|host| {
            let name = host.name.clone();
            (name, Mutex::new(Machine::new(&plan, host, places.clone())))
        });
        Ok(Arc::new(Self {
            machines: machines.collect(),
            _system: plan.system.hold()?,
            plan,
            places,
            tools,
            kept: AtomicBool::new(false),
            held: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        }))
    }

    fn serve(self: Arc<Self>) -> Result<()> {
        let switch = Listener::open(&self.places.switch)?;
        let door = Listener::open(&self.places.state.join(SOCKET))?;
        let warden = Arc::clone(&self);
        thread::spawn(move || warden.accept(&switch, &Self::as_switch));
        for machine in self.machines.values() {
            let mut machine = lock(machine);
            if !machine.is_node() {
                machine.boot()?;
            }
        }
        let warden = Arc::clone(&self);
        thread::spawn(move || {
            thread::sleep(HOLD_LIMIT);
            if !warden.held.load(Ordering::SeqCst) && !warden.kept.load(Ordering::SeqCst) {
                warden.end("nobody took hold of it");
            }
        });
        let mut out = io::stdout().lock();
        writeln!(out, "{READY}")
            .and_then(|()| out.flush())
            .context("report")?;
        drop(out);
        self.accept(&door, &Self::as_owner);
        Err(Error::new("the lab's socket failed"))
    }

    fn accept(self: &Arc<Self>, listener: &Listener, handler: &'static Handler) {
        while let Ok(connection) = listener.accept() {
            let warden = Arc::clone(self);
            thread::spawn(move || warden.converse(&connection, handler));
        }
    }

    fn converse(&self, connection: &Connection, handler: &Handler) {
        let mut holder = false;
        while let Ok(Some((request, _))) = connection.receive::<Request>() {
            if matches!(request, Request::Hold) {
                holder = true;
            }
            let last = matches!(request, Request::Down);
            let (reply, fd) = match handler(self, request) {
                Ok(answer) => answer,
                Err(e) => (failed(&e), None),
            };
            let sent = connection.send(&reply, fd.as_ref());
            if last {
                self.leave();
            }
            if sent.is_err() {
                break;
            }
        }
        if holder && !self.kept.load(Ordering::SeqCst) {
            self.end("its holder is gone");
        }
    }

    /// What those who own the lab may ask.
    fn as_owner(&self, request: Request) -> Result<(Reply, Option<OwnedFd>)> {
        if self.ending.load(Ordering::SeqCst) && !matches!(request, Request::Down) {
            return Err(Error::new(format!("lab {} is ending", self.plan.name)));
        }
        match request {
            Request::Hold => self.held.store(true, Ordering::SeqCst),
            Request::Keep => self.kept.store(true, Ordering::SeqCst),
            Request::Down => self.take_down()?,
            Request::Status => return Ok((self.status(), None)),
            Request::Enter { machine } => {
                let machine = self.machine(&machine)?;
                let handle = machine
                    .handle()?
                    .try_clone()
                    .context("copy a process handle")?;
                return Ok((Reply::default(), Some(handle)));
            }
            Request::Boot { node } => self.node(&node)?.boot()?,
            Request::Crash { node } => self.node(&node)?.crash()?,
            Request::Fence { node, action } => return Ok((self.fence(&node, action)?, None)),
            Request::Cable {
                machine,
                port,
                state,
            } => {
                self.machine(&machine)?.set_cable(&port, state)?;
            }
            Request::Replace { machine, port } => self.machine(&machine)?.replace(&port)?,
            Request::Path { node, disk, good } => self.node(&node)?.set_path(&disk, good)?,
            Request::Mkfs { disk, kind } => self.mkfs(&disk, &kind)?,
        }
        Ok((Reply::default(), None))
    }

    /// What a node may ask of the power switch.
    fn as_switch(&self, request: Request) -> Result<(Reply, Option<OwnedFd>)> {
        match request {
            Request::Fence { node, action } => Ok((self.fence(&node, action)?, None)),
            _ => Err(Error::new("a power switch only switches power")),
        }
    }

    fn fence(&self, node: &str, action: Power) -> Result<Reply> {
        let mut machine = self.node(node)?;
        match action {
            Power::Off | Power::Reboot => machine.crash()?,
            Power::On => machine.boot()?,
            Power::Status => {}
        }
        if action == Power::Reboot && self.plan.autoboot {
            machine.boot()?;
        }
        Ok(Reply {
            machines: [(node.to_owned(), machine.state())].into(),
            ..Reply::default()
        })
    }

    fn status(&self) -> Reply {
        let state =
            |(name, machine): (&String, &Mutex<Machine>)| (name.clone(), lock(machine).state());
        Reply {
            machines: self.machines.iter().map(state).collect(),
            ..Reply::default()
        }
    }

    fn mkfs(&self, disk: &str, kind: &str) -> Result<()> {
        if !self.plan.disks.iter().any(|d| d == disk) {
            let all = self.plan.disks.join(" ");
            return Err(Error::new(format!("no disk {disk:?}; there are: {all}")));
        }
        self.tools.mkfs(disk, kind)
    }

    fn machine(&self, name: &str) -> Result<MutexGuard<'_, Machine>> {
        self.machines.get(name).map(lock).ok_or_else(|| {
            let names: Vec<_> = self.machines.keys().map(String::as_str).collect();
            Error::new(format!(
                "no machine {name:?}; there are: {}",
                names.join(" ")
            ))
        })
    }

    fn node(&self, name: &str) -> Result<MutexGuard<'_, Machine>> {
        let machine = self.machine(name)?;
        if machine.is_node() {
            return Ok(machine);
        }
        Err(Error::new(format!("{name} is no cluster node")))
    }

    /// Takes the power from everything, all nodes at the same time.
    fn take_down(&self) -> Result<()> {
        self.ending.store(true, Ordering::SeqCst);
        thread::scope(|scope| {
            let crash = |machine| scope.spawn(move || lock(machine).crash());
            let ends: Vec<_> = self.machines.values().map(crash).collect();
            let join = |end: thread::ScopedJoinHandle<'_, Result<()>>| {
                end.join().unwrap_or_else(|_| Err(Error::new("panicked")))
            };
            ends.into_iter().try_for_each(join)
        })
    }

    fn end(&self, why: &str) {
        eprintln!("lab {}: ends: {why}", self.plan.name);
        if let Err(e) = self.take_down() {
            eprintln!("lab {}: {e}", self.plan.name);
        }
        self.leave();
    }

    fn leave(&self) -> ! {
        #[allow(clippy::disallowed_methods)] // from a thread, there is no other way
        std::process::exit(0)
    }
}

type Handler = dyn Fn(&Warden, Request) -> Result<(Reply, Option<OwnedFd>)> + Send + Sync;

fn failed(error: &Error) -> Reply {
    Reply {
        error: Some(error.to_string()),
        ..Reply::default()
    }
}

fn lock(machine: &Mutex<Machine>) -> MutexGuard<'_, Machine> {
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The PID of the warden whose state is in `state`, as the host counts, if there is one alive.
pub fn alive(state: &Path) -> Option<i32> {
    let path = state.join(LOCK);
    let file = File::open(&path).ok()?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => None,
        Err(_) => fs::read_to_string(path).ok()?.trim().parse().ok(),
    }
}
