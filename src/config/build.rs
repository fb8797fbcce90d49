//! From the file to the model. Its structure is that of a configuration that was tried case by case, and so are the
//! values (see [`score`]): change one only together with the simulation that shows why.
//!
//! Each constraint is for one resource. Pacemaker could apply one to all whose ids match a pattern, with a
//! part of the id in the name of an attribute; but crm warns of each such constraint, what is true of an
//! address (its subnet, whether it migrates) is not in its id, and a resource of somebody else's could match.

use std::collections::BTreeSet;

use super::check::subnet_of;
use super::file::{Announce, Config, Filesystem, OnSubnetLoss, Service, Vip, Vserver};
use super::ids::{self, Known};
use super::model::{
    Agent, Condition, Constraint, Features, HOME, Kind, Model, Operation, Pair, Resource, Reward,
    Score,
};
use super::portwatch;
use crate::config::score;
use crate::plan::attribute::{self, Attribute};
use crate::spec::{self, fscheck, vserver};
use Score::Points;

/// Seconds after which a failure is forgotten and the node may be tried again.
pub(crate) const FAILURE_TIMEOUT: u32 = 60;

/// Makes the model of `config`, with the rules that `features` allow. `known` are ids that a live
/// cluster has already given to addresses.
pub fn build(config: &Config, features: Features, known: &Known) -> Model {
    let mut builder = Builder {
        config,
        features: portwatch::usable(config, features),
        model: Model::default(),
    };
    builder.watchers();
    let addresses: Vec<Vec<String>> = config
        .vservers
        .iter()
        .map(|v| {
            let ips: Vec<_> = v.vips.iter().map(|vip| vip.ip.value).collect();
            ids::vips(&v.name.value, &ips, known)
        })
        .collect();
    for (vserver, vip_ids) in config.vservers.iter().zip(&addresses) {
        builder.vserver(vserver);
        for (vip, id) in vserver.vips.iter().zip(vip_ids) {
            builder.vip(vserver, vip, id);
        }
    }
    builder.tiers(&addresses);
    builder.model
}

struct Builder<'c> {
    config: &'c Config,
    features: Features,
    model: Model,
}

fn operation(name: &'static str, interval: u32, timeout: u32) -> Operation {
    Operation {
        name,
        interval,
        timeout,
        depth: 0,
    }
}

fn resource(id: &str, agent: Agent, stickiness: u32) -> Resource {
    Resource {
        id: id.to_owned(),
        agent,
        cloned: false,
        params: Vec::new(),
        node_params: Vec::new(),
        meta: vec![
            ("resource-stickiness", stickiness.to_string()),
            ("failure-timeout", format!("{FAILURE_TIMEOUT}s")),
        ],
        operations: vec![
            operation("monitor", 10, 20),
            operation("start", 0, 60),
            operation("stop", 0, 60),
        ],
    }
}

fn optional(params: &mut Vec<Pair>, name: &'static str, value: Option<impl ToString>) {
    params.extend(value.map(|value| (name, value.to_string())));
}

/// Not known to be lost. A node that has not published the attribute, as its portwatch does not work or
/// has not been there yet, is as good as any: otherwise the first node to publish would draw all virtual
/// servers to it, and a failed portwatch would drive them away.
fn not_lost(attribute: String) -> Vec<Condition> {
    vec![Condition::IsNot(attribute, 0)]
}

fn home_unit(vserver: &Vserver) -> Option<&str> {
    let unit = vserver.home()?.unit.as_ref()?;
    Some(&unit.value)
}

