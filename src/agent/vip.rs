//! `ocf:berth:vip`: a virtual IP address of one vserver.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use ipnetwork::IpNetwork;

use super::member;
use crate::address::location::CellLocation;
use crate::address::report;
use crate::address::service::Service;
use crate::cell::client::{self, CellInfo, Client, PROMPT};
use crate::cell::protocol::Request;
use crate::cluster::complaint;
use crate::log;
use crate::ocf::param::{network, text, words};
use crate::ocf::{Action, ActionDecl, Agent, Context, Env, Error, Explain, Optional, Param, State};
use crate::plan::vip::record::VipSpec;
use crate::portwatch::client::{mend, seek_way};
use crate::runtime::paths::RUNTIME;
use crate::spec::vip as declared;
use crate::sys::announce::PacketSocket;
use crate::types::{IfName, Label, VserverName, name};

static VSERVER: Param<VserverName> = Param::new(declared::VSERVER, member::name);
static IP: Param<IpAddr> = Param::new(declared::IP, ip);
static SUBNET: Optional<IpNetwork> = Optional::new(declared::SUBNET, subnet);
static GATEWAY: Optional<IpAddr> = Optional::new(declared::GATEWAY, gateway);
static PORTS: Optional<Vec<IfName>> = Optional::new(declared::PORTS, ports);
static ON_SUBNET_LOSS: Param<String> = Param::select(declared::ON_SUBNET_LOSS, text);
static ANNOUNCE: Param<String> = Param::select(declared::ANNOUNCE, text);

/// The agent.
pub static AGENT: Agent = Agent {
    name: "vip",
    shortdesc: "Virtual IP address of a berth virtual server",
    longdesc: "Gives a virtual server an IPv4 or IPv6 address that clients reach it by.\n\n\
        The address lies on the virtual server's own interface, in its own network namespace. One of \
        the node's ports answers for it, and the node routes between the two; it lets through \
        packets to and from such addresses only.\n\n\
        Another user of the address on the network is looked for before it is used. The first start \
        on a node is refused for one, with his Ethernet address as the reason; the next one within a \
        day is done all the same, so that nobody can keep the address down by answering for it. What \
        still answers for another node of the cluster, such as a switch after that node was fenced, \
        refuses no start; it takes portwatch to know. As long as somebody claims the address, the \
        monitor announces it anew and says so (degraded).\n\n\
        A firewall of the node's own that drops forwarded packets keeps clients from the address: the \
        monitor then names the nftables table and chain (degraded). Let through there what comes and \
        goes by interfaces called b-*, or what is not tracked (ct state untracked); accepting the \
        ports of a service as input is not enough, nor is accepting established connections.\n\n\
        On a node without the virtual server the address is a detour: the node answers for it on its \
        subnet and routes to the virtual server's node over another subnet that works for both, so that \
        a node that loses a subnet need not give up its virtual servers. It takes portwatch on both \
        nodes. The monitor then says \"routing 10.1.0.50 for n1 over lab\" (degraded). Without a way \
        there the address waits (degraded, too), and the node attribute \
        berth-nopath-<virtual server> tells the cluster to take another node.",
    example: &[],
    cloned: false,
    params: &[
        &VSERVER,
        &IP,
        &SUBNET,
        &GATEWAY,
        &PORTS,
        &ON_SUBNET_LOSS,
        &ANNOUNCE,
    ],
    actions: &[
        ActionDecl::once(Action::Start, 20, start),
        ActionDecl::once(Action::Stop, 20, stop),
        ActionDecl::monitor(20, 10, 0, monitor),
        ActionDecl::once(Action::ValidateAll, 20, validate),
        ActionDecl::once(Action::ValidateAll, 20, validate_here).at_depth(10),
        ActionDecl::once(Action::ReloadAgent, 20, reload),
    ],
};

fn ip(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(
        |_| "is not an IP address such as 10.1.0.50 or 2001:db8::50, without a prefix length",
    )?;
    declared::ip(address).map(|()| address)
}

/// What it has to be to fit the subnet is judged with that: see [`VipSpec::check`].
fn gateway(text: &str) -> Result<IpAddr, String> {
    let wrong = |_| "is not an IP address such as 10.1.0.254 or fe80::1";
    Ok(text.parse().map_err(wrong)?)
}

