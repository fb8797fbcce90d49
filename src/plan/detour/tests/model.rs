//! Three nodes, the network between them, the cluster's attributes, and a cluster that starts, stops and moves: what
//! may go wrong goes wrong at random, and when it is over, exactly one node answers for the VIP.

mod cluster;
mod world;

use proptest::prelude::*;

use self::world::World;
use super::*;

/// How long everything may take to fall into place, once nothing goes wrong any more: the longest is what a VIP needs
/// that has lost its router.
const SETTLING: Duration = Duration::from_secs(150);
/// For how long it is looked whether that is all.
const WATCHED: Duration = Duration::from_secs(30);

/// Something that goes wrong, or is done.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// The cluster moves the address to this node.
    Move(usize),
    /// The cluster moves the virtual server to this node, and has its address follow or not.
    MoveServer(usize, bool),
    /// The address is started on this node by hand, beside the router that the cluster knows. Until one of the two has
    /// withdrawn, the address does not go home: only another router tells one that it is not meant.
    StartByHand(usize),
    /// The agent is killed while it starts the address.
    KillStart,
    /// portwatch of this node is started anew.
    Restart(usize),
    /// This node is fenced, and comes back.
    Fence(usize),
    /// The cluster forgets this node's attributes, for a while.
    Forget(usize),
    /// This node is not reached by others, or is again.
    Cut(usize, bool),
    /// The virtual server's node is not.
    CutServer(bool),
    /// The subnet with the clients is lost on this node, or is back.
    Lose(usize, bool),
}

fn act() -> impl Strategy<Value = Act> {
    let node = || 0..NODES.len();
    prop_oneof![
        4 => node().prop_map(Act::Move),
        1 => (node(), any::<bool>()).prop_map(|(n, stays)| Act::MoveServer(n, stays)),
        2 => node().prop_map(Act::StartByHand),
        1 => Just(Act::KillStart),
        1 => node().prop_map(Act::Restart),
        1 => node().prop_map(Act::Fence),
        2 => node().prop_map(Act::Forget),
        1 => (node(), any::<bool>()).prop_map(|(n, on)| Act::Cut(n, on)),
        3 => any::<bool>().prop_map(Act::CutServer),
        1 => (node(), any::<bool>()).prop_map(|(n, on)| Act::Lose(n, on)),
    ]
}

/// How long it takes to the next one, in milliseconds: as long as a message or a search takes, or longer.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, 0..4000_u64]
}

impl World {
    /// Nothing goes wrong any more, and the cluster has looked that the address is started where it has it.
    fn calm_down(&mut self) {
        self.wrong = false;
        for n in 0..self.members.len() {
            self.members[n].cut = false;
            self.look(n);
        }
        self.pass(Duration::from_secs(10));
        let placed = self.placed;
        let serves = |record: &Record| {
            record.serving && !matches!(record.role, Role::Ending(_) | Role::Detour(_))
        };
        if !self.members[placed]
            .records
            .get(RESOURCE)
            .is_some_and(serves)
        {
            self.stop(placed);
            self.start(placed);
        }
        self.pass(SETTLING);
    }

    /// The nodes that answer for the VIP.
    fn answering(&self) -> Vec<usize> {
        let answers =
            |record: &Record| record.serving && matches!(record.role, Role::Home | Role::Router(_));
        let all = self.members.iter().enumerate();
        all.filter(|(_, member)| member.records.values().any(answers))
            .map(|(n, _)| n)
            .collect()
    }

    fn check(&mut self) {
        assert_eq!(self.answering(), [self.placed], "who answers");
        for (n, member) in self.members.iter().enumerate() {
            let roles: Vec<&Role> = member.records.values().map(|r| &r.role).collect();
            let claims = self.attributes.keys();
            let claims =
                claims.filter(|(name, of)| matches!(name, Attribute::Router(_)) && *of == n);
            let routes = n == self.placed && n != self.server;
            assert_eq!(claims.count(), usize::from(routes), "claims of {n}");
            match &roles[..] {
                [Role::Home] => assert!(n == self.placed && n == self.server),
                [Role::Router(path)] => assert!(routes && path.node == NODES[self.server]),
                [Role::Detour(Some(hop))] => {
                    assert!(n == self.server && hop.node == NODES[self.placed]);
                }
                [] => assert_ne!(n, self.placed),
                _ => panic!("{n} has {roles:?}"),
            }
            if n == self.server && n != self.placed {
                assert_eq!(roles.len(), 1, "its cell's packets have no way");
            }
            let cells = self.attributes.contains_key(&(cell(), n));
            assert_eq!(cells, n == self.server, "the cell at {n}");
            assert!(member.asked.is_empty(), "an agent waits for ever");
            let nopath = Attribute::NoPath("alpha".into());
            assert!(
                !self.attributes.contains_key(&(nopath, n)),
                "no path at {n}"
            );
        }
        // No search goes on: only the router looks, and calmly.
        self.cell_queries = 0;
        self.pass(WATCHED);
        let routers = usize::from(self.placed != self.server);
        let limit = routers * 7;
        assert!(self.cell_queries <= limit, "{} queries", self.cell_queries);
        assert_eq!(self.answering(), [self.placed], "who answers later");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_wrong_one_node_answers_in_the_end(
        seed in any::<u64>(),
        acts in prop::collection::vec((pause(), act()), 0..24),
    ) {
        let mut world = World::new(seed);
        world.pass(Duration::from_secs(1));
        for (pause, act) in acts {
            world.act(act);
            world.pass(Duration::from_millis(pause));
        }
        world.calm_down();
        world.check();
    }
}
