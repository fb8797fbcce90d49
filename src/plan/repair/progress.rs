//! The progress of a repair, from its program's output.

/// The progress in percent, from a line of `e2fsck -C` with pass, position and end. The passes have the same weights as
/// in e2fsck's own progress bar.
pub(crate) fn e2fsck(line: &str) -> Option<u8> {
    const ENDS: [u64; 6] = [0, 70, 90, 92, 95, 100];
    let mut numbers = line.split_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    let (pass, now, end) = (next()?, next()?, next()?);
    let pass = usize::try_from(pass).ok().filter(|p| (1..=5).contains(p))?;
    let (from, to) = (ENDS[pass - 1], ENDS[pass]);
    let share = (to - from).checked_mul(now.min(end))?.checked_div(end)?;
    u8::try_from(from + share).ok()
}

/// The progress in percent, from a line of xfs_repair (`Phase 3 - ...`, of 7) or btrfs check (`[3/7] ...`).
pub(crate) fn phases(line: &str) -> Option<u8> {
    let number = line
        .strip_prefix("Phase ")
        .or_else(|| line.strip_prefix('['))?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    let phase: u16 = digits.parse().ok().filter(|p| (1..=7).contains(p))?;
    u8::try_from((phase - 1) * 100 / 7).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_passes_of_e2fsck_make_one_whole() {
        assert_eq!(e2fsck("1 0 100 /dev/x"), Some(0));
        assert_eq!(e2fsck("1 50 100 /dev/x"), Some(35));
        assert_eq!(e2fsck("2 100 100 /dev/x"), Some(90));
        assert_eq!(e2fsck("5 7 7"), Some(100));
        for nonsense in ["", "1 2", "0 1 1", "6 1 1", "1 1 0", "x y z"] {
            assert_eq!(e2fsck(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn phases_count_as_equal_parts() {
        assert_eq!(phases("Phase 1 - find and verify superblock..."), Some(0));
        assert_eq!(
            phases("Phase 7 - verify and correct link counts..."),
            Some(85)
        );
        assert_eq!(phases("[2/7] checking extents"), Some(14));
        for nonsense in ["", "Phase ", "Phase 9 - x", "        - agno = 3", "[x]"] {
            assert_eq!(phases(nonsense), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_program_says_is_at_most_all(line in "[0-9 ]{0,60}|Phase [0-9]{0,9}.*") {
            prop_assert!(e2fsck(&line).is_none_or(|p| p <= 100));
            prop_assert!(phases(&line).is_none_or(|p| p <= 100));
        }
    }
}
