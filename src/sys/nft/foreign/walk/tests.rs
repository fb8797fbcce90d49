use super::*;

fn matched(name: &str, revision: u32, info: &[u8]) -> Match {
    let packet = Packet {
        family: Family::V4,
        iif: ("eth1", 2),
        oif: ("b-alpha", 3),
    };
    let data = attributes(&[
        (1, [name.as_bytes(), b"\0"].concat()),
        (2, revision.to_be_bytes().to_vec()),
        (3, info.to_vec()),
    ]);
    let mut state = State::new(&packet);
    state.iptables_match(&data);
    state.matched
}

/// `struct xt_conntrack_mtinfo3`.
fn conntrack(flags: u16, inverted: u16, states: u16) -> Vec<u8> {
    let mut info = vec![0; 164];
    for (at, value) in [(146, flags), (148, inverted), (150, states)] {
        info[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
    info
}

/// Attributes, one after another.
fn attributes(all: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (kind, value) in all {
        let length = u16::try_from(value.len() + 4).unwrap();
        data.extend(length.to_ne_bytes());
        data.extend(kind.to_ne_bytes());
        data.extend(value);
        data.resize(data.len().next_multiple_of(4), 0);
    }
    data
}

fn expression(name: &str, data: &[(u16, u32)]) -> Vec<u8> {
    let words = data.iter().map(|(k, v)| (*k, v.to_be_bytes().to_vec()));
    let words: Vec<(u16, Vec<u8>)> = words.collect();
    let set = (1, b"many\0".to_vec());
    let all = match name {
        "lookup" => [vec![set], words].concat(),
        _ => words,
    };
    attributes(&[
        (NFTA_EXPR_NAME, [name.as_bytes(), b"\0"].concat()),
        (NFTA_EXPR_DATA, attributes(&all)),
    ])
}

/// One set, of 16 bytes to a key and of this many elements, and how often it was read.
struct Many {
    elements: u32,
    constant: bool,
    read: usize,
}

impl Names for Many {
    fn rules(&mut self, _: &str) -> io::Result<Rc<Vec<Vec<u8>>>> {
        unreachable!("it is a matter of one rule")
    }

    fn shape(&mut self, _: &str) -> Option<Shape> {
        Some(Shape {
            key: 16,
            constant: self.constant,
        })
    }

    fn set(&mut self, _: &str) -> Rc<Set> {
        self.read += 1;
        let mut set = Set::default();
        for n in 0..self.elements {
            let mut key = b"eth1".to_vec();
            key.resize(IFNAMSIZ, 0);
            key[12..].copy_from_slice(&n.to_be_bytes());
            let value = attributes(&[(NFTA_DATA_VALUE, key)]);
            set.add(&attributes(&[(1, value)]));
        }
        Rc::new(set)
    }
}

#[test]
fn a_set_is_read_only_for_a_key_that_is_known_and_only_so_far() {
    let packet = Packet {
        family: Family::V4,
        iif: ("eth1", 2),
        oif: ("b-alpha", 3),
    };
    let register = 1;
    let name = expression("meta", &[(1, register), (2, 6)]);
    let source = expression("payload", &[(1, register), (2, 1), (3, 12), (4, 4)]);
    let look_up = |map: Option<u32>| {
        let map = map.map(|register| (3, register));
        expression("lookup", &[&[(2, register)][..], map.as_slice()].concat())
    };
    let ask = |load: &[u8], map, elements, constant| {
        let mut names = Many {
            elements,
            constant,
            read: 0,
        };
        let mut state = State::new(&packet);
        state.meet(&mut names, load);
        state.meet(&mut names, &look_up(map));
        let may_pass = state.verdicts.contains(&Verdict::Other);
        (state.matched, names.read, may_pass)
    };
    for elements in [0, 2, 100_000] {
        let unknown = (Match::Maybe, 0);
        let (matched, read, _) = ask(&source, None, elements, false);
        assert_eq!((matched, read), unknown, "{elements}");
        assert_eq!(
            ask(&source, Some(0), elements, false),
            (Match::Maybe, 0, true)
        );
    }
    assert_eq!(ask(&name, None, 2, false), (Match::Yes, 1, false));
    assert_eq!(ask(&name, None, 0, false), (Match::No, 1, false));
    assert_eq!(ask(&name, None, 100_000, false), (Match::Maybe, 1, false));
    assert_eq!(ask(&name, Some(0), 100_000, false), (Match::Maybe, 1, true));
    // What a rule has in itself is as it is written.
    assert_eq!(ask(&source, Some(0), 2, true), (Match::Maybe, 1, false));
    assert_eq!(
        ask(&source, Some(0), 100_000, true),
        (Match::Maybe, 1, true)
    );
}

#[test]
fn what_iptables_asks_of_connections_is_known_of_those_that_are_not_tracked() {
    let (established, untracked, invalid) = (2, XT_UNTRACKED, 1);
    let ask = |inverted, states| matched("conntrack", 3, &conntrack(XT_STATE, inverted, states));
    assert_eq!(ask(0, established | 4), Match::No);
    assert_eq!(ask(0, invalid), Match::No);
    assert_eq!(ask(0, established | untracked), Match::Yes);
    assert_eq!(ask(XT_STATE, established), Match::Yes);
    assert_eq!(ask(XT_STATE, untracked), Match::No);
    let more = conntrack(XT_STATE | 2, 0, untracked);
    assert_eq!(matched("conntrack", 3, &more), Match::Maybe);
    assert_eq!(matched("conntrack", 1, &more), Match::Maybe);
    assert_eq!(matched("conntrack", 3, &more[..40]), Match::Maybe);
    assert_eq!(matched("state", 0, &2u32.to_ne_bytes()), Match::No);
    assert_eq!(matched("state", 0, &(1u32 << 6).to_ne_bytes()), Match::Yes);
    assert_eq!(matched("comment", 0, b"x"), Match::Yes);
    assert_eq!(matched("recent", 0, b"x"), Match::Maybe);
}