fn subnet(text: &str) -> Result<IpNetwork, String> {
    let wrong = "is not a network such as 10.1.0.0/24 or office=10.1.0.0/24";
    let cidr = match text.split_once('=') {
        Some((label, cidr)) => {
            label.parse::<Label>().map_err(|_| wrong)?;
            cidr
        }
        None => text,
    };
    Ok(network(cidr)?.ok_or(wrong)?)
}

fn ports(text: &str) -> Result<Vec<IfName>, String> {
    let parse = |port: &String| {
        name::port(port).map_err(|e| format!("names the interface {port}, which {e}"))
    };
    let ports: Vec<IfName> = words(text)?.iter().map(parse).collect::<Result<_, _>>()?;
    match ports.is_empty() {
        true => Err("names no interface".into()),
        false => Ok(ports),
    }
}

fn spec(env: &Env) -> Result<VipSpec, Error> {
    Ok(VipSpec {
        vserver: VSERVER.get(env)?,
        vip: IP.get(env)?,
        subnet: SUBNET.get(env)?,
        gateway: GATEWAY.get(env)?,
        ports: PORTS.get(env)?,
        routed: ANNOUNCE.get(env)? == declared::ROUTE,
        reroute: ON_SUBNET_LOSS.get(env)? == declared::REROUTE,
    })
}

fn service<'a>(context: &Context<'a>) -> Service<'a> {
    Service::new(context.env.instance(), context.deadline)
}

fn start(context: &Context<'_>) -> Result<State, Error> {
    let spec = spec(context.env)?;
    let vserver = &spec.vserver;
    let cell = client::find(vserver).context(format_args!("find the cell of vserver {vserver}"))?;
    match cell {
        Some(cell) => {
            let place = CellLocation::Here(cell.netns.as_fd());
            let started = service(context).start(&spec, &place)?;
            if let Some((port, wire)) = started.announced {
                announce_again(&spec, port, &wire);
            }
            Ok(started.state)
        }
        None if spec.reroute => route(context, &spec),
        None => Err(Error::failed(format!(
            "vserver {vserver}'s cell does not run on this node"
        ))),
    }
}

/// Routes to the node with the cell. Without a way there the start is no failure: another start would
/// change nothing, and the cluster is told by an attribute that another node may do better.
fn route(context: &Context<'_>, spec: &VipSpec) -> Result<State, Error> {
    let patience = Instant::now() + context.remaining() / 2;
    let asked = seek_way(&spec.vserver, spec.vip)?;
    service(context).route(spec, || asked.wait(patience))
}

/// Applies changed parameters to a VIP that runs; one that does not is not started.
fn reload(context: &Context<'_>) -> Result<State, Error> {
    match monitor(context)? {
        State::Stopped => Ok(State::Stopped),
        _ => start(context),
    }
}

/// Leaves repeated announcements to the keeper, along with the packet socket: closing it last takes a while, for which
/// Pacemaker would have to wait.
fn announce_again(spec: &VipSpec, port: IfName, wire: &PacketSocket) {
    let request = Request::Announce {
        vip: spec.vip,
        port,
    };
    if let Err(e) = ask_keeper(&spec.vserver, &request, Some(wire.as_fd())) {
        log::warn(format_args!("have the keeper announce {}: {e}", spec.vip));
    }
}

/// Stops the VIP. A wrong parameter never fails this: what was started is on record.
fn stop(context: &Context<'_>) -> Result<State, Error> {
    let service = service(context);
    // The parameters may have been changed since, and name another resource's VIP now: the record comes first.
    let given = || VSERVER.try_get(context.env).zip(IP.try_get(context.env));
    let Some((vserver, vip)) = service.recorded().or_else(given) else {
        log::warn("nothing was started and the parameters name nothing: nothing to stop");
        return Ok(State::Stopped);
    };
    let cell = cell_if_any(&vserver);
    let degraded = service.is_degraded();
    let state = service.stop(&vserver, vip, cell.as_ref().map(|c| c.netns.as_fd()))?;
    if degraded {
        leave_no_complaint(context);
    }
    Ok(state)
}

/// Has the cluster forget the degradation of a VIP that has left, unless portwatch runs, which does that itself.
fn leave_no_complaint(context: &Context<'_>) {
    let member = member::member(context);
    if member.node.is_none() || !report::read(RUNTIME.as_ref()).is_empty() {
        return;
    }
    if let Err(e) = complaint::clean_up_later(member) {
        log::warn(format_args!("clean up: {e}"));
    }
}

