//! Pages: a capped size, and an opaque token that is bound to the request it came from.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use prost::Message;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::pb;
use crate::domain::Violation;
use crate::store::{PAGE_MAX, Page, Paged};

/// The page of a client that names no size.
const PAGE_DEFAULT: u32 = 100;
/// A page ends early rather than be larger: gRPC clients take 4 MiB unless told otherwise.
const ANSWER_MAX_BYTES: usize = 3 * 1024 * 1024;
/// Tag and length of an item in its list.
const ITEM_OVERHEAD: usize = 8;
const HASH_LEN: usize = 8;
/// The longest id that is text.
const TEXT_KEY_MAX_LEN: usize = 64;

/// A request for a page. The fields besides size and token are its filter.
pub(super) trait Paging: Message + Clone {
    /// What the rows of a page are known by.
    type Key: Cursor;
    /// Tells the filters of different methods apart.
    const METHOD: &'static str;
    /// The size and the token.
    fn parts(&mut self) -> (&mut u32, &mut String);
}

/// The key of a page's last row, as a token holds it.
pub(super) trait Cursor: Sized + Clone {
    /// As bytes.
    fn bytes(&self) -> Vec<u8>;
    /// Back again; none if they are none of ours.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Cursor for Uuid {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_slice(bytes).ok()
    }
}

impl Cursor for String {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let fits = (1..=TEXT_KEY_MAX_LEN).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| text.to_owned())
    }
}

macro_rules! paging {
    ($($key:ty: $($request:ident),+;)+) => {$($(
        impl Paging for pb::$request {
            type Key = $key;
            const METHOD: &'static str = stringify!($request);
            fn parts(&mut self) -> (&mut u32, &mut String) {
                (&mut self.page_size, &mut self.page_token)
            }
        }
    )+)+};
}
paging! {
    Uuid: ListRunsRequest, ListJobsRequest, ListCallsRequest, ListTasksRequest, ListLeadsRequest, ListLeadEventsRequest,
        ListAuditEventsRequest, ListSuppressionsRequest, ListTransfersRequest, ListWebhooksRequest,
        ListWebhookDeliveriesRequest;
    String: ListTenantsRequest, ListCarrierAccountsRequest, ListApiKeysRequest;
}

/// Writes the tokens of pages of one filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pager {
    filter: [u8; HASH_LEN],
}

impl Pager {
    /// The page that `request` asks for. A size above the cap is taken as the cap, as in AIP-158.
    pub(super) fn read<R: Paging>(request: &R) -> Result<(Self, Page<R::Key>), Violation> {
        let mut request = request.clone();
        let (size, token) = request.parts();
        let size = match std::mem::take(size) {
            0 => PAGE_DEFAULT,
            size => size.min(PAGE_MAX),
        };
        let token = std::mem::take(token);
        let digest =
            Sha256::new_with_prefix(R::METHOD).chain_update(request.encode_to_vec()).finalize();
        let mut filter = [0; HASH_LEN];
        filter.copy_from_slice(&digest[..HASH_LEN]);
        let pager = Self { filter };
        let after = if token.is_empty() { None } else { Some(pager.open(&token)?) };
        Ok((pager, Page { size, after }))
    }

    /// The same for a stream of pages, whose size is the server's to choose.
    pub(super) fn read_stream(
        method: &str,
        filter: Option<&pb::LeadFilter>,
        token: &str,
    ) -> Result<(Self, Option<Uuid>), Violation> {
        let filter = filter.map(Message::encode_to_vec).unwrap_or_default();
        let digest = Sha256::new_with_prefix(method).chain_update(filter).finalize();
        let mut hash = [0; HASH_LEN];
        hash.copy_from_slice(&digest[..HASH_LEN]);
        let pager = Self { filter: hash };
        let after = if token.is_empty() { None } else { Some(pager.open(token)?) };
        Ok((pager, after))
    }

    /// The answer to a page: the items as `write` puts them, each with its key, and the next page's
    /// token. Ends early where the message would outgrow what clients take by default.
    pub(super) fn answer<T, K: Cursor, M: Message>(
        self,
        found: Paged<T, K>,
        write: impl Fn(T) -> (K, M),
    ) -> (Vec<M>, String) {
        let (items, token, _) = self.answer_with_next(found, write);
        (items, token)
    }

