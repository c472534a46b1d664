//! Where the time of a node's downlink went: what our client tells of it, set against the link's rate.

use std::collections::BTreeMap;

use serde_json::Value;

use super::stats;

/// Seconds by cause until completion; the time in which the link carried something is [`BUSY`].
pub(crate) type Seconds = BTreeMap<String, f64>;

/// The time that the received bytes took at the link's rate.
pub(crate) const BUSY: &str = "busy";

/// Reads the field `downlink` of a `complete` event: milliseconds and bytes by cause. A link was idle
/// for the time under a cause less what the bytes that came meanwhile take, headers included, of
/// which `wire` bytes came in all. `rate` is in bytes per second.
pub(crate) fn seconds(event: &Value, wire: f64, rate: f64) -> Option<Seconds> {
    let spells = event["downlink"].as_object()?;
    let spell = |value: &Value| Some((value[0].as_f64()? / 1e3, value[1].as_f64()?));
    let spells: Vec<(&String, (f64, f64))> =
        spells.iter().map(|(cause, value)| Some((cause, spell(value)?))).collect::<Option<_>>()?;
    let payload: f64 = spells.iter().map(|(_, (_, bytes))| bytes).sum();
    let per_byte = wire / payload.max(1.0) / rate;
    let idle =
        |(cause, (time, bytes)): (&String, (f64, f64))| (cause.clone(), time - bytes * per_byte);
    let mut seconds: Seconds = spells.into_iter().map(idle).collect();
    seconds.insert(BUSY.to_owned(), wire / rate);
    Some(seconds)
}

/// The mean of several nodes; `None` when none tells.
pub(crate) fn mean<'a>(nodes: impl Iterator<Item = &'a Seconds>) -> Option<Seconds> {
    let nodes: Vec<&Seconds> = nodes.collect();
    let first = nodes.first()?;
    let of = |cause: &String| {
        let values = nodes.iter().map(|seconds| seconds.get(cause).copied().unwrap_or(0.0));
        Some((cause.clone(), stats::mean(values)?))
    };
    first.keys().map(of).collect()
}

/// The causes that cost something, the largest first; what rounds to nothing is left out.
pub(crate) fn ranked(seconds: &Seconds) -> Vec<(&str, f64)> {
    let all = seconds.iter().map(|(cause, spent)| (cause.as_str(), *spent));
    let mut ranked: Vec<(&str, f64)> =
        all.filter(|(cause, spent)| *cause != BUSY && spent.abs() >= 0.005).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn idle_is_the_time_less_what_the_bytes_take() {
        let event = json!({"downlink": {"choked": [1000, 0], "end-game": [2000, 1_000_000]}});
        let seconds = seconds(&event, 1_100_000.0, 1e6).unwrap();
        let close = |cause: &str, value: f64| (seconds[cause] - value).abs() < 1e-9;
        assert!(close("choked", 1.0) && close("end-game", 0.9) && close(BUSY, 1.1), "{seconds:?}");
        assert!((seconds.values().sum::<f64>() - 3.0).abs() < 1e-9, "nothing is lost");
        assert_eq!(ranked(&seconds).first().map(|(cause, _)| *cause), Some("choked"));
    }

    #[test]
    fn who_does_not_tell_has_none() {
        assert_eq!(seconds(&json!({}), 1.0, 1.0), None);
        assert_eq!(seconds(&json!({"downlink": {"choked": 5}}), 1.0, 1.0), None);
        assert_eq!(mean([].into_iter()), None);
    }

    #[test]
    fn nodes_have_a_mean() {
        let node = |spent| Seconds::from([("choked".to_owned(), spent), (BUSY.to_owned(), 4.0)]);
        let mean = mean([node(1.0), node(2.0)].iter()).unwrap();
        assert_eq!((mean["choked"], mean[BUSY]), (1.5, 4.0));
        assert_eq!(ranked(&node(0.001)), []);
    }
}
