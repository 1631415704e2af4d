//! The runs of one program, and what they come to.

use serde::{Deserialize, Serialize};

use crate::measure::Sample;

/// The runs of one program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    /// What ran, as the table calls it.
    pub(crate) name: String,
    pub(crate) samples: Vec<Sample>,
}

impl Series {
    pub(crate) fn wall(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.wall).collect())
    }

    pub(crate) fn cpu(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.cpu).collect())
    }

    /// The largest of all runs.
    pub(crate) fn memory(&self) -> u64 {
        self.samples.iter().map(|sample| sample.memory).max().unwrap_or_default()
    }

    /// The median and the extremes in seconds.
    pub(crate) fn spread(&self) -> String {
        let walls = || self.samples.iter().map(|sample| sample.wall);
        let (least, most) = (walls().fold(f64::INFINITY, f64::min), walls().fold(0.0, f64::max));
        format!("{} ({}–{})", seconds(self.wall()), seconds(least), seconds(most))
    }
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        None => f64::NAN,
        Some(value) if values.len() % 2 == 1 => *value,
        Some(value) => f64::midpoint(values[middle - 1], *value),
    }
}

/// Seconds with three digits that say something.
pub(crate) fn seconds(value: f64) -> String {
    match value {
        ..0.1 => format!("{:.1} ms", value * 1e3),
        ..1.0 => format!("{:.0} ms", value * 1e3),
        ..10.0 => format!("{value:.2} s"),
        _ => format!("{value:.1} s"),
    }
}

/// Bytes as people say them.
pub(crate) fn bytes(value: u64) -> String {
    let size = value as f64;
    match size {
        ..1e3 => format!("{value} B"),
        ..1e6 => format!("{:.1} kB", size / 1e3),
        ..1e9 => format!("{:.1} MB", size / 1e6),
        _ => format!("{:.2} GB", size / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_do_not_follow_outliers() {
        for (values, expected) in
            [(vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 2.0, 100.0], 3.0)]
        {
            assert!((median(values) - expected).abs() < f64::EPSILON);
        }
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn numbers_read_well() {
        for (value, text) in [(0.00456, "4.6 ms"), (0.345, "345 ms"), (1.234, "1.23 s"), (39.26, "39.3 s")] {
            assert_eq!(seconds(value), text);
        }
        for (value, text) in [(7, "7 B"), (1_500, "1.5 kB"), (53_000_000, "53.0 MB"), (2 << 30, "2.15 GB")] {
            assert_eq!(bytes(value), text);
        }
    }
}
