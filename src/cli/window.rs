//! Calling windows as people write them: `09:00-20:00`, `mon-fri 09:00-20:00`, `sat,sun
//! 10:00-14:00`.

use jiff::civil::Time;

use crate::grpc::pb::{CallingWindow, Weekday};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const FORM: &str = "must be like mon-fri 09:00-20:00, the days left out for every day";
const MINUTES_PER_DAY: u32 = 24 * 60;

/// Reads a window; its hours are checked by the server as well.
pub fn parse(text: &str) -> Result<CallingWindow, &'static str> {
    let (days, hours) = text.trim().rsplit_once(' ').unwrap_or(("", text.trim()));
    let (opens, closes) = hours.split_once('-').ok_or(FORM)?;
    let weekdays = match days.trim() {
        "" => Vec::new(),
        days => days.split(',').map(span).collect::<Option<Vec<_>>>().ok_or(FORM)?.concat(),
    };
    Ok(CallingWindow {
        opens_minute: minute(opens).ok_or(FORM)?,
        closes_minute: minute(closes).ok_or(FORM)?,
        weekdays,
    })
}

/// `fri`, or `mon-fri`; a span may run over the week's end.
fn span(text: &str) -> Option<Vec<i32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let day = |text: &str| DAYS.iter().position(|day| text.trim().eq_ignore_ascii_case(day));
    let (first, last) = (day(first)?, day(last)?);
    let days = (last + DAYS.len() - first) % DAYS.len();
    Some((0..=days).map(|n| Weekday::Monday as i32 + ((first + n) % DAYS.len()) as i32).collect())
}

fn minute(text: &str) -> Option<u32> {
    if text == "24:00" {
        return Some(MINUTES_PER_DAY);
    }
    let time = Time::strptime("%H:%M", text).ok()?;
    Some(u32::from(time.hour().unsigned_abs()) * 60 + u32::from(time.minute().unsigned_abs()))
}

/// A window in a form that [`parse`] reads.
pub fn text(window: &CallingWindow) -> String {
    let minute = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
    let hours = format!("{}-{}", minute(window.opens_minute), minute(window.closes_minute));
    let named = window.weekdays.iter().filter_map(|day| {
        let index = usize::try_from(*day - Weekday::Monday as i32).ok()?;
        DAYS.get(index).copied()
    });
    let days: Vec<&str> = named.collect();
    // All of them go without saying.
    if days.is_empty() || days.len() == DAYS.len() {
        hours
    } else {
        format!("{} {hours}", days.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_days_and_hours() {
        let every = parse("09:00-20:30").unwrap();
        assert_eq!((every.opens_minute, every.closes_minute, every.weekdays), (540, 1_230, vec![]));
        assert_eq!(parse("mon-fri 00:00-24:00").unwrap().weekdays, [1, 2, 3, 4, 5]);
        assert_eq!(parse("Sat,sun 10:00-14:00").unwrap().weekdays, [6, 7]);
        assert_eq!(parse("sat-mon 10:00-14:00").unwrap().weekdays, [6, 7, 1]);
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for wrong in [
            "",
            "9-20",
            "mon-fri",
            "foo 09:00-20:00",
            "09:00-25:00",
            "09:00 - 20:00",
            "mon,,tue 1:00-2:00",
        ] {
            assert_eq!(parse(wrong), Err(FORM), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for shown in ["09:00-17:30", "00:00-24:00", "mon,tue,fri 08:00-09:00"] {
            assert_eq!(text(&parse(shown).unwrap()), shown);
        }
        assert_eq!(text(&parse("mon-sun 08:00-09:00").unwrap()), "08:00-09:00");
    }
}