impl Builder<'_> {
    fn constrain(&mut self, purpose: &str, resource: &str, kind: Kind) {
        self.model.constraints.push(Constraint {
            id: ids::constraint(purpose, resource),
            kind,
        });
    }

    fn reward(&mut self, purpose: &str, key: &str, to: &str, score: Score, when: Vec<Condition>) {
        let kind = Kind::Location {
            resource: to.to_owned(),
            reward: Reward::Score(score),
            conditions: when,
        };
        self.constrain(purpose, key, kind);
    }

    fn with(&mut self, resource: &str, with: &str, score: Score) {
        let kind = Kind::Colocation {
            resource: resource.to_owned(),
            with: with.to_owned(),
            score,
        };
        self.constrain("with", resource, kind);
    }

    fn order(&mut self, (purpose, key): (&str, &str), first: &str, then: &str, mandatory: bool) {
        let kind = Kind::Order {
            first: first.to_owned(),
            then: then.to_owned(),
            mandatory,
        };
        self.constrain(purpose, key, kind);
    }

    /// What runs once in the cluster or once on each node.
    fn watchers(&mut self) {
        if self.features.portwatch {
            let mut watcher = resource(ids::PORTWATCH, Agent::Portwatch, 0);
            watcher.cloned = true;
            (watcher.params, watcher.node_params) = portwatch::params(self.config);
            self.model.resources.push(watcher);
        }
        if self.features.rebalance {
            self.model
                .resources
                .push(resource(ids::REBALANCE, Agent::Rebalance, 0));
            let when = vec![Condition::IsController];
            self.reward(
                "controller",
                ids::REBALANCE,
                ids::REBALANCE,
                Points(score::SUBNET),
                when,
            );
        }
    }

    /// Its attributes are there before `resource` is placed. Not mandatory: that would restart every
    /// server whenever portwatch restarts.
    fn after_portwatch(&mut self, resource: &str) {
        if self.features.portwatch {
            let clone = format!("{}-clone", ids::PORTWATCH);
            self.order(("watch", resource), &clone, resource, false);
        }
    }

    fn vserver(&mut self, vserver: &Vserver) {
        let name = &vserver.name.value;
        for filesystem in &vserver.filesystems {
            self.filesystem(vserver, filesystem);
        }
        let mut server = resource(name, Agent::Vserver, score::SERVER_STICKINESS);
        server.params = vserver_params(vserver);
        server.meta.push(("priority", vserver.priority.to_string()));
        let home = vserver.stay_on.as_ref().map(|node| node.value.clone());
        server.meta.extend(home.map(|node| (HOME, node)));
        // The protocol itself, not only the processes: a server can hang and still be there.
        server.operations.push(Operation {
            name: "monitor",
            interval: 60,
            timeout: 30,
            depth: 10,
        });
        if let Some(stop) = server.operations.iter_mut().find(|o| o.name == "stop") {
            // Beyond the servers' own time there is the unmounting.
            stop.timeout = stop.timeout.max(vserver.stop_timeout.unwrap_or(0) + 30);
        }
        self.model.resources.push(server);
        self.after_portwatch(name);
        self.placement(vserver);
    }

    /// Where a virtual server may and should run.
    fn placement(&mut self, vserver: &Vserver) {
        let name = &vserver.name.value;
        if self.features.portwatch {
            let when = not_lost(Attribute::Ports.name());
            self.reward("ports", name, name, Points(score::VITAL), when);
        }
        if let Some(unit) = home_unit(vserver).filter(|_| self.features.storage) {
            let when = not_lost(attribute::storage(unit));
            self.reward("storage", name, name, Points(score::VITAL), when);
        }
        if self.features.rebalance {
            let place = attribute::place(name);
            let mut conditions = vec![Condition::Defined(place.clone())];
            if self.features.portwatch {
                let subnets = vserver
                    .vips
                    .iter()
                    .filter_map(|v| subnet_of(self.config, v));
                let subnets: BTreeSet<&str> = subnets
                    .map(|(subnet, _)| subnet.name.value.as_str())
                    .collect();
                let reached = |subnet| Condition::Is(attribute::net(subnet), 1);
                conditions.extend(subnets.into_iter().map(reached));
            }
            let kind = Kind::Location {
                resource: name.clone(),
                reward: Reward::Attribute(place),
                conditions,
            };
            self.constrain("place", name, kind);
        }
        if vserver.stay_on.is_some() {
            let when = vec![Condition::NotHome];
            self.reward("stay", name, name, Score::Never, when);
        }
    }

    fn filesystem(&mut self, vserver: &Vserver, filesystem: &Filesystem) {
        let name = &vserver.name.value;
        let id = ids::filesystem(name, &filesystem.name.value);
        let mut fs = resource(&id, Agent::Fscheck, score::FILESYSTEM_STICKINESS);
        fs.params = filesystem_params(name, filesystem);
        fs.meta.push(("priority", vserver.priority.to_string()));
        if !filesystem.home {
            // Otherwise one bad data file system would take the server through all nodes.
            fs.meta.push(("critical", "false".to_owned()));
        }
        self.model.resources.push(fs);
        self.with(&id, name, Score::Always);
        // The server can't be without its home, but without a data file system.
        self.order(("before", &id), &id, name, filesystem.home);
        self.after_portwatch(&id);
        let unit = filesystem.unit.as_ref().map(|unit| unit.value.as_str());
        let preferred = self.features.storage && !filesystem.home;
        if let Some(unit) = unit.filter(|u| preferred && home_unit(vserver) != Some(u)) {
            let when = not_lost(attribute::storage(unit));
            self.reward("storage", &id, name, Points(score::USEFUL), when);
        }
    }

    fn vip(&mut self, vserver: &Vserver, vip: &Vip, id: &str) {
        let name = &vserver.name.value;
        let migrate = vip.on_subnet_loss == OnSubnetLoss::Migrate;
        // Without detours an address is of no use anywhere else.
        let apart = self.features.detour && !migrate;
        let stickiness = if apart { score::ROUTER_STICKINESS } else { 0 };
        let mut address = resource(id, Agent::Vip, stickiness);
        address.params = self.vip_params(vserver, vip);
        address
            .meta
            .push(("priority", vserver.priority.to_string()));
        // A failed address must not move its server.
        address.meta.push(("critical", "false".to_owned()));
        self.model.resources.push(address);
        self.with(
            id,
            name,
            if apart {
                Points(score::PULL)
            } else {
                Score::Always
            },
        );
        self.order(("after", id), name, id, true);
        let Some((subnet, _)) = subnet_of(self.config, vip) else {
            return;
        };
        let net = attribute::net(&subnet.name.value);
        if apart {
            let path = Condition::NotDefined(attribute::no_path(name));
            let when = [not_lost(net.clone()), vec![path.clone()]].concat();
            self.reward("net", id, id, Points(score::SUBNET), when);
            let known = vec![Condition::Is(net, 1), path];
            self.reward("known", id, id, Points(score::KNOWN), known);
            let spare = Attribute::Spare.name();
            let kind = Kind::Location {
                resource: id.to_owned(),
                // Without the condition, a node that does not publish it would be forbidden.
                conditions: vec![Condition::Defined(spare.clone())],
                reward: Reward::Attribute(spare),
            };
            self.constrain("spare", id, kind);
        } else if migrate && self.features.portwatch {
            self.reward("net", id, name, Points(score::USEFUL), not_lost(net));
        }
    }

    fn vip_params(&self, vserver: &Vserver, vip: &Vip) -> Vec<Pair> {
        let mut params = vec![
            (spec::vip::VSERVER.name, vserver.name.value.clone()),
            (spec::vip::IP.name, vip.ip.value.to_string()),
        ];
        let place = subnet_of(self.config, vip);
        let subnet = place.map(|(subnet, net)| format!("{}={}", subnet.name.value, net.cidr));
        optional(&mut params, spec::vip::SUBNET.name, subnet);
        let gateway = vip.gateway.as_ref().map(|gateway| gateway.value);
        let gateway = gateway.or_else(|| place.and_then(|(_, net)| net.gateway));
        optional(&mut params, spec::vip::GATEWAY.name, gateway);
        let mut ports: Vec<&str> = vip.ports.iter().map(|port| port.value.as_str()).collect();
        if let Some((subnet, _)) = place.filter(|_| ports.is_empty()) {
            ports = portwatch::ports_on(self.config, &subnet.name.value);
        }
        if !ports.is_empty() {
            params.push((spec::vip::PORTS.name, ports.join(" ")));
        }
        if vip.on_subnet_loss == OnSubnetLoss::Migrate {
            params.push((
                spec::vip::ON_SUBNET_LOSS.name,
                spec::vip::MIGRATE.to_owned(),
            ));
        }
        if vip.announce == Announce::Route {
            params.push((spec::vip::ANNOUNCE.name, spec::vip::ROUTE.to_owned()));
        }
        params
    }

    /// Higher priority first: a virtual server waits for the addresses of all higher ones, if they
    /// start in the same transition. Not only for those of the next tier, which may be running.
    fn tiers(&mut self, addresses: &[Vec<String>]) {
        let vservers = &self.config.vservers;
        let priorities: BTreeSet<u32> = vservers.iter().map(|v| v.priority).collect();
        for tier in priorities.iter().rev().skip(1) {
            let higher = vservers
                .iter()
                .zip(addresses)
                .filter(|(v, _)| v.priority > *tier);
            let first = higher.flat_map(|(_, ids)| ids.iter().cloned()).collect();
            let own = vservers.iter().filter(|v| v.priority == *tier);
            let then = own.map(|v| v.name.value.clone()).collect();
            self.constrain("tier", &tier.to_string(), Kind::Tiers { first, then });
        }
    }
}

