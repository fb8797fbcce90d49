//! Numbers made of names: the same on every node and in every version of berth, because they are in running
//! kernels, in file handles and in rules that another version finds. FNV-1a.

/// 32 bits of `text`.
#[must_use]
pub(crate) fn fnv32(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// 64 bits of `text`.
#[must_use]
pub(crate) fn fnv64(text: &str) -> u64 {
    let mut hash = Fnv64::default();
    hash.take(text.as_bytes());
    hash.value()
}

/// 64 bits of pieces that come one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fnv64(u64);

impl Default for Fnv64 {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv64 {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds a piece, told apart from what follows by its length.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.take(&(piece.len() as u64).to_be_bytes());
        self.take(piece);
    }

    /// The hash of all pieces so far.
    #[must_use]
    pub(crate) fn value(self) -> u64 {
        self.0
    }
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

    #[test]
    fn where_a_piece_ends_makes_a_difference() {
        let of = |pieces: &[&str]| {
            let mut hash = Fnv64::default();
            pieces.iter().for_each(|piece| hash.add(piece.as_bytes()));
            hash.value()
        };
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    }
}
