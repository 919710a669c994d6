//! `<Gather>`: keys.

use crate::carrier::twiml::{Gather, Verb};
use crate::simulator::request::Source;

use super::follow::pair;
use super::{BROKEN, Flow, Life};

/// Twilio waits for 5 s for the next key.
const TIMEOUT_DEFAULT_S: u32 = 5;

impl Life {
    /// Collects keys; gives the `action` with the digits, or nothing when the next verb follows.
    pub(super) async fn gather(&mut self, gather: Gather) -> Flow<Option<Source>> {
        let (digits, finished_by) = self.collect(&gather).await?;
        if digits.is_empty() && !gather.action_on_empty_result {
            return Ok(None);
        }
        let mut params = vec![pair("Digits", digits)];
        params.extend(finished_by.map(|key| pair("FinishedOnKey", key)));
        // Without an action the document is asked for again.
        let action = gather.action.or_else(|| self.base.as_ref().map(|base| base.to_string()));
        let action = action.ok_or(BROKEN)?;
        Ok(Some(self.link(&action, gather.method, params)))
    }

    /// The digits, and the key that finished them.
    async fn collect(&mut self, gather: &Gather) -> Flow<(String, Option<char>)> {
        let timeout_s = f64::from(gather.timeout_s.unwrap_or(TIMEOUT_DEFAULT_S));
        let mut planned = self.presses.pop_front().filter(|press| !press.digits.is_empty());
        let keys = self.keys.clone();
        keys.forget();
        let (mut digits, started_with) = (String::new(), self.left_s);
        let mut patience_s =
            gather.prompts.iter().map(|prompt| self.length_s(prompt)).sum::<f64>() + timeout_s;
        loop {
            let until_planned =
                planned.as_ref().map(|press| press.after_s - (started_with - self.left_s));
            let pressing = until_planned.filter(|seconds| *seconds <= patience_s);
            let pressed =
                match self.until(pressing.unwrap_or(patience_s).max(0.0), keys.next()).await? {
                    Some(key) => key.to_string(),
                    None if pressing.is_some() => {
                        planned.take().map(|press| press.digits).unwrap_or_default()
                    }
                    None => return Ok((digits, None)),
                };
            for key in pressed.chars() {
                if gather.finish_on_key == Some(key) {
                    return Ok((digits, Some(key)));
                }
                digits.push(key);
                if gather.num_digits.is_some_and(|count| digits.len() >= count as usize) {
                    return Ok((digits, None));
                }
            }
            patience_s = timeout_s;
        }
    }

    fn length_s(&self, prompt: &Verb) -> f64 {
        match prompt {
            Verb::Pause { length_s } => f64::from(*length_s),
            Verb::Say { .. }
            | Verb::Play { .. }
            | Verb::Gather(_)
            | Verb::Redirect { .. }
            | Verb::Dial(_)
            | Verb::Enqueue { .. }
            | Verb::Leave
            | Verb::Hangup
            | Verb::Connect(_)
            | Verb::Reject => self.plan.talk_s,
        }
    }
}
