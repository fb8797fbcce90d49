//! The steps from the kernel's present state to the desired one, and the effect of a step on a state.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::desired::Item;
use super::{
    Desired, Element, Incoming, LAST_TABLE, Object, Observed, Route, Rule, Step, WAY_TABLES,
    Watched, vserver_of,
};
use crate::types::{Family, IfName};

/// The steps that bring a VIP into service, or make again what is missing of it. New objects are made first, so that
/// packets have a route at any moment; then those of an earlier port are removed.
pub(crate) fn start(desired: &Desired, seen: &Observed) -> Vec<Step> {
    start_all(std::slice::from_ref(desired), seen)
}

/// As [`start`], for several VIPs, in the order given. The new objects of all VIPs are made before old objects of any
/// are removed.
pub(crate) fn start_all(all: &[Desired], seen: &Observed) -> Vec<Step> {
    let mut state = seen.clone();
    if state.outdated {
        // The tables are made anew, but for the sets' elements; until then they work as they are.
        state.objects.remove(&Object::Tables);
    }
    let mut steps = Vec::new();
    let mut take = |state: &mut Observed, step: Step| {
        apply(state, &step);
        steps.push(step);
    };
    for (item, _) in all.iter().flat_map(|desired| &desired.items) {
        match item {
            Item::Object(object) if !state.objects.contains(object) => {
                if let Some(rival) = rival(object, &state) {
                    take(&mut state, Step::Remove(rival));
                }
                take(&mut state, Step::Add(object.clone()));
            }
            Item::Setting(key, value) if state.settings.get(key) != Some(value) => {
                take(&mut state, Step::Set(key.clone(), *value));
            }
            _ => {}
        }
    }
    for desired in all {
        let wanted: BTreeSet<&Object> = desired.objects().collect();
        for object in in_stop_order(desired.vip, &state) {
            // A source may have become another VIP's; the clean-up removes it if nobody needs it.
            if !wanted.contains(&object)
                && !matches!(object, Object::Element(Element::Source { .. }))
            {
                take(&mut state, Step::Remove(object));
            }
        }
    }
    clean_up(&mut state, &mut steps);
    steps
}

/// The steps that remove a VIP with all that no other VIP needs; none if the kernel has nothing of it.
pub(crate) fn stop(vip: IpAddr, seen: &Observed) -> Vec<Step> {
    let mut state = seen.clone();
    let mut steps = Vec::new();
    let mut take = |state: &mut Observed, step: Step| {
        apply(state, &step);
        steps.push(step);
    };
    for object in in_stop_order(vip, seen) {
        take(&mut state, Step::Remove(object.clone()));
        if let Some(heir) = heir(&object, &state) {
            take(&mut state, Step::Add(heir));
        }
    }
    clean_up(&mut state, &mut steps);
    steps
}

/// The source that takes the place of a removed one: that of another VIP whose packets may leave by the port.
fn heir(gone: &Object, state: &Observed) -> Option<Object> {
    let Object::Element(Element::Source { port, subnet, vip }) = gone else {
        return None;
    };
    let leaves_there = |vip: IpAddr| {
        state.way_rule(vip).is_some_and(|rule| {
            let mut routes = state.routes().filter(|r| Some(r.table) == rule.table());
            routes.any(|r| r.to == (*subnet).into() && r.out.link() == Some(port))
        })
    };
    state.objects.iter().find_map(|object| match object {
        Object::Element(Element::Vip(IpAddr::V4(other)))
            if other != vip && leaves_there((*other).into()) =>
        {
            Some(Object::Element(Element::Source {
                port: port.clone(),
                subnet: *subnet,
                vip: *other,
            }))
        }
        _ => None,
    })
}

/// The element to remove before `object` can be added: a map has one value for each key.
fn rival(object: &Object, state: &Observed) -> Option<Object> {
    let Object::Element(Element::Source { port, subnet, .. }) = object else {
        return None;
    };
    let same = |o: &&Object| matches!(o, Object::Element(Element::Source { port: p, subnet: s, .. }) if p == port && s == subnet);
    state.objects.iter().find(same).cloned()
}

