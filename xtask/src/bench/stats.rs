//! The few statistics that a benchmark of a handful of runs needs.

/// The middle value; of an even number of values the upper one of the two in the middle, so that it
/// is always a value that was measured. `None` without values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let sorted = sorted(values);
    sorted.get(sorted.len() / 2).copied()
}

/// The largest value.
pub(crate) fn largest(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    values.into_iter().max_by(f64::total_cmp)
}

/// The smallest value.
pub(crate) fn smallest(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    values.into_iter().min_by(f64::total_cmp)
}

/// The arithmetic mean.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0u32), |(s, n), value| (s + value, n + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// In ascending order.
pub(crate) fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_measured_value() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(4.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn extremes_and_mean() {
        let values = [2.0, 8.0, 5.0];
        assert_eq!((smallest(values), largest(values)), (Some(2.0), Some(8.0)));
        assert_eq!(mean(values), Some(5.0));
        assert_eq!(mean([]), None);
        assert_eq!(sorted(values), [2.0, 5.0, 8.0]);
    }
}
