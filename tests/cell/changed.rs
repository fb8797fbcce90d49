//! What was changed while a resource ran, and nobody stopped it: parameters, as in maintenance, and berth itself.

use nix::sys::signal::Signal;

use crate::node::{Node, sh, signal};

#[test]
#[ignore = "needs root"]
fn the_keeper_that_has_a_resource_is_asked_whatever_its_parameter_says_now() {
    let node = Node::new("move");
    let (vserver, other, device) = (node.vserver('a'), node.vserver('b'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let changed = fs.clone().parameter("vserver", &other);
    for recorded in [true, false] {
        fs.run("start").expect(0);
        if !recorded {
            sh(&format!("rm /run/berth/device.d/{vserver}-data"));
        }
        changed.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
        changed.run("monitor").expect(7);
    }
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/usr/bin/sleep 1000");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    // The keeper is of this version, though another agent has started it.
    let logged = node.logged();
    assert!(!logged.contains("another version"), "{logged}");
    let changed = servers.clone().parameter("name", &other);
    // A probe that says that it does not run has it started on another node.
    let outcome = changed.run("monitor").expect(1);
    assert!(outcome.stderr.contains(vserver.as_str()), "{outcome}");
    changed.run("stop").expect(0);
    servers.run("monitor").expect(7);
    changed.run("monitor").expect(7);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_keeper_that_hangs_is_left_alone_where_another_one_has_the_resource() {
    let node = Node::new("named");
    let (vserver, other) = (node.vserver('a'), node.vserver('b'));
    let (one, two) = (node.disk("ext4"), node.disk("ext4"));
    let (fs, theirs) = (
        node.fs(&vserver, &one, "/data"),
        node.fs(&other, &two, "/data"),
    );
    fs.run("start").expect(0);
    theirs.run("start").expect(0);
    sh(&format!("rm /run/berth/device.d/{vserver}-data"));
    let hung = node.process(&other, "berth-keeper");
    signal(hung, Signal::SIGSTOP);
    fs.clone()
        .parameter("vserver", &other)
        .run("stop")
        .expect(0);
    signal(hung, Signal::SIGCONT);
    theirs.run("monitor").expect(0);
    theirs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&one]);
    node.assert_gone(&other, &[&two]);
}

#[test]
#[ignore = "needs root"]
fn an_address_is_stopped_as_it_was_started_whatever_its_parameters_say_now() {
    let node = Node::new("addr");
    let (vserver, other, device) = (node.vserver('a'), node.vserver('b'), node.disk("ext4"));
    sh("ip link add a0 type veth peer name a1 && ip addr add 10.1.0.1/24 dev a0");
    sh("ip link set a0 up && ip link set a1 up");
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let vip = node.vip(&vserver, "10.1.0.50");
    for (name, value) in [("vserver", other.as_str()), ("ip", "10.1.0.51")] {
        vip.run("start").expect(0);
        let changed = vip.clone().parameter(name, value);
        let outcome = changed.run("monitor").expect(1);
        assert!(outcome.stderr.contains("10.1.0.50"), "{outcome}");
        changed.run("stop").expect(0);
        let left = sh("ip neigh show proxy; ip route show table all; ip rule");
        assert!(!left.contains("10.1.0.50"), "{name}: {left}");
        changed.run("monitor").expect(7);
    }
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

/// Stands in for the keeper of an older version, which knows no limits. Arguments: its directory.
const OLD_KEEPER: &str = r#"
import os, socket, sys
with open("/proc/self/comm", "w") as name:
    name.write("berth-keeper")
os.makedirs(sys.argv[1])
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1] + "/keeper.sock")
listener.listen()
print("ready", flush=True)
while True:
    agent, _ = listener.accept()
    asked = agent.recv(65536)
    if asked.startswith(b'{"Limit"'):
        agent.send(b'{"Refused":{"cause":"Version","message":"the keeper is of another version than the agent"}}')
    elif asked:
        agent.send(b'{"Member":{"condition":"Running","device":null,"init":12}}')
    agent.close()
"#;

#[test]
#[ignore = "needs root"]
fn a_keeper_of_before_fails_no_reload_and_is_named_at_a_start() {
    let node = Node::new("older");
    let vserver = node.vserver('a');
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/usr/bin/sleep 1000");
    sh("mkdir -p -m 700 /run/berth");
    std::fs::write("/run/keeper.py", OLD_KEEPER).expect("a program");
    let mut keeper = node.shell(&format!(
        "cp /usr/bin/python3 /run/python; export PYTHONHOME=/usr; exec /run/python /run/keeper.py /run/berth/{vserver}"
    ));
    // As an upgrade does.
    sh("rm /run/python");
    servers.run("reload-agent").expect(0);
    let line = format!(
        "limits come when the cell is made anew: stop all resources of {vserver}, or move it"
    );
    assert!(node.logged().contains(&line), "{}", node.logged());
    servers.run("start").expect(0);
    let line = format!("{vserver} is served by a keeper of another version: ");
    let logged = node.logged();
    assert_eq!(logged.matches(&line).count(), 1, "{logged}");
    keeper.kill().expect("its end");
    keeper.wait().expect("its end");
}
