//! The mark that e2fsck leaves on an ext4 with multiple-mount protection while it runs, and for ever if it is killed.
//!
//! Nothing on the device shows whether the check still runs: it renews the mark once a minute at the most, at some
//! places of its work, and not at all while it waits for an answer. The kernel and e2fsprogs never override the mark,
//! so berth has to be certain that the check's node does not run it any more.

/// What is known of the node whose name is in a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checker {
    /// It is this node, where it can be seen who uses the device.
    Here,
    /// The cluster has fenced the node, or it was shut down in order.
    Down,
    /// Neither: a check may run there.
    Unknown,
}

/// A node of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer<'a> {
    /// The node's name in the cluster, which need not be its host name.
    pub(crate) name: &'a str,
    /// Whether the node is known to be down.
    pub(crate) down: bool,
}

/// What is known of the node with the host name `node`; `here` is this node's own.
pub(crate) fn checker<'a>(
    node: &str,
    here: &str,
    peers: impl IntoIterator<Item = Peer<'a>>,
) -> Checker {
    if is_anybody(node) {
        return Checker::Unknown;
    }
    if node.eq_ignore_ascii_case(here) {
        return Checker::Here;
    }
    let mut meant = peers
        .into_iter()
        .filter(|peer| is_same_host(node, peer.name))
        .peekable();
    // If two nodes may be meant, the one that is up may be running the check.
    match meant.peek().is_some() && meant.all(|peer| peer.down) {
        true => Checker::Down,
        false => Checker::Unknown,
    }
}

/// Whether this is a default host name, which any host may have that was never given one.
fn is_anybody(node: &str) -> bool {
    let first = node.split('.').next().unwrap_or_default();
    ["", "(none)", "localhost"].contains(&first.to_ascii_lowercase().as_str())
}

/// Whether two names may be those of one host, in full and in short.
fn is_same_host(one: &str, other: &str) -> bool {
    let short = |name: &str, full: &str| {
        let first = full.split('.').next().unwrap_or_default();
        !name.contains('.') && name.eq_ignore_ascii_case(first)
    };
    one.eq_ignore_ascii_case(other) || short(one, other) || short(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn peer(name: &str, down: bool) -> Peer<'_> {
        Peer { name, down }
    }

    #[test]
    fn a_mark_is_this_node_s_by_its_own_name_alone() {
        for node in ["n1.example.com", "N1.Example.com"] {
            assert_eq!(checker(node, "n1.example.com", []), Checker::Here);
        }
        for node in ["n1", "n1.example.org", "n2"] {
            assert_eq!(checker(node, "n1.example.com", []), Checker::Unknown);
        }
        for nameless in ["", "(none)", "localhost", "localhost.localdomain"] {
            let down = [peer(nameless, true)];
            assert_eq!(checker(nameless, nameless, down), Checker::Unknown);
        }
    }

    #[test]
    fn another_node_is_down_only_if_the_cluster_says_so_of_all_that_may_be_meant() {
        let seen = |node, peers: &[Peer]| checker(node, "n1", peers.iter().copied());
        let (up, down) = (peer("n2", false), peer("n2", true));
        for node in ["n2", "n2.example.com", "N2"] {
            assert_eq!(seen(node, &[peer("n1", false), down]), Checker::Down);
            assert_eq!(seen(node, &[peer("n1", false), up]), Checker::Unknown);
        }
        assert_eq!(seen("n3", &[down]), Checker::Unknown);
        let two = [peer("n2.a.example", true), peer("n2.b.example", false)];
        assert_eq!(seen("n2", &two), Checker::Unknown);
        assert_eq!(seen("n2.a.example", &two), Checker::Down);
    }
}
