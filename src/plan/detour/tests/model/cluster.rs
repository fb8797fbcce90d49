//! What the cluster does, and its agents, and whoever has a hand in it.

use super::super::*;
use super::Act;
use super::world::{Message, World};
use crate::plan::vip::record::detour_name;

impl World {
    /// The vip agent's start.
    pub(crate) fn start(&mut self, n: usize) {
        self.members[n].stopped = false;
        if self.server == n {
            let detour = detour_name(vip());
            self.write(n, RESOURCE, Some(record(Role::Home)));
            self.write(n, &detour, None);
            return;
        }
        self.asker += 1;
        let asker = self.asker;
        self.members[n].asked.insert(asker);
        self.on(
            n,
            Event::PathWanted {
                asker,
                vserver: "alpha".into(),
                vip: vip(),
            },
        );
    }

    /// It goes on when it knows the path.
    pub(crate) fn answered(&mut self, n: usize, path: Result<TransitPath, String>) {
        if self.members[n].stopped || self.server == n {
            return;
        }
        match path {
            Ok(path) => {
                let done = record(Role::Router(path));
                let begun = Record {
                    serving: false,
                    ..done.clone()
                };
                self.write(n, RESOURCE, Some(begun));
                self.send(n, Message::Started(done), 100);
            }
            Err(why) => self.write(n, RESOURCE, Some(record(Role::Stranded(why)))),
        }
    }

    /// The vip agent's stop: what connections need is handed over to portwatch.
    pub(crate) fn stop(&mut self, n: usize) {
        self.members[n].stopped = true;
        let Some(before) = self.members[n].records.get(RESOURCE).cloned() else {
            return;
        };
        let kept = |role| Record {
            serving: false,
            ..Record::new(&before.spec, role)
        };
        match &before.role {
            Role::Router(path) | Role::Ending(path) => {
                self.write(n, RESOURCE, Some(kept(Role::Ending(path.clone()))));
            }
            Role::Home if self.server == n => {
                let detour = detour_name(vip());
                self.write(n, &detour, Some(kept(Role::Detour(None))));
                self.write(n, RESOURCE, None);
            }
            _ => self.write(n, RESOURCE, None),
        }
    }

    fn place(&mut self, n: usize) {
        if self.placed != n {
            self.stop(self.placed);
        }
        self.placed = n;
        if self.by_hand == Some(n) {
            self.by_hand = None;
        }
        self.start(n);
    }

    pub(crate) fn act(&mut self, act: Act) {
        match act {
            // Nobody but another router would tell the one that was started by hand.
            Act::Move(n) if self.by_hand.is_none() || n != self.server => self.place(n),
            Act::MoveServer(n, stays) if self.by_hand.is_none() => {
                let placed = self.placed;
                if n != self.server {
                    self.stop(placed);
                    self.members[self.server].view.cells.clear();
                    self.look(self.server);
                    self.server = n;
                    self.members[n].view.cells.insert("alpha".into());
                    self.look(n);
                    self.place(if stays { placed } else { n });
                }
            }
            Act::StartByHand(n) => {
                let routes = self.placed != self.server && self.by_hand.is_none();
                if routes && n != self.placed && n != self.server {
                    self.by_hand = Some(n);
                    self.start(n);
                }
            }
            Act::KillStart => self.kill_start(self.placed),
            Act::Restart(n) => self.restart(n),
            Act::Fence(n) if n != self.server => self.fence(n),
            Act::Forget(n) => {
                self.attributes.retain(|(_, of), _| *of != n);
                self.send(n, Message::PublishAll, 5000);
            }
            Act::Cut(n, cut) => self.members[n].cut = cut,
            Act::CutServer(cut) => self.members[self.server].cut = cut,
            Act::Lose(n, lost) => {
                self.members[n].view.lost_subnet = lost;
                self.look(n);
            }
            Act::Move(_) | Act::MoveServer(..) | Act::Fence(_) => {}
        }
    }

    fn kill_start(&mut self, n: usize) {
        self.messages
            .retain(|_, (to, _, m)| *to != n || !matches!(m, Message::Started(_)));
    }

    fn restart(&mut self, n: usize) {
        let now = self.now;
        let member = &mut self.members[n];
        member.life += 1;
        // The agents see that it is gone, and fail: the cluster starts the address again.
        let failed = !std::mem::take(&mut member.asked).is_empty();
        member.core = Detours::new(member.saved.clone(), member.view.clone(), now);
        // The publisher has told the cluster all that it was told by then, or the next one does.
        self.send(n, Message::PublishAll, 100);
        self.look(n);
        if failed && self.placed == n {
            self.start(n);
        }
    }

    /// All that it has is gone with it; the cluster has the address elsewhere, on the virtual server's node.
    fn fence(&mut self, n: usize) {
        self.kill_start(n);
        let member = &mut self.members[n];
        member.records.clear();
        member.saved = Saved::default();
        member.wanted.clear();
        member.asked.clear();
        member.stopped = true;
        if self.by_hand == Some(n) {
            self.by_hand = None;
        }
        self.attributes.retain(|(_, of), _| *of != n);
        self.restart(n);
        if self.placed == n && self.by_hand.is_none() {
            self.placed = self.server;
            self.start(self.server);
        } else if self.placed == n {
            self.start(n);
        }
    }
}