fn vserver_params(server: &Vserver) -> Vec<Pair> {
    let services = server.services.iter().map(|service| match service {
        Service::Nfs => vserver::NFS,
        Service::Smb => vserver::SMB,
    });
    let mut services: Vec<&str> = services.collect();
    if services.is_empty() {
        services.push(vserver::NONE);
    }
    let mut params = vec![
        (vserver::NAME.name, server.name.value.clone()),
        (vserver::SERVICES.name, services.join(" ")),
    ];
    optional(&mut params, vserver::COMMAND.name, server.command.as_ref());
    optional(
        &mut params,
        vserver::HOME.name,
        server.home().map(|f| &f.path.value),
    );
    optional(
        &mut params,
        vserver::CONFIG_DIR.name,
        server.config_dir.as_ref(),
    );
    let calls: Vec<&str> = server.allow_calls.iter().map(|call| call.name()).collect();
    let calls = (!calls.is_empty()).then(|| calls.join(" "));
    optional(&mut params, vserver::ALLOW_CALLS.name, calls);
    optional(&mut params, vserver::NFS_LEASE.name, server.nfs_lease);
    optional(&mut params, vserver::NFS_GRACE.name, server.nfs_grace);
    optional(
        &mut params,
        vserver::MAX_CONNECTIONS.name,
        server.max_connections,
    );
    let per_client = server.max_connections_per_client;
    optional(
        &mut params,
        vserver::MAX_CONNECTIONS_PER_CLIENT.name,
        per_client,
    );
    optional(&mut params, vserver::STOP_TIMEOUT.name, server.stop_timeout);
    optional(&mut params, vserver::MEMORY_MAX.name, server.memory_max);
    optional(&mut params, vserver::PIDS_MAX.name, server.pids_max);
    optional(&mut params, vserver::CPU_WEIGHT.name, server.cpu_weight);
    optional(&mut params, vserver::IO_WEIGHT.name, server.io_weight);
    params
}

