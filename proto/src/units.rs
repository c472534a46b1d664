//! Sizes and rates with units, as flags, settings and kernel arguments write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. Text: `4096`, `64KiB`, `64K`, `1.5GiB`, `100MB` (decimal).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// A rate in bytes per second. Text: `800Mbit`, `1Gbit` (bits), `10MB`, `10MiB` (bytes), or a plain
/// number of bytes; `/s` may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteRate(pub u64);

/// A text that is no size or rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is no {kind}; write it like {example}")]
pub struct UnitError {
    kind: &'static str,
    example: &'static str,
    got: String,
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, byte_unit).map(Self).ok_or_else(|| UnitError {
            kind: "size",
            example: "4096, 64KiB or 1.5GiB",
            got: text.chars().take(40).collect(),
        })
    }
}

impl FromStr for ByteRate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let plain = text.trim().trim_end_matches("/s");
        let factor = |unit: &str| match unit.to_ascii_lowercase().as_str() {
            "bit" => Some(1),
            "kbit" => Some(1_000),
            "mbit" => Some(1_000_000),
            "gbit" => Some(1_000_000_000),
            _ => byte_unit(unit),
        };
        parse(plain, factor).map(Self).ok_or_else(|| UnitError {
            kind: "rate",
            example: "800Mbit, 1Gbit or 10MiB (bytes per second)",
            got: text.chars().take(40).collect(),
        })
    }
}

/// Bits in a unit of bytes.
fn byte_unit(unit: &str) -> Option<u64> {
    let bytes = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    Some(bytes * 8)
}

/// Bytes. `bits` says how many bits a unit has. Exact, and without floating point, whose tables would
/// be a hundredth of the initrd's client; digits behind the ninth decimal place are dropped.
fn parse(text: &str, bits: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let bits = u128::from(bits(unit.trim())?);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || whole.len() + fraction.len() == 0 {
        return None;
    }
    let places = fraction.len().min(9);
    let digits = |text: &str| match text {
        "" => Some(0),
        text => text.parse::<u64>().ok().map(u128::from),
    };
    let scale = (0..places).fold(1u128, |scale, _| scale * 10);
    let number = digits(whole)? * scale + digits(&fraction[..places])?;
    u64::try_from(number.checked_mul(bits)? / (8 * scale)).ok()
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, size)| self.0 >= *size) {
            Some((unit, size)) => {
                let tenths = self.0 / (size / 10).max(1);
                if self.0.is_multiple_of(*size) {
                    write!(f, "{} {unit}", self.0 / size)
                } else {
                    write!(
                        f,
                        "{}.{} {unit}",
                        tenths.min(self.0 / size * 10 + 9) / 10,
                        tenths.min(self.0 / size * 10 + 9) % 10
                    )
                }
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteSize(self.0))
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            /// As a plain number of bytes.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            /// From a number of bytes or a text with a unit.
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Either {
                    Number(u64),
                    Text(String),
                }
                match Either::deserialize(deserializer)? {
                    Either::Number(number) => Ok(Self(number)),
                    Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
                }
            }
        }
    };
}

serde_as_text!(ByteSize);
serde_as_text!(ByteRate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("64 K", 65_536),
            ("1.5GiB", 1_610_612_736),
            ("100MB", 100_000_000),
            ("1g", 1 << 30),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        for bad in ["", "x", "-1", "1 parsec", "1e3", "99999999999T", ".", "1..2M", "NaN", "inf"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rates() {
        for (text, bytes) in [
            ("800Mbit", 100_000_000),
            ("1Gbit/s", 125_000_000),
            ("10MiB/s", 10_485_760),
            ("8bit", 1),
            ("5", 5),
        ] {
            assert_eq!(text.parse::<ByteRate>().unwrap().0, bytes, "{text}");
        }
        assert!("fast".parse::<ByteRate>().is_err());
    }

    #[test]
    fn display() {
        for (bytes, text) in [
            (5, "5 B"),
            (65_536, "64 KiB"),
            (1_610_612_736, "1.5 GiB"),
            (1_073_741_823, "1023.9 MiB"),
            (2000, "1.9 KiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}
