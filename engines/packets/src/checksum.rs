//! The internet checksum (RFC 1071), and how it changes when a few bytes do (RFC 1624).

/// A one's complement sum of 16-bit words, not yet folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum(u32);

impl Checksum {
    /// The sum so far and these bytes; an odd last byte counts as the high half of a word.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let mut sum = u64::from(self.0);
        let mut words = bytes.chunks_exact(2);
        for word in &mut words {
            sum += u64::from(u16::from_be_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            sum += u64::from(*last) << 8;
        }
        Self(fold(sum).into())
    }

    /// What stands in a header: the complement.
    pub fn finish(self) -> u16 {
        !fold(self.0.into())
    }
}

const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of a header after `old` became `new` in it; both of the same even length. RFC 1624, equation 3.
pub fn updated(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let mut sum = u64::from(!checksum);
    for (old, new) in old.chunks_exact(2).zip(new.chunks_exact(2)) {
        sum += u64::from(!u16::from_be_bytes([old[0], old[1]]));
        sum += u64::from(u16::from_be_bytes([new[0], new[1]]));
    }
    !fold(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        let sum = Checksum::default().with(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish(), !0xddf2);
    }

    proptest! {
        #[test]
        fn an_update_is_as_good_as_a_new_sum(mut header in proptest::collection::vec(any::<u8>(), 20), new: [u8; 4]) {
            prop_assume!(header.iter().any(|byte| *byte != 0));
            let before = Checksum::default().with(&header).finish();
            let old = [header[12], header[13], header[14], header[15]];
            let after = updated(before, &old, &new);
            header[12..16].copy_from_slice(&new);
            prop_assume!(header.iter().any(|byte| *byte != 0));
            let sum = Checksum::default().with(&header).finish();
            // 0 and 0xffff are the same number in one's complement.
            prop_assert!(after == sum || after == !sum && (sum == 0 || sum == 0xffff));
        }
    }
}