/// The VIP's own objects in the order of their removal: those that draw packets first.
fn in_stop_order(vip: IpAddr, state: &Observed) -> Vec<Object> {
    let rank = |object: &Object| match object {
        Object::Proxy(..) => 0,
        Object::Element(Element::Source { .. }) => 1,
        Object::Rule(_) => 2,
        Object::Route(route) if route.out.link().is_some() => 3,
        Object::Route(_) => 4,
        Object::Address(_) => 6,
        _ => 5,
    };
    let mut own: Vec<Object> = state
        .objects
        .iter()
        .filter(|o| o.vip() == Some(vip))
        .cloned()
        .collect();
    own.sort_by_key(rank);
    own
}

/// Applies a step to a state, as the kernel would.
pub(crate) fn apply(state: &mut Observed, step: &Step) {
    match step {
        Step::Add(Object::Tables) => {
            (state.damaged, state.outdated) = (false, false);
            state.objects.insert(Object::Tables);
        }
        Step::Remove(Object::Tables) => {
            (state.damaged, state.outdated) = (false, false);
            state
                .objects
                .retain(|o| !o.is_element() && *o != Object::Tables);
        }
        Step::Add(object) => {
            if let Object::Route(new) = object {
                // A table has one route for each destination and metric.
                let same = |o: &Object| matches!(o, Object::Route(r) if (r.table, r.to, r.metric) == (new.table, new.to, new.metric));
                state.objects.retain(|o| !same(o));
            }
            state.objects.insert(object.clone());
        }
        Step::Remove(object) => {
            state.objects.remove(object);
        }
        Step::Set(key, value) => {
            if let Some(now) = state.settings.insert(key.clone(), *value) {
                state.before.entry(key.clone()).or_insert(now);
            }
        }
        Step::Restore(key) => {
            let (before, now) = (state.before.remove(key), state.settings.get_mut(key));
            if let (Some(before), Some(now)) = (before, now) {
                *now = before;
            }
        }
    }
}

/// What the VIPs of a state need in common.
struct Needs {
    /// Families with a VIP.
    families: BTreeSet<Family>,
    /// Interfaces by which VIPs' packets leave, that answer for a VIP, or that lead to the node with a VIP's cell.
    ports: BTreeSet<(Family, IfName)>,
    /// Interfaces of cells with a VIP.
    cells: BTreeSet<(Family, IfName)>,
    /// The routes in tables that a VIP's rule leads to.
    ways: BTreeSet<Route>,
    /// Interfaces of cells whose rules stay even without a VIP: a keeper makes and removes them.
    kept: BTreeSet<IfName>,
}

impl Needs {
    fn of(state: &Observed) -> Self {
        let tables: BTreeSet<(Family, u32)> = state
            .rules()
            .filter(|rule| rule.is_way())
            .filter_map(|r| Some((r.family, r.table()?)))
            .collect();
        let ways: BTreeSet<Route> = state
            .routes()
            .filter(|r| tables.contains(&(r.family(), r.table)))
            .cloned()
            .collect();
        let mut needs = Self {
            families: state
                .objects
                .iter()
                .filter_map(Object::vip)
                .map(|v| Family::of(&v))
                .collect(),
            ports: BTreeSet::new(),
            cells: BTreeSet::new(),
            ways,
            kept: kept(state),
        };
        for route in &needs.ways {
            let link = route.out.link();
            needs
                .ports
                .extend(link.map(|l| (route.family(), l.clone())));
        }
        for object in &state.objects {
            match object {
                Object::Proxy(port, vip) => {
                    needs.ports.insert((Family::of(vip), port.clone()));
                }
                Object::Element(Element::RemoteSource(port, vip, _)) => {
                    needs.ports.insert((Family::of(vip), port.clone()));
                }
                Object::Element(Element::CellSource(link, vip))
                | Object::Element(Element::VipTarget(vip, link)) => {
                    needs.cells.insert((Family::of(vip), link.clone()));
                }
                Object::Route(route) if route.announced => {
                    let family = route.family();
                    let ports = watched_ports(family, state);
                    needs.ports.extend(ports.map(|port| (family, port.clone())));
                }
                _ => {}
            }
        }
        needs
    }

    fn both(set: &BTreeSet<(Family, IfName)>, name: &str) -> bool {
        set.iter().any(|(_, n)| n == name)
    }

    fn rule(&self, rule: &Rule) -> bool {
        match &rule.incoming {
            Incoming::By(link) if rule.from.is_none() => {
                self.kept.contains(link) || self.ports.contains(&(rule.family, link.clone()))
            }
            _ => self.families.contains(&rule.family),
        }
    }

