//! Who comes first, and how many: shuffles, weighted and not.

use fastrand::Rng;

/// Puts the items into a uniformly random order (Fisher and Yates).
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for end in (1..items.len()).rev() {
        items.swap(end, rng.usize(..=end));
    }
}

/// Puts the items into a random order in which each place is drawn by weight among those that are left, as if by
/// repeated sampling without replacement. Equal weights are a uniform shuffle; items of weight 0 come last.
pub(super) fn weighted_shuffle<T>(items: &mut [T], rng: &mut Rng, weight: impl Fn(&T) -> u16) {
    let first = items.first().map(&weight);
    if items.iter().all(|item| Some(weight(item)) == first) {
        return shuffle(items, rng);
    }
    // Efraimidis and Spirakis: the order of -ln(u)/w is such a sample. Infinite keys tie, so shuffle first.
    shuffle(items, rng);
    let mut key = |item: &T| match weight(item) {
        0 => f64::INFINITY,
        weight => -(1.0 - rng.f64()).ln() / f64::from(weight),
    };
    let mut keyed: Vec<(f64, usize)> = items.iter().enumerate().map(|(at, item)| (key(item), at)).collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    // `position[at]` is where the item that now stands at `at` goes; following the cycles needs no second list of items.
    let mut position = vec![0; items.len()];
    for (to, &(_, at)) in keyed.iter().enumerate() {
        if let Some(slot) = position.get_mut(at) {
            *slot = to;
        }
    }
    for at in 0..items.len() {
        while let Some(&to) = position.get(at).filter(|&&to| to != at) {
            items.swap(at, to);
            position.swap(at, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chi-square statistic of counts against what is expected.
    fn chi_square(counts: &[f64], expected: &[f64]) -> f64 {
        counts.iter().zip(expected).map(|(c, e)| (c - e) * (c - e) / e).sum()
    }

    #[test]
    fn rfc1794_2_every_order_is_equally_likely() {
        let mut rng = Rng::with_seed(7);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut items, &mut rng);
            *counts.entry(items).or_insert(0.0) += 1.0;
        }
        let counts: Vec<f64> = counts.into_values().collect();
        assert_eq!(counts.len(), 24);
        // 23 degrees of freedom: 49.7 is exceeded once in a thousand.
        assert!(chi_square(&counts, &[1000.0; 24]) < 49.7, "{counts:?}");
    }

    #[test]
    fn rfc2782_weights_are_sampling_weights() {
        let mut rng = Rng::with_seed(11);
        let weights = [10u16, 5, 3, 2];
        let mut first = [0.0; 4];
        let mut second_after_0 = [0.0; 4];
        for _ in 0..20_000 {
            let mut items = [0usize, 1, 2, 3];
            weighted_shuffle(&mut items, &mut rng, |&item| weights[item]);
            first[items[0]] += 1.0;
            if items[0] == 0 {
                second_after_0[items[1]] += 1.0;
            }
            let mut sorted = items;
            sorted.sort();
            assert_eq!(sorted, [0, 1, 2, 3]);
        }
        // 3 and 2 degrees of freedom, once in a thousand.
        assert!(chi_square(&first, &[10_000.0, 5_000.0, 3_000.0, 2_000.0]) < 16.3, "{first:?}");
        let share = first[0] / 10.0;
        assert!(chi_square(&second_after_0[1..], &[5.0 * share, 3.0 * share, 2.0 * share]) < 13.8, "{second_after_0:?}");
    }

    #[test]
    fn rfc2782_weight_0_comes_last() {
        let mut rng = Rng::with_seed(3);
        for _ in 0..100 {
            let mut items = [0u16, 1, 0, 5];
            weighted_shuffle(&mut items, &mut rng, |&weight| weight);
            assert_eq!(items[2..], [0, 0]);
        }
    }
}
