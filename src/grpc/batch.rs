//! Batches in which each item stands alone: the bad ones are set aside, the others go to the store,
//! and the answers come back in the order of the request.

use super::status::{self, Refusal};
use crate::domain::Violation;
use crate::store::BATCH_MAX;

/// Items that were read, and what became of each place.
pub(super) struct Batch<T> {
    /// For the store, in order.
    pub good: Vec<T>,
    /// For each place of the request: why it was rejected, if it was.
    pub places: Vec<Option<Violation>>,
}

impl<T> Batch<T> {
    /// Reads each of `items`.
    pub(super) fn read<W>(items: Vec<W>, read: impl Fn(W) -> Result<T, Violation>) -> Self {
        let mut good = Vec::with_capacity(items.len());
        let place = |item| read(item).map(|item| good.push(item)).err();
        let places = items.into_iter().map(place).collect();
        Self { good, places }
    }
}

/// Puts the store's `answers` in their places.
pub(super) fn join<A>(
    places: Vec<Option<Violation>>,
    answers: Vec<A>,
) -> Result<Vec<Result<A, Violation>>, Refusal> {
    let mut answers = answers.into_iter();
    let short = || {
        Refusal::Status(status::internal(&"the store gave another number of answers than asked"))
    };
    let joined = places
        .into_iter()
        .map(|place| {
            place.map_or_else(|| answers.next().map(Ok), |why| Some(Err(why))).ok_or_else(short)
        })
        .collect::<Result<_, _>>()?;
    if answers.next().is_some() { Err(short()) } else { Ok(joined) }
}

/// Refuses a batch that is empty or larger than the store takes.
pub(super) fn check_len(field: &str, len: usize) -> Result<(), Violation> {
    if (1..=BATCH_MAX).contains(&len) { Ok(()) } else { Err(wrong_len(field, 1)) }
}

/// Refuses a batch that is larger than the store takes.
pub(super) fn check_max(field: &str, len: usize) -> Result<(), Violation> {
    if len <= BATCH_MAX { Ok(()) } else { Err(wrong_len(field, 0)) }
}

fn wrong_len(field: &str, min: usize) -> Violation {
    Violation::new(field, format!("must hold {min} to {BATCH_MAX} items"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_items_do_not_fail_the_others() {
        let read = |n: i32| if n < 0 { Err(Violation::new("n", "is negative")) } else { Ok(n * 2) };
        let batch = Batch::read(vec![1, -1, 2, -2], read);
        assert_eq!(batch.good, [2, 4]);
        let joined = join(batch.places, vec!["a", "b"]).unwrap();
        assert_eq!(
            joined.iter().map(Result::is_ok).collect::<Vec<_>>(),
            [true, false, true, false]
        );
        assert_eq!(joined[2], Ok("b"));
    }

    #[test]
    fn a_store_that_miscounts_is_caught() {
        assert!(join(vec![None, None], vec![1]).is_err());
        assert!(join(vec![None], vec![1, 2]).is_err());
    }

    #[test]
    fn lengths() {
        assert!(check_len("jobs", 0).is_err() && check_max("jobs", 0).is_ok());
        assert!(check_len("jobs", BATCH_MAX).is_ok() && check_max("jobs", BATCH_MAX).is_ok());
        assert!(
            check_len("jobs", BATCH_MAX + 1).is_err() && check_max("jobs", BATCH_MAX + 1).is_err()
        );
    }
}
