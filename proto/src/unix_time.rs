//! A moment in seconds, as people write it: `2026-11-21T17:00:00Z`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const DAY: u64 = 86_400;

/// Seconds since 1970-01-01 00:00 UTC, without leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

/// A text that is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no moment; expected 2026-11-21, 2026-11-21T17:00:00Z, or @SECONDS since 1970")]
pub struct UnixTimeError(String);

impl fmt::Display for UnixTime {
    /// RFC 3339 in UTC; a time after the year 9999 as `@SECONDS`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut days, second) = (self.0 / DAY, self.0 % DAY);
        if self.0 > LAST {
            return write!(f, "@{}", self.0);
        }
        let mut year = 1970;
        while days >= days_in(year) {
            days -= days_in(year);
            year += 1;
        }
        let mut month = 1;
        for length in months(year) {
            if days < length {
                break;
            }
            days -= length;
            month += 1;
        }
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{:02}Z", days + 1, second % 60)
    }
}

impl FromStr for UnixTime {
    type Err = UnixTimeError;

    fn from_str(text: &str) -> Result<Self, UnixTimeError> {
        parse(text).map(Self).ok_or_else(|| UnixTimeError(text.chars().take(80).collect()))
    }
}

/// 9999-12-31T23:59:59Z: the last moment with four digits for its year.
const LAST: u64 = 253_402_300_799;

fn parse(text: &str) -> Option<u64> {
    if let Some(seconds) = text.strip_prefix('@') {
        return seconds.parse().ok();
    }
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let lengths = months(year);
    let month = usize::try_from(month).ok()?.checked_sub(1)?;
    let is_day = (1..=*lengths.get(month)?).contains(&day);
    if year < 1970 || !is_day || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = (1970..year).map(days_in).sum::<u64>() + lengths[..month].iter().sum::<u64>();
    Some((days + day - 1) * DAY + hour * 3600 + minute * 60 + second)
}

/// Three numbers of exactly these many digits.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut found = [0; 3];
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn is_leap(year: u64) -> bool {
    (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
}

fn days_in(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn months(year: u64) -> [u64; 12] {
    [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        // date -u -d @N +%FT%TZ
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_203_000, "2026-11-20T19:30:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(UnixTime(seconds).to_string(), text);
            assert_eq!(text.parse(), Ok(UnixTime(seconds)));
        }
        assert_eq!("2026-11-20".parse(), Ok(UnixTime(1_795_132_800)));
        assert_eq!("@7".parse(), Ok(UnixTime(7)));
    }

    #[test]
    fn what_is_no_moment() {
        for bad in [
            "",
            "yesterday",
            "2026-11",
            "2026-13-01",
            "2026-02-29",
            "2026-00-01",
            "2026-01-00",
            "26-01-01",
            "1969-12-31",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "@",
            "@-1",
            "+026-01-01",
            "2026-01-01-01",
        ] {
            let error = bad.parse::<UnixTime>().unwrap_err().to_string();
            assert!(error.contains("expected"), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in any::<u64>(), small in 0..=LAST) {
            for time in [UnixTime(seconds), UnixTime(small)] {
                prop_assert_eq!(time.to_string().parse::<UnixTime>(), Ok(time));
            }
        }
    }
}
