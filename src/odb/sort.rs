//! Numbers put in order by their digits: a pack's offsets, of which there can be millions, where no `.rev` has their order.
//!
//! In: numbers. Out: their places, by what stands there. Time grows with how many there are, as git's does, not faster.

/// Bits of a digit.
const DIGIT: u32 = 11;
/// Fewer are compared with each other: to count digits takes as long.
const FEW: usize = 4 << 10;

/// The places of the numbers, from the smallest number to the largest; of equal ones the first comes first.
pub(super) fn ascending(numbers: impl ExactSizeIterator<Item = u64> + Clone) -> Vec<u32> {
    let places = u64::BITS - (numbers.len() as u64).leading_zeros();
    let largest = numbers.clone().max().unwrap_or(0);
    let used = u64::BITS - largest.leading_zeros();
    if used + places > u64::BITS {
        // Whoever damaged an index can name places beyond any pack.
        let mut pairs: Vec<(u64, u32)> = numbers.zip(0..).collect();
        pairs.sort_unstable();
        return pairs.into_iter().map(|(_, place)| place).collect();
    }
    let mut keys: Vec<u64> = numbers.zip(0..).map(|(number, place)| number << places | place).collect();
    if keys.len() < FEW {
        keys.sort_unstable();
    } else {
        by_digits(&mut keys, places, used + places);
    }
    let mask = (1_u64 << places) - 1;
    keys.into_iter().map(|key| (key & mask) as u32).collect()
}

/// Puts numbers in the order of their bits `from..to`, digit by digit, the lowest first; each pass keeps the order of the one before.
fn by_digits(keys: &mut Vec<u64>, from: u32, to: u32) {
    let mut sorted = vec![0; keys.len()];
    for shift in (from..to).step_by(DIGIT as usize) {
        let digit = |key: u64| (key >> shift) as usize & ((1 << DIGIT) - 1);
        let mut next = [0_usize; 1 << DIGIT];
        for key in keys.iter() {
            next[digit(*key)] += 1;
        }
        let mut begin = 0;
        for many in &mut next {
            begin += std::mem::replace(many, begin);
        }
        for &key in keys.iter() {
            let at = &mut next[digit(key)];
            sorted[*at] = key;
            *at += 1;
        }
        std::mem::swap(keys, &mut sorted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(numbers: &[u64]) {
        let places: Vec<usize> = ascending(numbers.iter().copied()).into_iter().map(|place| place as usize).collect();
        let mut expected: Vec<usize> = (0..numbers.len()).collect();
        expected.sort_by_key(|place| numbers[*place]);
        assert!(places == expected, "{} numbers", numbers.len());
    }

    #[test]
    fn places_are_in_the_order_of_their_numbers() {
        let mixed = |count: usize, bits: u32| -> Vec<u64> {
            (0..count as u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - bits)).collect()
        };
        for count in [0, 1, 2, 3, 1000, FEW - 1, FEW, FEW + 1, 20_000] {
            for bits in [1, 8, 11, 12, 22, 23, 33, 48, 49, 64] {
                check(&mixed(count, bits));
            }
            check(&vec![u64::MAX; count]);
            check(&vec![0; count]);
        }
    }
}