fn monitor(context: &Context<'_>) -> Result<State, Error> {
    let spec = spec(context.env)?;
    let cell = cell_if_any(&spec.vserver);
    let service = service(context);
    let netns = cell.as_ref().map(|c| c.netns.as_fd());
    let mut state = service.monitor(&spec, netns, &mend)?;
    if context.action != Action::Monitor {
        return Ok(state);
    }
    if let Some(cell) = &cell {
        state = service.put_on_record(&spec, state)?;
        state = service.defend(cell.netns.as_fd(), state);
    }
    if service.note(&state)? {
        let member = member::member(context);
        ask_keeper(&spec.vserver, &Request::CleanUp { member }, None)
            .unwrap_or_else(|e| log::warn(format_args!("have the keeper clean up: {e}")));
    }
    Ok(state)
}

/// Has the keeper do something that this agent can't wait for.
fn ask_keeper(
    vserver: &VserverName,
    request: &Request,
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let keeper = Client::connect(vserver)?;
    let keeper = keeper.ok_or_else(|| io::Error::other("it has ended"))?;
    keeper.ask_with(request, fd, Instant::now() + PROMPT)?;
    Ok(())
}

/// The cell, if it can be found. A keeper that does not answer counts as none: other agents report it.
fn cell_if_any(vserver: &VserverName) -> Option<CellInfo> {
    client::find(vserver).unwrap_or_else(|e| {
        log::warn(format_args!("find the cell of vserver {vserver}: {e}"));
        None
    })
}

fn validate(context: &Context<'_>) -> Result<State, Error> {
    spec(context.env)?.check()?;
    Ok(State::Running)
}

fn validate_here(context: &Context<'_>) -> Result<State, Error> {
    let spec = spec(context.env)?;
    spec.check()?;
    service(context).validate(&spec)?;
    Ok(State::Running)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocf::param::Declared;
    use crate::plan::vip::{ANNOUNCED_PROTOCOL, TO_TABLE};

    #[test]
    fn a_lock_that_somebody_keeps_is_waited_for_in_vain_and_its_holder_named() {
        let runtime = tempfile::tempdir().unwrap();
        let kept = crate::address::lock::try_lock(runtime.path()).unwrap();
        assert!(kept.is_some());
        let limit = Instant::now() + std::time::Duration::from_millis(50);
        let error = crate::address::lock::lock(runtime.path(), limit).unwrap_err();
        let me = format!("process {} (", std::process::id());
        assert!(error.to_string().contains(&me), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn addresses_that_no_host_can_have_are_refused() {
        assert!(ip("10.1.0.50").is_ok() && ip("2001:db8::50").is_ok());
        for bad in [
            "",
            "10.1.0",
            "10.1.0.50/24",
            "0.0.0.0",
            "127.0.0.1",
            "::1",
            "ff02::1",
            "224.0.0.1",
            "fe80::1",
            "::ffff:10.1.0.1",
            "255.255.255.255",
        ] {
            assert!(ip(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn subnets_may_have_names() {
        let plain = subnet("10.1.0.0/24").unwrap();
        assert_eq!(subnet("office=10.1.0.0/24").unwrap(), plain);
        assert_eq!(subnet("2001:db8::/64").unwrap().prefix(), 64);
        for bad in [
            "",
            "10.1.0.0",
            "office",
            "=10.1.0.0/24",
            "a b=10.1.0.0/24",
            "10.1.0.0/33",
            "0.0.0.0/0",
        ] {
            assert!(subnet(bad).is_err(), "{bad}");
        }
        assert_eq!(
            subnet("10.1.0.7/24").unwrap_err(),
            "has host bits set; its network is 10.1.0.0/24"
        );
    }

    #[test]
    fn a_port_that_no_interface_can_be_called_is_named() {
        assert_eq!(ports("eth1  eth2").unwrap(), ["eth1", "eth2"]);
        let error = ports("eth1 ../x").unwrap_err();
        assert!(
            error.starts_with("names the interface ../x, which "),
            "{error}"
        );
        assert!(ports(" ").is_err());
    }

    #[test]
    fn a_routing_daemon_is_told_of_the_numbers_that_routes_have() {
        let numbers = format!("table {TO_TABLE} with the protocol number {ANNOUNCED_PROTOCOL}");
        assert!(ANNOUNCE.spec().longdesc.contains(&numbers));
    }
}
