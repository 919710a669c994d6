//! Queues of waiting callers. <https://www.twilio.com/docs/voice/api/queue-resource>

use reqwest::Method;

use crate::carrier::error::Error;
use crate::carrier::request::{Account, PAGE_SIZE_MAX};
use crate::carrier::wire::{self, QueueResource};
use crate::domain::QueueSid;

use super::{Client, succeed};

/// Pages of queues that are looked through for one name: ten thousand queues.
const PAGES_MAX: usize = 10;

impl Client {
    /// The account's queue of this friendly name, or none. Twilio opens a queue when the first
    /// caller comes, and cannot be asked for one by name: the list is looked through.
    ///
    /// # Errors
    /// [`Error::Protocol`] when the account has more queues than are looked through.
    pub async fn find_queue(
        &self,
        account: &Account,
        name: &str,
    ) -> Result<Option<QueueResource>, Error> {
        let size = [("PageSize", PAGE_SIZE_MAX)];
        let mut request = self.request(Method::GET, account, &["Queues.json"]).query(&size);
        for _ in 0..PAGES_MAX {
            let page = wire::parse_queues(&succeed(request).await?)?;
            if let Some(found) = page.queues.into_iter().find(|queue| queue.friendly_name == name) {
                return Ok(Some(found));
            }
            let Some(next) = page.next_page else { return Ok(None) };
            let url = self.page_url(account, "Queues.json", &next)?;
            request = self.authorized(Method::GET, account, url);
        }
        Err(Error::Protocol {
            reason: "the account has more queues than are looked through".into(),
        })
    }

    /// Deletes an empty queue. Twilio keeps those that nobody uses any more until somebody does
    /// this.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such queue, [`Error::Rejected`] while somebody waits in
    /// it.
    pub async fn close_queue(&self, account: &Account, queue: &QueueSid) -> Result<(), Error> {
        let resource = format!("{queue}.json");
        succeed(self.request(Method::DELETE, account, &["Queues", &resource])).await.map(drop)
    }
}
