//! OpenPGP secret keys as bytes (RFC 9580), as `gpg --export-secret-keys` writes them.
//!
//! No magic number begins them, so the packet is read up to the octet that says how the secret part is protected.

/// The longest packet that is taken for a key: RSA with 16,384 bits has 9 KiB.
const LONGEST: usize = 64 << 10;

/// Whether these bytes begin with a secret key, or a secret subkey.
pub(super) fn is_secret_key(head: &[u8]) -> bool {
    packet(head).and_then(Fields::key).is_some()
}

/// What is there of the first packet, if it has the kind of a secret key, and is long enough to be one.
fn packet(head: &[u8]) -> Option<Fields<'_>> {
    let mut fields = Fields(head);
    let tag = fields.octet()?;
    let (kind, length) = match tag {
        // the format of before 1998, which GnuPG still writes: how long the length is, in two bits
        0x80..=0xbf => {
            ((tag >> 2) & 0x0f, fields.number([1, 2, 4].get(usize::from(tag & 3)).copied()?)?)
        }
        0xc0..=0xff => {
            let length = match fields.octet()? {
                short @ 0..=191 => usize::from(short),
                first @ 192..=223 => ((usize::from(first) - 192) << 8) + fields.number(1)? + 192,
                // a length in parts is for data alone
                224..=254 => return None,
                255 => fields.number(4)?,
            };
            (tag & 0x3f, length)
        }
        _ => return None,
    };
    let is_possible = matches!(kind, 5 | 7) && length <= LONGEST;
    let Fields(rest) = fields;
    is_possible.then(|| Fields(&rest[..length.min(rest.len())]))
}

/// Bytes that are read from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn octet(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// `count` octets, the highest one first.
    fn number(&mut self, count: usize) -> Option<usize> {
        let taken = self.take(count)?;
        Some(taken.iter().fold(0, |number, octet| (number << 8) | usize::from(*octet)))
    }

    /// A number of the key, of so many bits as it says.
    fn integer(&mut self) -> Option<usize> {
        let bits = self.number(2)?;
        let first = *self.take(bits.div_ceil(8))?.first()?;
        let used = 8 - usize::try_from(first.leading_zeros()).ok()?;
        (used == (bits - 1) % 8 + 1).then_some(bits)
    }

    /// The point of a curve: its name, then where it is, of which programs count the bits as they like.
    fn point(&mut self) -> Option<()> {
        let name = self.octet()?;
        // below 1.2 and 1.3 lie all curves that are in use
        let is_known = matches!(self.take(usize::from(name))?, [0x2a | 0x2b, _, _, ..]);
        let bits = self.number(2)?;
        self.take(bits.div_ceil(8))?;
        (is_known && (200..=1100).contains(&bits)).then_some(())
    }

    /// The whole of a key, up to the octet behind its public part.
    fn key(mut self) -> Option<()> {
        let version = self.octet()?;
        // when it was made, and for how many days it is valid
        self.take(match version {
            2 | 3 => 6,
            4..=6 => 4,
            _ => return None,
        })?;
        let algorithm = self.octet()?;
        if version >= 5 {
            // how long the public part is
            self.take(4)?;
        }
        let integers = match algorithm {
            1..=3 => 2,
            16 | 20 => 3,
            17 => 4,
            18 | 19 | 22 => {
                self.point()?;
                if algorithm == 18 {
                    let parameters = self.octet()?;
                    self.take(usize::from(parameters))?;
                }
                0
            }
            // X25519, X448, Ed25519, Ed448
            25 | 27 => self.take(32).map(|_| 0)?,
            26 => self.take(56).map(|_| 0)?,
            28 => self.take(57).map(|_| 0)?,
            _ => return None,
        };
        for number in 0..integers {
            let bits = self.integer()?;
            if number == 0 && !(512..=16_384).contains(&bits) {
                return None;
            }
        }
        // in the clear, by one of 13 ciphers, or as the next octets say
        matches!(self.octet()?, 0..=13 | 253..=255).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An Ed25519 key of GnuPG, in the clear.
    fn ed25519() -> Vec<u8> {
        let mut key =
            vec![4, 0x65, 0, 0, 0, 22, 9, 0x2b, 6, 1, 4, 1, 0xda, 0x47, 0x0f, 1, 1, 7, 0x40];
        key.extend([7; 32]);
        key.extend([0, 1, 0]);
        key.extend([0x81; 32]);
        key.extend([1, 2]);
        key
    }

    fn rsa(version: u8, bits: u16) -> Vec<u8> {
        let mut key = vec![version, 0x65, 0, 0, 0];
        if version == 3 {
            key.extend([0, 0]);
        }
        key.push(1);
        if version > 4 {
            key.extend([0, 0, 1, 7]);
        }
        key.extend(bits.to_be_bytes());
        key.extend(vec![0x80; usize::from(bits / 8)]);
        key.extend([0, 17, 1, 0, 1, 254, 7, 3, 2]);
        key.extend([9; 40]);
        key
    }

    /// Old format with one and two octets of length, new format with one, two and five.
    fn packets(body: &[u8]) -> Vec<Vec<u8>> {
        let length = u16::try_from(body.len()).unwrap();
        let [high, low] = length.to_be_bytes();
        let mut headers =
            vec![vec![0x95, high, low], vec![0x9d, high, low], vec![0xc5, 255, 0, 0, high, low]];
        match length.checked_sub(192) {
            None => headers.extend([vec![0x94, low], vec![0xc7, low]]),
            Some(more) => {
                let [high, low] = more.to_be_bytes();
                headers.push(vec![0xc5, high + 192, low]);
            }
        }
        headers.into_iter().map(|header| [header, body.to_owned()].concat()).collect()
    }

    #[test]
    fn secret_keys_of_every_version_are_told() {
        for body in
            [ed25519(), rsa(3, 1024), rsa(4, 2048), rsa(4, 4096), rsa(5, 3072), rsa(6, 2048)]
        {
            for packet in packets(&body) {
                assert!(is_secret_key(&packet), "{packet:x?}");
                // what comes behind it does not matter, and a file may end anywhere
                assert!(is_secret_key(&[&packet[..], &[0xb4, 1, b'x']].concat()));
                for end in 0..packet.len() {
                    let _ = is_secret_key(&packet[..end]);
                }
            }
        }
    }

    #[test]
    fn public_keys_and_what_merely_begins_alike_are_not() {
        let secret = packets(&rsa(4, 2048)).remove(0);
        let with = |at: usize, octet: u8| {
            let mut packet = secret.clone();
            packet[at] = octet;
            packet
        };
        // a public key, an old version, no algorithm, a number that is shorter than it says
        for other in [with(0, 0x99), with(3, 1), with(8, 99), with(11, 1), with(9, 0)] {
            assert!(!is_secret_key(&other), "{other:x?}");
        }
        for other in
            [&[0x95][..], &[0x95, 1], &[0xc5, 230, 4], &[0x97, 4, 0, 0], &[0xff; 40], b"", b"x"]
        {
            assert!(!is_secret_key(other), "{other:x?}");
        }
    }
}