fn filesystem_params(vserver: &str, filesystem: &Filesystem) -> Vec<Pair> {
    let mut params = vec![
        (fscheck::VSERVER.name, vserver.to_owned()),
        (fscheck::DEVICE.name, filesystem.device.value.clone()),
        (fscheck::DIRECTORY.name, filesystem.path.value.clone()),
    ];
    optional(&mut params, fscheck::FSTYPE.name, filesystem.fstype);
    optional(
        &mut params,
        fscheck::OPTIONS.name,
        filesystem.options.as_ref(),
    );
    optional(
        &mut params,
        fscheck::UNIT.name,
        filesystem.unit.as_ref().map(|u| &u.value),
    );
    optional(&mut params, fscheck::REPAIR.name, filesystem.repair);
    if let Some(nfs) = &filesystem.nfs {
        params.push((fscheck::NFS_CLIENTS.name, nfs.clients.join(" ")));
        optional(&mut params, fscheck::NFS_ACCESS.name, nfs.access);
        optional(&mut params, fscheck::NFS_SQUASH.name, nfs.squash);
        optional(&mut params, fscheck::NFS_PORTS.name, nfs.ports);
    }
    if let Some(smb) = &filesystem.smb {
        params.push((fscheck::SMB_SHARE.name, smb.share.value.clone()));
        let users = Some(smb.users.join(" ")).filter(|users| !users.is_empty());
        optional(&mut params, fscheck::SMB_USERS.name, users);
    }
    params
}