    /// Whether a setting, `FAMILY/conf/INTERFACE/NAME` or `FAMILY/neigh/…`, is needed.
    fn setting(&self, key: &str) -> bool {
        let family = match key.starts_with("ipv4/") {
            true => Family::V4,
            false => Family::V6,
        };
        match key.split('/').nth(2) {
            Some("all") => self.families.contains(&family),
            Some(link) => {
                let link = (family, IfName::of_kernel(link.as_bytes()));
                self.ports.contains(&link) || self.cells.contains(&link)
            }
            None => false,
        }
    }

    fn object(&self, object: &Object) -> bool {
        match object {
            Object::Element(Element::Port(port)) => Self::both(&self.ports, port),
            Object::Element(Element::ClosedPort(family, port)) => {
                self.ports.contains(&(*family, port.clone()))
            }
            Object::Placeholder(port) | Object::Element(Element::Source { port, .. }) => {
                self.ports.contains(&(Family::V4, port.clone()))
            }
            Object::Element(Element::Cell(link)) => Self::both(&self.cells, link),
            Object::Element(Element::Host(ip)) => self.families.contains(&Family::of(ip)),
            Object::Rule(rule) => self.rule(rule),
            Object::Route(route) if WAY_TABLES.contains(&route.table) => self.ways.contains(route),
            Object::Route(route) if route.table == LAST_TABLE => self
                .ways
                .iter()
                .any(|w| (&w.to, &w.out) == (&route.to, &route.out)),
            _ => true,
        }
    }
}

/// The cells' interfaces whose rules stay even without a VIP: of cells that live, or are being made at this moment.
fn kept(state: &Observed) -> BTreeSet<IfName> {
    let served = |link: &IfName| {
        let cell = Object::Element(Element::Cell(link.clone()));
        state.objects.contains(&cell)
    };
    let stays = |link: &IfName| match state.link(link) {
        Some(link) => !link.eligible,
        // An interface that does not exist and has served a VIP belonged to a cell that is dead.
        None => vserver_of(link).is_some() && !served(link),
    };
    let incoming = state.rules().filter_map(|rule| match &rule.incoming {
        Incoming::By(link) => Some(link),
        Incoming::Any | Incoming::Forwarded => None,
    });
    incoming.filter(|link| stays(link)).cloned().collect()
}

/// The ports by which a VIP of `family` with an announced route may be reached.
fn watched_ports(family: Family, state: &Observed) -> impl Iterator<Item = &IfName> {
    let of_family = move |watched: &Watched| {
        let mut nets = watched.nets.iter();
        nets.any(|(net, _)| Family::of(&net.ip()) == family)
    };
    let ports = state.watched.iter();
    ports
        .filter(move |(name, watched)| of_family(watched) && state.link(name).is_some())
        .map(|(name, _)| name)
}

/// Removes what the VIPs of `state` don't need.
fn clean_up(state: &mut Observed, steps: &mut Vec<Step>) {
    let needs = Needs::of(state);
    let mut take = |state: &mut Observed, step: Step| {
        apply(state, &step);
        steps.push(step);
    };
    let vips = state.objects.iter().any(|o| o.vip().is_some());
    let idle: Vec<Object> = state
        .objects
        .iter()
        .filter(|o| !needs.object(o))
        .cloned()
        .collect();
    // Elements and rules that drop packets are removed only when nothing is forwarded there any more.
    let (drops, others): (Vec<Object>, Vec<Object>) = idle.into_iter().partition(Object::drops);
    for object in others {
        take(state, Step::Remove(object));
    }
    // In the reverse order of their names, forwarding is restored before the acceptance of router advertisements.
    let keys: Vec<String> = state.before.keys().rev().cloned().collect();
    for key in keys.into_iter().filter(|key| !needs.setting(key)) {
        take(state, Step::Restore(key));
    }
    let (elements, rules): (Vec<Object>, Vec<Object>) =
        drops.into_iter().partition(Object::is_element);
    // The rule with the last preference is removed first.
    for rule in rules.into_iter().rev() {
        take(state, Step::Remove(rule));
    }
    if !vips {
        let remains = state
            .objects
            .iter()
            .any(|o| o.is_element() || *o == Object::Tables);
        if remains || state.damaged {
            take(state, Step::Remove(Object::Tables));
        }
        return;
    }
    for element in elements {
        take(state, Step::Remove(element));
    }
}