    /// The same, and the key after which to go on.
    pub(super) fn answer_with_next<T, K: Cursor, M: Message>(
        self,
        found: Paged<T, K>,
        write: impl Fn(T) -> (K, M),
    ) -> (Vec<M>, String, Option<K>) {
        let (mut items, mut size, mut last) = (Vec::with_capacity(found.items.len()), 0, None);
        for (key, item) in found.items.into_iter().map(write) {
            size += item.encoded_len() + ITEM_OVERHEAD;
            if size > ANSWER_MAX_BYTES && !items.is_empty() {
                return (items, self.token(last.clone()), last);
            }
            last = Some(key);
            items.push(item);
        }
        (items, self.token(found.next.clone()), found.next)
    }

    /// The token for the page after `last`; empty after the last page.
    pub(super) fn token<K: Cursor>(self, last: Option<K>) -> String {
        last.map(|last| BASE64.encode([&self.filter[..], &last.bytes()].concat()))
            .unwrap_or_default()
    }

    fn open<K: Cursor>(self, token: &str) -> Result<K, Violation> {
        let mut bytes = [0; HASH_LEN + TEXT_KEY_MAX_LEN];
        let malformed = || Violation::new("page_token", "is not a page token of this server");
        let len = BASE64.decode_slice(token, &mut bytes).map_err(|_| malformed())?;
        let (filter, key) = bytes[..len].split_first_chunk::<HASH_LEN>().ok_or_else(malformed)?;
        if *filter != self.filter {
            return Err(Violation::new("page_token", "belongs to a request with another filter"));
        }
        K::from_bytes(key).ok_or_else(malformed)
    }
}

/// Reads a token of this filter and writes it again, with each kind of key; for `fuzz/`.
pub(super) fn reread(filter: [u8; HASH_LEN], token: &str) -> [Option<String>; 2] {
    let pager = Pager { filter };
    let uuid = pager.open::<Uuid>(token).ok().map(|last| pager.token(Some(last)));
    [uuid, pager.open::<String>(token).ok().map(|last| pager.token(Some(last)))]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn jobs(run_id: &str, page_size: u32, page_token: &str) -> pb::ListJobsRequest {
        let (run_id, page_token) = (run_id.to_owned(), page_token.to_owned());
        pb::ListJobsRequest { run_id, page_size, page_token, states: vec![1] }
    }

    #[test]
    fn a_token_continues_its_own_filter_only() {
        let last = Uuid::from_u128(42);
        let (pager, page) = Pager::read(&jobs("a", 0, "")).unwrap();
        assert_eq!(page, Page { size: 100, after: None });
        let token = pager.token(Some(last));
        let (_, page) = Pager::read(&jobs("a", 5, &token)).unwrap();
        assert_eq!(page, Page { size: 5, after: Some(last) });
        assert_eq!(Pager::read(&jobs("b", 5, &token)).unwrap_err().field, "page_token");
        let other = pb::ListLeadsRequest { page_token: token, ..Default::default() };
        assert_eq!(Pager::read(&other).unwrap_err().field, "page_token");
        assert_eq!(pager.token(None::<Uuid>), "");
    }

    #[test]
    fn text_keys_go_both_ways() {
        let request = pb::ListTenantsRequest::default();
        let (pager, _) = Pager::read(&request).unwrap();
        let token = pager.token(Some("acme".to_owned()));
        let (_, page) =
            Pager::read(&pb::ListTenantsRequest { page_token: token, ..request.clone() }).unwrap();
        assert_eq!(page.after.as_deref(), Some("acme"));
        for bad in ["", "a b", &"x".repeat(65), "é"] {
            let page_token = pager.token(Some(bad.to_owned()));
            assert!(
                Pager::read(&pb::ListTenantsRequest { page_token, ..request.clone() }).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn sizes_are_capped() {
        assert_eq!(Pager::read(&jobs("a", 1_000, "")).unwrap().1.size, 1_000);
        assert_eq!(Pager::read(&jobs("a", u32::MAX, "")).unwrap().1.size, PAGE_MAX);
    }

    #[test]
    fn a_page_ends_before_it_is_too_large() {
        let (pager, _) = Pager::read(&jobs("a", 0, "")).unwrap();
        let found = || Paged { items: (0..10u128).collect(), next: None };
        let job = |bytes: usize| {
            move |i| {
                (Uuid::from_u128(i), pb::Job { job_id: "x".repeat(bytes), ..Default::default() })
            }
        };
        let (items, token) = pager.answer(found(), job(1 << 20));
        assert_eq!((items.len(), token), (2, pager.token(Some(Uuid::from_u128(1)))));
        let (items, token) = pager.answer(found(), job(8 << 20));
        assert_eq!((items.len(), token.is_empty()), (1, false));
        let (items, token) = pager.answer(found(), job(100));
        assert_eq!((items.len(), token), (10, String::new()));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(token in "\\PC{1,80}") {
            prop_assert!(Pager::read(&jobs("a", 1, &token)).is_err());
        }
    }
}
