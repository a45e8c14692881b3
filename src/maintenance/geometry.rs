//! Chooses the packs to merge, so that there are never many: each has at least twice as many objects as the next
//! smaller one (git-repack, `--geometric`). An object is thus rewritten only as often as the repository doubles in
//! size.
//!
//! In: how many objects the packs have. Out: how many of the smallest to take. Nothing else is known about them here.

/// How many of the smallest packs to merge, together with `loose` objects. `sizes` are in ascending order.
///
/// First takes every pack up to the last one that breaks a progression of `factor`, then those that the merged pack
/// would outgrow.
pub(super) fn taken(sizes: &[u64], loose: u64, factor: u64) -> usize {
    let is_light = |small: u64, large: u64| small.saturating_mul(factor) > large;
    let mut taken = (1..sizes.len()).rev().find(|at| is_light(sizes[at - 1], sizes[*at])).map_or(0, |at| at + 1);
    let mut sum = sizes[..taken].iter().fold(loose, |sum, size| sum.saturating_add(*size));
    while sum > 0 && taken < sizes.len() && is_light(sum, sizes[taken]) {
        sum = sum.saturating_add(sizes[taken]);
        taken += 1;
    }
    // A single pack would not change.
    if taken == 1 && loose == 0 { 0 } else { taken }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_that_break_the_progression_are_taken_with_all_that_are_smaller() {
        let check = |sizes: &[u64], loose: u64, expected: usize| {
            assert_eq!(taken(sizes, loose, 2), expected, "{sizes:?} {loose}");
        };
        check(&[], 0, 0);
        check(&[], 7, 0);
        check(&[5], 0, 0);
        check(&[1, 2, 4, 8], 0, 0);
        check(&[1, 1, 4, 8], 0, 2);
        check(&[1, 1, 3, 10], 0, 3);
        check(&[1, 1, 3, 8], 0, 4);
        check(&[1, 2, 4, 7], 0, 4);
        check(&[4, 4, 100], 0, 2);
        check(&[10, 100], 3, 0);
        check(&[10, 100], 6, 1);
        check(&[10, 30, 100], 6, 2);
        check(&[0, 0, 5], 0, 0);
    }
}
