//! Requests of agents to the daemon, and what monitors report to the cluster.

use std::time::{Duration, Instant};

use super::{Daemon, Ending, balancer};
use crate::log;
use crate::plan::attribute::Attribute;
use crate::plan::detour::Event;
use crate::portwatch::protocol::{Reply, Request};
use crate::portwatch::settings::Settings;
use crate::portwatch::state::{AttributeState, NodeState};
use crate::runtime::channel::{Channel, Received};

/// How many agents may be connected at once.
pub(crate) const CLIENTS: usize = 64;
/// How long after a monitor the cluster has surely recorded its result.
const RECORDED: Duration = Duration::from_secs(1);

impl Daemon {
    /// Accepts agents' connections, reads their requests, and answers those that can be answered at once.
    pub(crate) fn handle_agents(&mut self) {
        let connected = self.listener.accept(self.clients.len(), Instant::now());
        self.clients.extend(connected);
        for client in std::mem::take(&mut self.clients) {
            match client.receive::<Request>() {
                Ok(Received::Nothing) => self.clients.push(client),
                Ok(Received::Message(request, _)) => self.handle_request(request, client),
                Ok(Received::Closed) => {}
                Err(e) => {
                    log::warn(format_args!("refused a request: {e}"));
                    if let Err(e) = client.send(&Reply::Refused(e.to_string()), None) {
                        log::debug(format_args!("answer an agent: {e}"));
                    }
                }
            }
        }
    }

    fn handle_request(&mut self, request: Request, agent: Channel) {
        let reply = match request {
            Request::Status => {
                let state = self.state(Instant::now());
                self.note(state.trouble.as_deref());
                Reply::status(state)
            }
            Request::State => Reply::State(Box::new(self.state(Instant::now()).bounded())),
            Request::Configure(settings) => {
                self.configure(settings);
                Reply::Noted
            }
            Request::Mend => {
                self.mend_at = Some(Instant::now());
                Reply::Noted
            }
            Request::End => {
                self.ending = Some(Ending::ForGood);
                Reply::Noted
            }
            Request::HandOver => {
                log::info("another daemon takes over");
                self.ending = Some(Ending::HandedOver);
                Reply::Noted
            }
            // Answered when the search for the path is over.
            Request::FindPath { vserver, vip } => {
                let asker = self.detours.keep(agent);
                let event = Event::PathWanted {
                    asker,
                    vserver,
                    vip,
                };
                return self.feed_detours(event, Instant::now());
            }
        };
        if let Err(e) = agent.send(&reply, None) {
            log::debug(format_args!("answer an agent: {e}"));
        }
        self.clients.push(agent);
    }

    /// All that the daemon knows of the node.
    fn state(&self, now: Instant) -> NodeState {
        let attribute = |(name, value, told): (&Attribute, &Option<String>, bool)| {
            let value = value.clone();
            (name.name(), AttributeState { value, told })
        };
        let late = !self.publisher.is_done();
        let state = NodeState {
            node: self.settings.node.clone(),
            ports: self.watch.port_states(&self.mover.port_loads(), now),
            subnets: self.watch.subnet_states(now),
            vips: self.mover.vips(),
            detours: self.detours.overview(now),
            attributes: self.publisher.attributes().map(attribute).collect(),
            unpublished: self.publisher.error().filter(|_| late).map(str::to_owned),
            ..NodeState::default()
        };
        state.with_trouble()
    }

    /// Takes other parameters. What is known of ports that are watched as before is kept.
    fn configure(&mut self, settings: Settings) {
        if settings == self.settings {
            return;
        }
        let now = Instant::now();
        log::info("parameters have changed");
        if (settings.balance, settings.balance_hold())
            != (self.settings.balance, self.settings.balance_hold())
        {
            self.balancer = balancer(&settings);
        }
        let told = self.watch.attributes();
        self.watch.configure(&settings, now);
        self.settings = settings;
        if let Err(e) = self.look(now) {
            log::warn(e);
        }
        let stray = told.into_iter().map(|(name, _)| name);
        stray
            .filter(|name| self.watch.is_stray(name))
            .for_each(|name| self.publisher.publish(name, None));
        self.query_addresses_at = now;
        self.mend_at = Some(now);
    }

    /// Notes that a monitor reports this trouble to the cluster, or none. The cluster shows the first trouble that was
    /// reported, whatever later monitors report, until the resource is cleaned up: that is due when the trouble is
    /// another one or over.
    fn note(&mut self, trouble: Option<&str>) {
        match &self.told {
            None => self.told = trouble.map(str::to_owned),
            Some(told) if trouble == Some(told) => {}
            // What the cluster shows since a previous daemon is not known: it is taken to be this trouble.
            Some(told) if told.is_empty() && trouble.is_some() => {
                self.told = trouble.map(str::to_owned);
            }
            Some(_) => {
                self.told = None;
                self.clean_up_at = Some(Instant::now() + RECORDED);
            }
        }
    }
}
