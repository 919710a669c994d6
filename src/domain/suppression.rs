//! Suppressions: phones that the tenant must not dial, whoever's they are.

use serde::{Deserialize, Serialize};

use super::{CallId, Phone, Timestamp, Violation};

/// The longest note, in characters.
pub const NOTE_MAX_CHARS: usize = 500;

super::state_words! {
    /// How a phone came to be suppressed.
    pub enum SuppressionSource {
        /// By a program, over the API.
        Api = "api",
        /// By a person of the tenant's, on the command line for example.
        Operator = "operator",
        /// From a list.
        Import = "import",
        /// By the callee, during a call.
        OptOut = "opt_out",
    }
}

super::state_words! {
    /// Why. A word, not a text, so that nothing personal is kept with it.
    pub enum SuppressionReason {
        /// The person asked for it.
        Asked = "asked",
        /// It is on a registry that has to be obeyed, a national one for example.
        Registry = "registry",
        /// There was a complaint.
        Complaint = "complaint",
        /// The number is not the person's.
        WrongNumber = "wrong_number",
        /// A court, a regulator or a contract says so.
        Legal = "legal",
        /// Something else: see the note.
        Other = "other",
    }
}

/// A phone to be suppressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSuppression {
    /// Which.
    pub phone: Phone,
    /// Why.
    pub reason: SuppressionReason,
    /// How it came.
    pub source: SuppressionSource,
    /// For people; may be empty. Forgotten when the phone's lead is erased.
    pub note: String,
    /// The call during which the callee asked for it.
    pub call: Option<CallId>,
    /// It holds until then; none for good.
    pub expires_at: Option<Timestamp>,
}

impl NewSuppression {
    /// For good, without a note.
    pub const fn of(phone: Phone, reason: SuppressionReason, source: SuppressionSource) -> Self {
        Self { phone, reason, source, note: String::new(), call: None, expires_at: None }
    }

    /// Checks what does not depend on the time; names the field.
    pub fn check(&self) -> Result<(), Violation> {
        if self.note.chars().count() > NOTE_MAX_CHARS {
            return Err(Violation::new("note", "is longer than 500 characters"));
        }
        if self.note.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(Violation::new(
                "note",
                "must not contain control characters besides tab and line feed",
            ));
        }
        Ok(())
    }
}

/// What adding a suppression does to the one that the phone has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuppressionChange {
    /// There was none, or it had expired.
    Added,
    /// It holds for longer now.
    Extended,
    /// It held for as long already.
    Unchanged,
}

/// Decides what becomes of a phone's suppression, of which `known` is the end (with none in it for
/// good). Adding never makes one end earlier: who asked not to be called is not forgotten because
/// of a list.
pub fn decide(
    known: Option<Option<Timestamp>>,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<SuppressionChange, Violation> {
    if expires_at.is_some_and(|at| at <= now) {
        return Err(Violation::new("expire_time", "must be in the future"));
    }
    let end = |at: Option<Timestamp>| at.unwrap_or(Timestamp::NEVER);
    Ok(match known {
        None => SuppressionChange::Added,
        Some(known) if end(known) <= now => SuppressionChange::Added,
        Some(known) if end(known) < end(expires_at) => SuppressionChange::Extended,
        Some(_) => SuppressionChange::Unchanged,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_end() -> impl Strategy<Value = Option<Timestamp>> {
        prop_oneof![Just(None), (-50i64..50).prop_map(|at| Some(Timestamp(at)))]
    }

    proptest! {
        /// Whatever is added, in any order, the phone is suppressed until the latest end that was
        /// asked for.
        #[test]
        fn the_latest_end_holds(asked in prop::collection::vec(any_end(), 1..8), now in -50i64..50) {
            let now = Timestamp(now);
            let mut known = None;
            for end in &asked {
                match decide(known, *end, now) {
                    Ok(SuppressionChange::Added | SuppressionChange::Extended) => known = Some(*end),
                    Ok(SuppressionChange::Unchanged) => prop_assert!(known.is_some()),
                    Err(violation) => prop_assert!(violation.field == "expire_time" && end.unwrap() <= now),
                }
            }
            let latest = asked.iter().map(|end| end.unwrap_or(Timestamp::NEVER)).filter(|end| *end > now).max();
            prop_assert_eq!(known.map(|end| end.unwrap_or(Timestamp::NEVER)), latest);
        }
    }

    #[test]
    fn one_that_has_expired_is_none() {
        let now = Timestamp(10);
        assert_eq!(
            decide(Some(Some(Timestamp(10))), Some(Timestamp(11)), now),
            Ok(SuppressionChange::Added)
        );
        assert_eq!(decide(Some(None), Some(Timestamp(11)), now), Ok(SuppressionChange::Unchanged));
        assert_eq!(decide(Some(Some(Timestamp(11))), None, now), Ok(SuppressionChange::Extended));
    }

    #[test]
    fn notes_are_bounded() {
        let noted = |note: String| {
            let phone = "+14155550100".parse().unwrap();
            let new = NewSuppression::of(phone, SuppressionReason::Other, SuppressionSource::Api);
            NewSuppression { note, ..new }.check()
        };
        assert!(noted("é".repeat(NOTE_MAX_CHARS)).is_ok());
        assert_eq!(noted("x".repeat(NOTE_MAX_CHARS + 1)).unwrap_err().field, "note");
        assert_eq!(noted("\u{7}".into()).unwrap_err().field, "note");
    }
}
