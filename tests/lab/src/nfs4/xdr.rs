//! XDR (RFC 4506), as much of it as an NFS client needs. What is read is never longer than what came.

use super::Failure;

/// A message being written.
#[derive(Debug, Default)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// An unsigned integer.
    pub fn int(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// An unsigned hyper integer.
    pub fn long(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Opaque data whose length both sides know.
    pub fn fixed(&mut self, data: &[u8]) -> &mut Self {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Opaque data or a string, with its length before it.
    pub fn opaque(&mut self, data: &[u8]) -> &mut Self {
        self.int(u32::try_from(data.len()).unwrap_or(u32::MAX))
            .fixed(data)
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A message being read.
#[derive(Debug)]
pub struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// Reads from the start of `message`.
    pub fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Opaque data of a known length.
    ///
    /// # Errors
    /// If the message ends before.
    pub fn fixed(&mut self, length: usize) -> Result<&'a [u8], Failure> {
        let padded = length.checked_next_multiple_of(4);
        if padded.is_none_or(|padded| padded > self.0.len()) {
            return Err(Failure::Garbled("message ends early"));
        }
        let (data, rest) = self.0.split_at(length.next_multiple_of(4));
        self.0 = rest;
        Ok(&data[..length])
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// If the message ends before.
    pub fn int(&mut self) -> Result<u32, Failure> {
        self.array().map(u32::from_be_bytes)
    }

    /// An unsigned hyper integer.
    ///
    /// # Errors
    /// If the message ends before.
    pub fn long(&mut self) -> Result<u64, Failure> {
        self.array().map(u64::from_be_bytes)
    }

    /// Opaque data of a length that the type tells; a multiple of four.
    ///
    /// # Errors
    /// If the message ends before.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let data = self.fixed(N)?;
        data.try_into()
            .map_err(|_| Failure::Garbled("message ends early"))
    }

    /// Opaque data or a string.
    ///
    /// # Errors
    /// If it is longer than `limit`, or the message ends before.
    pub fn opaque(&mut self, limit: usize) -> Result<&'a [u8], Failure> {
        let length = self.int()? as usize;
        if length > limit {
            return Err(Failure::Garbled("opaque data longer than allowed"));
        }
        self.fixed(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let mut out = Encoder::default();
        out.int(7).opaque(b"abcde").long(1 << 40).fixed(b"xyz");
        assert_eq!(out.bytes().len(), 4 + 12 + 8 + 4);
        let mut read = Decoder::new(out.bytes());
        assert_eq!(read.int().unwrap(), 7);
        assert_eq!(read.opaque(5).unwrap(), b"abcde");
        assert_eq!(read.long().unwrap(), 1 << 40);
        assert_eq!(read.fixed(3).unwrap(), b"xyz");
        assert!(read.int().is_err());
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut out = Encoder::default();
        out.int(u32::MAX).int(0);
        assert!(Decoder::new(out.bytes()).opaque(usize::MAX).is_err());
        assert!(Decoder::new(out.bytes()).opaque(100).is_err());
        assert!(Decoder::new(out.bytes()).fixed(usize::MAX).is_err());
    }
}
