//! Whether a resource has let go of its block device on this node, by what the kernel shows of the device. Pure: the
//! observation comes in, the verdict comes out.
//!
//! | the device | seen on this node | ours | not ours |
//! |---|---|---|---|
//! | can be claimed | | free | free |
//! | any | mounted in the cell of the resource, or in one that nobody knows | held | held |
//! | is claimed | mounted in another cell, swap, part of another device | foreign | foreign |
//! | is claimed | mounted outside cells, or by whom is not seen | held | foreign |
//! | can't be opened | a file system lives on it | held | foreign |
//! | can't be opened | nothing | free | free |
//! | does not answer, or can't be asked | | held | foreign |
//!
//! *Ours* is a device that the resource has attached since the node was booted, as far as is on record, and
//! any device while the cell lives. A claim is exclusive: if another cell, swap or another device has claimed it, the
//! resource can't have it mounted.

/// The result of an exclusive open of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The device could be claimed: nobody else has claimed it.
    Free,
    /// Somebody has claimed the device.
    Busy,
    /// The device can't be opened, for this reason: it is gone, offline, without a medium, or reserved by another node.
    Unusable(String),
    /// The open has not returned in time.
    Silent,
    /// The open could not be tried, for this reason that lies in the node: there may be memory a moment later.
    Unasked(String),
}

/// Who is seen to use a device, in words; `None` if nobody of that kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Use {
    /// Mounted in the cell of the resource's virtual server, or in one that nobody knows.
    pub(crate) cell: Option<String>,
    /// Mounted in another virtual server's cell.
    pub(crate) other_cell: Option<String>,
    /// Mounted in the node's own tree, or in a container's.
    pub mounted: Option<String>,
    /// Swap, or part of another device.
    pub(crate) built_on: Option<String>,
    /// Whether the kernel has a file system on it, mounted or not.
    pub file_system: bool,
    /// Open by a process.
    pub(crate) open: Option<String>,
}

impl Use {
    /// Whether this shows who has claimed the device. A process that only has it open shows nothing while the kernel
    /// may still be writing back a file system on it.
    pub(crate) fn shows_who(&self) -> bool {
        let claims = [&self.cell, &self.other_cell, &self.mounted, &self.built_on];
        claims.into_iter().any(Option::is_some) || self.open.is_some() && !self.file_system
    }

    /// The best name for who has the device.
    pub(crate) fn describe(&self) -> String {
        let seen = [
            &self.cell,
            &self.other_cell,
            &self.mounted,
            &self.built_on,
            &self.open,
        ];
        match seen.into_iter().flatten().next() {
            Some(seen) => seen.clone(),
            None if self.file_system => {
                "the kernel has not done with its file system yet".to_owned()
            }
            None => "claimed by somebody who does not show".to_owned(),
        }
    }
}

/// Whether a device is free of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody has the device, or nobody can have it.
    Free,
    /// Somebody else has the device, and not for this resource: nothing of the resource is left.
    Foreign(String),
    /// The resource's file system may still be mounted from the device.
    Held(String),
}

/// How certain it is that somebody else has a device, if the resource is not on record as having had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It is seen who has the device.
    None,
    /// It is not seen who has the device, which may change in a moment.
    Some,
    /// The device may even be the resource's own: the kernel writes back a file system after its last unmount, and what
    /// a killed repair has written, however long that takes. Or the device could not be examined.
    Grave,
}

/// How far it is in doubt that somebody else has a device.
pub(crate) fn doubt(claim: &Claim, seen: &Use) -> Doubt {
    match claim {
        _ if seen.shows_who() => Doubt::None,
        Claim::Unasked(_) | Claim::Silent => Doubt::Grave,
        _ if seen.file_system => Doubt::Grave,
        _ => Doubt::Some,
    }
}

