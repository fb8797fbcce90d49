//! Numbers made of names: the same on every node and in every version of berth, because they are in running
//! kernels, in file handles and in rules that another version finds. FNV-1a.

/// 32 bits of `text`.
#[must_use]
pub fn fnv32(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// 64 bits of `text`.
#[must_use]
pub fn fnv64(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// <http://www.isthe.com/chongo/tech/comp/fnv/>, test vectors.
    #[test]
    fn the_numbers_are_those_of_the_definition() {
        assert_eq!((fnv32(""), fnv32("foobar")), (0x811c_9dc5, 0xbf9c_f968));
        assert_eq!(
            (fnv64(""), fnv64("foobar")),
            (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8)
        );
    }
}
