//! The one table of Twilio's error codes, by what has to happen next.

use crate::domain::call::RejectClass;

/// The longest carrier message that is kept, in characters.
pub const MESSAGE_MAX_CHARS: usize = 300;
/// A run of at least this many digits may be a phone number and is masked.
const PHONE_MIN_DIGITS: usize = 5;

/// Why a request to the carrier gave no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The carrier knows no such call, queue, or member of that queue.
    #[error("the carrier knows no such call or queue")]
    NotFound,
    /// The carrier refused.
    #[error("the carrier refused: HTTP {http_status}, code {code:?}: {message}")]
    Rejected {
        /// What has to happen next.
        class: CodeClass,
        /// Twilio's error code. <https://www.twilio.com/docs/api/errors>
        code: Option<u32>,
        /// The HTTP status.
        http_status: u16,
        /// Twilio's words, phone numbers masked, at most 300 characters.
        message: String,
    },
    /// The carrier could not be reached, did not answer in time, or answered 5xx.
    #[error("the carrier is unavailable: {reason}")]
    Unavailable {
        /// What happened, phone numbers masked.
        reason: String,
    },
    /// The carrier answered something else than its documentation says, or the request cannot be
    /// built.
    #[error("the carrier's protocol was not kept: {reason}")]
    Protocol {
        /// What happened, phone numbers masked.
        reason: String,
    },
}

/// What a Twilio error code means for the request that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodeClass {
    /// Nothing was done; the class says what happens to the job.
    Reject(RejectClass),
    /// Something may have been done: never send again.
    Ambiguous,
    /// The call changed under us: fetch it, then decide.
    Race,
}

/// The class of a Twilio error code, or none for a code that the table does not name.
///
/// Codes: <https://www.twilio.com/docs/api/errors>
pub const fn classify(code: u32) -> Option<CodeClass> {
    let reject = match code {
        21201 | 21211 | 21214 | 21217 | 13223 | 13224 => RejectClass::LeadDead,
        21202 | 21203 | 21215 | 13227 | 21216 | 13225 => RejectClass::PolicyBlock,
        10001
        | 10002
        | 20001
        | 20003
        | 20005
        | 20404
        | 21205
        | 21208..=21210
        | 21212
        | 21213
        | 21218
        | 21219
        | 21234
        | 21263
        | 21626
        | 32018 => RejectClass::Configuration,
        20429 | 10004 | 22005 => RejectClass::Defer,
        20500 | 20503 => return Some(CodeClass::Ambiguous),
        21220 | 20409 => return Some(CodeClass::Race),
        _ => return None,
    };
    Some(CodeClass::Reject(reject))
}

/// The class of an answer: the table first, then what the HTTP status says.
///
/// `code` is Twilio's, when the body had one. A status that is no documented refusal is ambiguous:
/// a proxy between us and Twilio may have said it after Twilio took the call.
pub(crate) const fn classify_answer(http_status: u16, code: Option<u32>) -> CodeClass {
    if http_status >= 500 || http_status < 400 {
        return CodeClass::Ambiguous;
    }
    if let Some(code) = code
        && let Some(class) = classify(code)
    {
        return class;
    }
    match (http_status, code) {
        (429, _) => CodeClass::Reject(RejectClass::Defer),
        (401 | 403 | 404, _) => CodeClass::Reject(RejectClass::Configuration),
        // 408, 409 and 425 speak of the connection or of another request, not of this one.
        (408 | 409 | 425, _) | (_, None) => CodeClass::Ambiguous,
        (_, Some(_)) => CodeClass::Reject(RejectClass::Other),
    }
}

/// `text` with everything that may be a phone number masked, at most [`MESSAGE_MAX_CHARS`] long.
///
/// A run of digits counts across the separators that people write in phone numbers.
pub(crate) fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MESSAGE_MAX_CHARS));
    let mut run = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() || (!run.is_empty() && matches!(c, ' ' | '-' | '.' | '(' | ')')) {
            run.push(c);
        } else {
            flush_run(&mut out, &mut run);
            out.push(c);
        }
    }
    flush_run(&mut out, &mut run);
    match out.char_indices().nth(MESSAGE_MAX_CHARS) {
        Some((end, _)) => {
            out.truncate(end);
            out
        }
        None => out,
    }
}

fn flush_run(out: &mut String, run: &mut String) {
    let digits = run.bytes().filter(u8::is_ascii_digit).count();
    if digits >= PHONE_MIN_DIGITS {
        // What follows the last digit is punctuation of the sentence, not of the number.
        let end = run.rfind(|c: char| c.is_ascii_digit()).map_or(0, |at| at + 1);
        out.push_str("•••");
        out.push_str(&run[end..]);
    } else {
        out.push_str(run);
    }
    run.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_pinned() {
        let reject = |class| Some(CodeClass::Reject(class));
        let rows: [(&[u32], Option<CodeClass>); 7] = [
            (&[21201, 21211, 21214, 21217, 13223, 13224], reject(RejectClass::LeadDead)),
            (&[21202, 21203, 21215, 13227, 21216, 13225], reject(RejectClass::PolicyBlock)),
            (
                &[
                    10001, 10002, 20001, 20003, 20005, 20404, 21205, 21208, 21209, 21210, 21212,
                    21213, 21218, 21219, 21234, 21263, 21626, 32018,
                ],
                reject(RejectClass::Configuration),
            ),
            (&[20429, 10004, 22005], reject(RejectClass::Defer)),
            (&[20500, 20503], Some(CodeClass::Ambiguous)),
            (&[21220, 20409], Some(CodeClass::Race)),
            (&[0, 1, 21200, 21204, 21206, 21207, 99999], None),
        ];
        for (codes, class) in rows {
            for code in codes {
                assert_eq!(classify(*code), class, "{code}");
            }
        }
        let named = (0..100_000).filter(|code| classify(*code).is_some()).count();
        assert_eq!(named, 6 + 6 + 18 + 3 + 2 + 2);
    }

    #[test]
    fn a_status_without_a_known_code() {
        let reject = CodeClass::Reject;
        assert_eq!(classify_answer(429, None), reject(RejectClass::Defer));
        assert_eq!(classify_answer(403, None), reject(RejectClass::Configuration));
        assert_eq!(classify_answer(400, Some(29999)), reject(RejectClass::Other));
        assert_eq!(classify_answer(400, Some(21211)), reject(RejectClass::LeadDead));
        for (status, code) in [
            (400, None),
            (408, Some(29999)),
            (409, None),
            (425, None),
            (302, None),
            (502, Some(20429)),
        ] {
            assert_eq!(classify_answer(status, code), CodeClass::Ambiguous, "{status}");
        }
    }

    #[test]
    fn messages_carry_no_phone() {
        assert_eq!(redact("The number +14155550123 is bad."), "The number +••• is bad.");
        assert_eq!(redact("To: (415) 555-0123, or 4155550123"), "To: (•••, or •••");
        assert_eq!(redact("code 429 twice"), "code 429 twice");
        assert_eq!(redact(&"é".repeat(1_000)).chars().count(), MESSAGE_MAX_CHARS);
    }
}