/// Judges a device. `ours`: the resource has had it attached, or its cell lives.
pub(crate) fn judge(claim: &Claim, seen: &Use, ours: bool) -> Verdict {
    let unless_ours = |why: String| {
        if ours {
            Verdict::Held(why)
        } else {
            Verdict::Foreign(why)
        }
    };
    match claim {
        Claim::Free => Verdict::Free,
        _ if seen.cell.is_some() => Verdict::Held(seen.describe()),
        Claim::Busy if seen.other_cell.is_some() || seen.built_on.is_some() => {
            Verdict::Foreign(seen.describe())
        }
        Claim::Busy => unless_ours(seen.describe()),
        Claim::Unusable(_) if seen.other_cell.is_some() => Verdict::Foreign(seen.describe()),
        Claim::Unusable(why) if seen.mounted.is_some() || seen.file_system => {
            unless_ours(format!("{}, and can't be opened: {why}", seen.describe()))
        }
        Claim::Unusable(_) => Verdict::Free,
        Claim::Silent => unless_ours("it does not answer".to_owned()),
        Claim::Unasked(why) => unless_ours(format!("it can't be asked: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    /// How free, foreign and held come out for a device that is ours, and for one that is not.
    fn both(claim: &Claim, seen: &Use) -> [char; 2] {
        [true, false].map(|ours| match judge(claim, seen, ours) {
            Verdict::Free => 'f',
            Verdict::Foreign(_) => 'o',
            Verdict::Held(_) => 'h',
        })
    }

    #[test]
    fn the_whole_table() {
        let none = Use::default();
        let cell = Use {
            cell: some("mounted in a cell"),
            ..none.clone()
        };
        let other = Use {
            other_cell: some("mounted in beta's cell"),
            ..none.clone()
        };
        let host = Use {
            mounted: some("mounted at /mnt"),
            ..none.clone()
        };
        let part = Use {
            built_on: some("part of dm-0"),
            ..none.clone()
        };
        let alive = Use {
            file_system: true,
            ..none.clone()
        };
        let opened = Use {
            open: some("open by e2fsck"),
            ..none.clone()
        };
        let gone = Claim::Unusable("No such device or address".to_owned());
        // Seen; claimed, can't be opened, does not answer: each ours and not ours.
        for (seen, busy, unusable, silent) in [
            (&none, ['h', 'o'], ['f', 'f'], ['h', 'o']),
            (&cell, ['h', 'h'], ['h', 'h'], ['h', 'h']),
            (&other, ['o', 'o'], ['o', 'o'], ['h', 'o']),
            (&host, ['h', 'o'], ['h', 'o'], ['h', 'o']),
            (&part, ['o', 'o'], ['f', 'f'], ['h', 'o']),
            (&alive, ['h', 'o'], ['h', 'o'], ['h', 'o']),
            (&opened, ['h', 'o'], ['f', 'f'], ['h', 'o']),
        ] {
            assert_eq!(both(&Claim::Free, seen), ['f', 'f']);
            assert_eq!(both(&Claim::Busy, seen), busy, "{seen:?}");
            assert_eq!(both(&gone, seen), unusable, "{seen:?}");
            assert_eq!(both(&Claim::Silent, seen), silent, "{seen:?}");
            let unasked = Claim::Unasked("Cannot allocate memory".to_owned());
            assert_eq!(both(&unasked, seen), silent, "{seen:?}");
        }
    }

    #[test]
    fn an_opener_beside_a_file_system_is_not_known_to_be_who_claims() {
        let opened = Use {
            open: some("open by smartd"),
            ..Use::default()
        };
        assert!(opened.shows_who());
        let beside = Use {
            file_system: true,
            ..opened
        };
        assert!(!beside.shows_who() && !Use::default().shows_who());
        assert_eq!(doubt(&Claim::Busy, &beside), Doubt::Grave);
        assert_eq!(doubt(&Claim::Busy, &Use::default()), Doubt::Some);
        let unasked = Claim::Unasked(String::new());
        for claim in [&unasked, &Claim::Silent] {
            assert_eq!(doubt(claim, &Use::default()), Doubt::Grave);
        }
        let mounted = Use {
            mounted: some("mounted at /mnt"),
            ..beside
        };
        assert!(mounted.shows_who());
        assert_eq!(doubt(&Claim::Busy, &mounted), Doubt::None);
    }

    #[test]
    fn our_own_cell_is_named_before_everybody_else() {
        let seen = Use {
            cell: some("mounted in a cell"),
            mounted: some("mounted at /mnt"),
            ..Use::default()
        };
        let verdict = judge(&Claim::Busy, &seen, false);
        assert_eq!(verdict, Verdict::Held("mounted in a cell".to_owned()));
    }
}
