//! Times of file systems, and what they prove. The rule is git's for "racy" entries: what was written in the same tick of
//! the clock may have been written again without another time to show for it.

/// A moment, in nanoseconds since 1970.
pub(crate) type Moment = i64;

/// The clock of file systems goes in ticks: its times are behind the real ones by less than this.
const TICK: Moment = 20_000_000;
/// As coarse as file systems that only know seconds get.
const SECONDS: Moment = 2_000_000_000;

pub(crate) const fn moment((seconds, nanoseconds): (i64, i64)) -> Moment {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// The youngest time of some files, and how coarse the clock is that their times of change are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Youngest {
    time: Moment,
    in_seconds: bool,
}

impl Youngest {
    /// Of no files.
    pub(crate) const NONE: Self = Self { time: Moment::MIN, in_seconds: true };

    /// Of one file, by its time of change, which is the kernel's own.
    pub(crate) const fn changed(changed: (i64, i64)) -> Self {
        Self { time: moment(changed), in_seconds: changed.1 == 0 }
    }

    /// Takes a time into account that anybody may have set.
    #[must_use]
    pub(crate) fn and_at(self, time: Moment) -> Self {
        Self { time: self.time.max(time), ..self }
    }

    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self { time: self.time.max(other.time), in_seconds: self.in_seconds && other.in_seconds }
    }

    /// Whether one of the files may have changed after `taken` without another time to show for it.
    pub(crate) const fn may_be_newer(self, taken: Moment) -> bool {
        let tick = if self.in_seconds { SECONDS } else { TICK };
        self.time.saturating_add(tick) > taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_young_as_the_clock_is_coarse_proves_nothing() {
        let fine = Youngest::changed((200, 7));
        let coarse = Youngest::changed((200, 0));
        let table = [
            (fine, (200, 7), true),
            (fine, (200, 9_000_000), true),
            (fine, (200, 30_000_000), false),
            (fine, (190, 0), true),
            (coarse, (201, 999_999_999), true),
            (coarse, (202, 0), false),
            (coarse.and(fine), (200, 30_000_000), false),
            (Youngest::NONE.and(coarse), (201, 0), true),
            (fine.and_at(moment((300, 0))), (250, 0), true),
            (fine.and_at(moment((300, 0))), (301, 0), false),
            (Youngest::NONE, (1, 0), false),
        ];
        for (youngest, taken, expected) in table {
            assert_eq!(youngest.may_be_newer(moment(taken)), expected, "{youngest:?} at {taken:?}");
        }
    }
}
