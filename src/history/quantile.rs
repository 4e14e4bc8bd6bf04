//! Quantiles of what a histogram has counted between two looks at it.

use crate::metrics::Buckets;

/// The value below which the share `q` of the observations since `before` lies, in seconds; `None` if there was none.
///
/// Observations are taken to be spread evenly within their bucket, as Prometheus does; of those beyond the last bound
/// only that is known.
pub(super) fn quantile(before: &Buckets, after: &Buckets, q: f64) -> Option<f32> {
    let earlier = |bound: f64| before.0.iter().find(|(other, _)| *other == bound).map_or(0, |(_, count)| *count);
    // What is cumulative stays so when a host and its counts go.
    let counts: Vec<(f64, f64)> =
        after.0.iter().map(|(bound, count)| (*bound, count.saturating_sub(earlier(*bound)) as f64)).collect();
    let all = counts.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let rank = q * all;
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in counts {
        if count >= rank && count > below {
            let seconds =
                if bound.is_finite() { lower + (bound - lower) * (rank - below) / (count - below) } else { lower };
            return Some(seconds as f32);
        }
        (lower, below) = (bound, count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(counts: [u64; 4]) -> Buckets {
        Buckets([0.1, 1.0, 10.0, f64::INFINITY].into_iter().zip(counts).collect())
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let none = Buckets::default();
        for (counts, q, expected) in [
            ([10, 10, 10, 10], 0.5, 0.05),
            ([10, 10, 10, 10], 1.0, 0.1),
            ([0, 10, 10, 10], 0.5, 0.55),
            ([5, 10, 10, 10], 0.5, 0.1),
            ([5, 10, 10, 10], 0.9, 0.82),
            ([0, 0, 0, 3], 0.5, 10.0),
        ] {
            let found = quantile(&none, &buckets(counts), q).unwrap();
            assert!((found - expected).abs() < 1e-6, "{counts:?} {q}: {found}");
        }
    }

    #[test]
    fn only_what_is_new_counts_and_nothing_new_is_nothing() {
        let before = buckets([100, 100, 100, 100]);
        assert_eq!(quantile(&before, &before, 0.5), None);
        assert_eq!(quantile(&Buckets::default(), &Buckets::default(), 0.5), None);
        let found = quantile(&before, &buckets([100, 110, 110, 110]), 0.5).unwrap();
        assert!((found - 0.55).abs() < 1e-6);
        assert_eq!(quantile(&before, &buckets([1, 1, 1, 1]), 0.5), None, "a host has gone, with its counts");
    }
}
