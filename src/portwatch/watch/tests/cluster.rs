//! Several nodes that lose sight of a subnet together, or one of them alone, whenever each of them asks.

use proptest::prelude::*;

use super::*;

/// Several nodes whose ports to the office are behind the same switches, and what each has told the
/// others of it.
struct Cluster {
    nodes: Vec<Node>,
    /// Milliseconds since it began.
    time: u64,
    /// What each node has told, and when the others know it.
    told: Vec<Vec<(u64, String)>>,
    /// What each has asked: when the reply comes, and what it is.
    replies: Vec<Option<(u64, Values)>>,
    news: u64,
}

const TO_OFFICE: [u32; 2] = [1, 2];
/// How long the cluster takes to reply a question, in milliseconds.
const ANSWER: u64 = 20;

impl Cluster {
    /// Nodes that ask so many milliseconds one after the other; news of one takes so many to the others.
    fn new(phases: &[u64], news: u64) -> Self {
        let nodes = phases.iter().map(|phase| {
            let mut node = Node::new();
            node.pass(*phase);
            node
        });
        Self {
            nodes: nodes.collect(),
            time: 0,
            told: vec![vec![(0, "1".to_owned())]; phases.len()],
            replies: vec![None; phases.len()],
            news,
        }
    }

    fn set_switch(&mut self, node: usize, works: bool) {
        self.nodes[node].answering = vec![3];
        if works {
            self.nodes[node].answering.extend(TO_OFFICE);
        }
    }

    /// Lets time pass; says when each node told the cluster that it can't reach the office.
    fn pass(&mut self, milliseconds: u64) -> Vec<Option<u64>> {
        let end = self.time + milliseconds;
        let mut lost = vec![None; self.nodes.len()];
        while self.time < end {
            self.time += 10;
            for (index, lost) in lost.iter_mut().enumerate() {
                self.step(index);
                if self.nodes[index].attribute("berth-net-office").unwrap() == "0" {
                    lost.get_or_insert(self.time);
                }
            }
        }
        lost
    }

    fn step(&mut self, index: usize) {
        let time = self.time;
        let known = |told: &Vec<(u64, String)>| {
            let word = told.iter().rev().find(|(at, _)| *at <= time);
            word.map(|(_, value)| value.clone())
        };
        let others = self.told.iter().enumerate().filter(|(i, _)| *i != index);
        let others =
            others.filter_map(|(i, told)| Some((format!("n{i}").as_str().into(), known(told)?)));
        let others: Values = others.collect();
        let node = &mut self.nodes[index];
        node.pass(10);
        let reply = &mut self.replies[index];
        if let Some((_, values)) = reply.take_if(|(at, _)| *at <= time) {
            node.watch
                .on_attribute(&attribute("berth-heard-office"), &values, node.now);
            node.watch.judge(node.now);
        }
        if !node.watch.queries_due(node.now).is_empty() {
            *reply = Some((time + ANSWER, others));
        }
        let value = node.attribute("berth-heard-office").unwrap();
        if self.told[index].last().is_some_and(|last| last.1 != value) {
            self.told[index].push((time + self.news, value));
        }
    }
}

fn some_cluster() -> impl Strategy<Value = (Vec<u64>, u64)> {
    let phase = prop_oneof![Just(0), Just(190), (0..20u64).prop_map(|p| p * 10)];
    // The steps in which time passes here delay them a little more.
    (proptest::collection::vec(phase, 2..=3), 20..=60u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 40 } else { 400 }))]

    #[test]
    fn a_switch_that_dies_for_all_nodes_condemns_none(
        (phases, news) in some_cluster(),
        lost in 0..20u64,
        length in 0..150u64,
    ) {
        let mut cluster = Cluster::new(&phases, news);
        cluster.pass(lost * 10);
        let nodes = 0..phases.len();
        nodes.clone().for_each(|node| cluster.set_switch(node, false));
        prop_assert!(cluster.pass(length * 10).iter().all(Option::is_none));
        nodes.clone().for_each(|node| cluster.set_switch(node, true));
        prop_assert!(cluster.pass(2_000).iter().all(Option::is_none));
        prop_assert!(cluster.nodes.iter().all(|node| node.trouble().is_none()));
    }

    #[test]
    fn a_dead_switch_of_one_node_is_told_in_time(
        (phases, news) in some_cluster(),
        lost in 0..20u64,
    ) {
        let mut cluster = Cluster::new(&phases, news);
        cluster.pass(lost * 10);
        cluster.set_switch(0, false);
        let begin = cluster.time;
        let told = cluster.pass(2_000);
        let time = told[0].unwrap() - begin;
        prop_assert!((400..=660).contains(&time), "{}", time);
        prop_assert!(told[1..].iter().all(Option::is_none));
    }
}
