//! Conferences. <https://www.twilio.com/docs/voice/api/conference-resource>

use reqwest::Method;

use crate::carrier::error::Error;
use crate::carrier::request::Account;
use crate::carrier::wire;
use crate::domain::CallSid;

use super::{Client, succeed};

impl Client {
    /// Whether the call takes part in a conference of this friendly name that goes on.
    /// <https://www.twilio.com/docs/voice/api/conference-participant-resource#fetch-a-participant-resource>
    ///
    /// # Errors
    /// Those of any request.
    pub async fn is_in_conference(
        &self,
        account: &Account,
        name: &str,
        call: &CallSid,
    ) -> Result<bool, Error> {
        let list = self
            .request(Method::GET, account, &["Conferences.json"])
            .query(&[("FriendlyName", name)]);
        let member = format!("{call}.json");
        for conference in wire::parse_conferences(&succeed(list).await?)? {
            let path = ["Conferences", &conference, "Participants", &member];
            match succeed(self.request(Method::GET, account, &path)).await {
                Ok(_) => return Ok(true),
                Err(Error::NotFound) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(false)
    }
}
