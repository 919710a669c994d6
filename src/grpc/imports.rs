//! What all imports share: a header first, then batches, each of which goes on from what is stored.

use tonic::{Status, Streaming};

use super::limits::Turn;
use super::service::{Call, Shared};
use super::{convert, status};
use crate::domain::Violation;

/// The longest import id, in characters.
const ID_MAX_CHARS: usize = 100;

/// The part that the next message holds; none after the last message.
pub(super) async fn next<M, P>(
    shared: &Shared,
    messages: &mut Streaming<M>,
    part: fn(M) -> Option<P>,
) -> Result<Option<P>, Status> {
    let message = tokio::select! {
        message = messages.message() => message?,
        () = shared.draining.cancelled() => return Err(status::draining()),
    };
    let part = message.map(|message| convert::required("part", part(message)));
    part.transpose().map_err(|violation| status::of_violation(&violation))
}

/// Waits until so many rows more are within the tenant's limit, and for their turn. Nothing more is
/// read meanwhile, so the client is slowed down.
pub(super) async fn turn(shared: &Shared, call: &Call, rows: usize) -> Result<Turn, Status> {
    tokio::select! {
        turn = call.rows.wait(rows) => Ok(turn),
        () = shared.draining.cancelled() => Err(status::draining()),
    }
}

pub(super) fn no_header() -> Violation {
    Violation::new("header", "must be the first message")
}

pub(super) fn second_header() -> Violation {
    Violation::new("header", "must be the first message only")
}

/// Refuses what is no name for an import.
pub(super) fn check_id(import_id: &str) -> Result<(), Violation> {
    let fits = (1..=ID_MAX_CHARS).contains(&import_id.chars().count());
    if fits && !import_id.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Violation::new(
        "header.import_id",
        "must be 1 to 100 characters, none of them a control character",
    ))
}

/// How many rows of a batch at `offset`, of `len`, are among the first `stored` of the import.
pub(super) fn already_stored(stored: u64, offset: u64, len: usize) -> Result<usize, Violation> {
    let known = stored.checked_sub(offset).ok_or_else(|| {
        Violation::new("batch.offset", format!("leaves a gap: the import stands at {stored}"))
    })?;
    Ok(usize::try_from(known).map_or(len, |known| known.min(len)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn skips_cuts_and_refuses_gaps() {
        assert_eq!(already_stored(10, 0, 10), Ok(10));
        assert_eq!(already_stored(10, 0, 4), Ok(4));
        assert_eq!(already_stored(10, 8, 5), Ok(2));
        assert_eq!(already_stored(10, 10, 5), Ok(0));
        assert_eq!(already_stored(10, 11, 5).unwrap_err().field, "batch.offset");
        assert_eq!(already_stored(u64::MAX, 0, 5), Ok(5));
        assert_eq!(already_stored(0, u64::MAX, 5).unwrap_err().field, "batch.offset");
    }

    proptest! {
        /// However often an import is cut, and whatever batches it is resumed with, each row is
        /// stored once.
        #[test]
        fn each_row_once(
            total in 1u64..200,
            streams in prop::collection::vec((1u64..40, 0usize..10), 1..6),
        ) {
            let mut stored = Vec::new();
            for (size, cut_after) in streams.into_iter().chain([(7, usize::MAX)]) {
                for offset in (0..total).step_by(size as usize).take(cut_after) {
                    let rows: Vec<_> = (offset..total.min(offset + size)).collect();
                    let known = already_stored(stored.len() as u64, offset, rows.len()).unwrap();
                    stored.extend_from_slice(&rows[known..]);
                }
            }
            prop_assert_eq!(stored, (0..total).collect::<Vec<_>>());
        }
    }
}
