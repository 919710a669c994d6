//! Following documents, verb by verb.

use secrecy::ExposeSecret;
use url::Url;

use crate::carrier::signature;
use crate::carrier::twiml::{self, Method, Verb};
use crate::simulator::callbacks::{self, Failure, Override};
use crate::simulator::request::{Fetch, Source};

use super::{BROKEN, Cut, End, Flow, Life, OVER};

/// Documents that one call may go through without a stop: a redirect loop must end.
const DOCUMENTS_MAX: usize = 100;

/// Parameters of a webhook.
pub(super) type Params = Vec<(String, String)>;

pub(super) fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// What a call goes on with.
pub(super) enum Next {
    At(Source),
    Document(Vec<Verb>),
}

/// What comes after one of the verbs that every kind of document may hold.
pub(super) enum Step {
    Verb,
    Document(Source),
    /// The queue is left.
    Leave,
}

impl Life {
    /// Follows the call's documents until one ends, somebody hangs up, or the time limit is
    /// reached.
    pub(super) async fn follow(&mut self, mut next: Next) -> End {
        for _ in 0..DOCUMENTS_MAX {
            let done = match next {
                Next::Document(verbs) => self.perform(verbs).await,
                Next::At(source) => match self.load(&source).await {
                    Ok(verbs) => self.perform(verbs).await,
                    Err(cut) => Err(cut),
                },
            };
            next = match done {
                Ok(None) => return End::Over,
                Ok(Some(source)) => Next::At(source),
                Err(Cut::Sent(source)) => {
                    // Whoever talked to it stays behind.
                    self.core.switchboard().part(self.index);
                    Next::At(source)
                }
                Err(Cut::End(end)) => return end,
            };
        }
        End::Broken
    }

    /// Performs a document's verbs in order; gives where to go on, if it says so.
    async fn perform(&mut self, verbs: Vec<Verb>) -> Flow<Option<Source>> {
        for verb in verbs {
            if Self::answers(&verb) {
                self.pick_up()?;
            }
            let next = match verb {
                Verb::Dial(dial) => self.dial(dial).await?,
                Verb::Enqueue { name, action, method, wait_url } => {
                    self.enqueue(&name, action.map(|url| (url, method)), wait_url).await?
                }
                other => match self.step(other).await? {
                    Step::Document(source) => Some(source),
                    // Outside of a queue there is nothing to leave.
                    Step::Verb | Step::Leave => None,
                },
            };
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }

    /// Performs a verb that connects the call to nobody.
    async fn step(&mut self, verb: Verb) -> Flow<Step> {
        match verb {
            Verb::Say { .. } | Verb::Play { .. } | Verb::Connect(_) => {
                self.wait(self.plan.talk_s).await?
            }
            Verb::Pause { length_s } => self.wait(f64::from(length_s)).await?,
            Verb::Redirect { url } => {
                return Ok(Step::Document(self.link(&url, Method::Post, Vec::new())));
            }
            Verb::Gather(gather) => {
                let next = self.gather(gather).await?;
                return Ok(next.map_or(Step::Verb, Step::Document));
            }
            Verb::Leave => return Ok(Step::Leave),
            Verb::Hangup => return Err(OVER),
            Verb::Reject => return Err(Cut::End(End::Rejected)),
            // Twilio does not allow these where only this is called: in a waitUrl, or before two
            // are connected.
            Verb::Dial(_) | Verb::Enqueue { .. } => return Err(BROKEN),
        }
        Ok(Step::Verb)
    }

    /// Follows what one party hears alone, a `url` or one round of a `waitUrl`; true when it says
    /// to leave.
    pub(super) async fn alone(&mut self, source: &Source) -> Flow<bool> {
        let mut next = source.clone();
        'documents: for _ in 0..DOCUMENTS_MAX {
            for verb in self.load(&next).await? {
                match self.step(verb).await? {
                    Step::Verb => {}
                    Step::Leave => return Ok(true),
                    Step::Document(source) => {
                        next = source;
                        continue 'documents;
                    }
                }
            }
            return Ok(false);
        }
        Err(BROKEN)
    }

    /// What is heard while waiting, again and again, until it says to leave; without a document,
    /// music.
    pub(super) async fn hold(&mut self, wait: Option<Source>) -> Flow<()> {
        let Some(source) = wait else { return self.wait(f64::INFINITY).await };
        loop {
            let before = self.left_s;
            if self.alone(&source).await? {
                return Ok(());
            }
            // A document that takes no time must not be asked for without pause.
            if before - self.left_s < 1.0 {
                self.wait(1.0).await?;
            }
        }
    }

    /// An address in the document that is being followed. What cannot be resolved fails when it is
    /// fetched.
    pub(super) fn link(&self, url: &str, method: Method, params: Params) -> Source {
        let absolute = self.base.as_ref().and_then(|base| base.join(url).ok());
        let url = absolute.map_or_else(|| url.to_owned(), String::from);
        Source::Fetched(Fetch { method, params, ..Fetch::new(url) })
    }

    /// The document, from `source` or its fallback.
    pub(super) async fn load(&mut self, source: &Source) -> Flow<Vec<Verb>> {
        let fetch = match source {
            Source::Inline(xml) => {
                self.base = None;
                return twiml::Response::parse(xml).map(|response| response.0).map_err(|_| BROKEN);
            }
            Source::Fetched(fetch) => fetch,
        };
        for (nth, url) in
            [Some(&fetch.url), fetch.fallback_url.as_ref()].into_iter().flatten().enumerate()
        {
            let Ok(mut url) = Url::parse(url) else { continue };
            let mut params = self.common();
            params.extend_from_slice(&fetch.params);
            if nth > 0 {
                params.push(pair("ErrorCode", "11200"));
            }
            let from = url.clone();
            if fetch.method == Method::Get {
                url.query_pairs_mut().extend_pairs(&params);
                params.clear();
            }
            let signature =
                signature::sign(self.account.auth_token.expose_secret(), url.as_str(), &params);
            let core = self.core.clone();
            let asked = async {
                let policy = Override::read(url.as_str(), "ct");
                for attempt in 0.. {
                    let answer = match fetch.method {
                        Method::Get => core.poster.get(url.as_str(), &signature).await,
                        Method::Post => {
                            core.poster.post_form(url.as_str(), &params, &signature).await
                        }
                    };
                    let failure = match Failure::of(answer) {
                        Ok(body) => return Some(body),
                        Err(failure) => failure,
                    };
                    tokio::time::sleep(policy.pause_after(attempt, failure)?).await;
                }
                None
            };
            let fetched = tokio::select! {
                biased;
                command = self.commands.recv() => {
                    return Err(command.map_or(Cut::End(End::Gone), Cut::Sent));
                }
                fetched = asked => fetched,
            };
            if let Some(body) = fetched
                && let Ok(response) = twiml::Response::parse(&body)
            {
                self.base = Some(from);
                return Ok(response.0);
            }
        }
        Err(BROKEN)
    }

    /// What every webhook says of this call.
    pub(super) fn common(&self) -> Params {
        self.core.switchboard().entry(self.index).map(callbacks::common).unwrap_or_default()
    }

    /// Tells an `action` URL how something ended for a call that goes on elsewhere; what it answers
    /// is not heard.
    pub(super) fn inform(&self, action: &Source) {
        if let Source::Fetched(fetch) = action {
            let mut params = self.common();
            params.extend_from_slice(&fetch.params);
            let (core, token) = (self.core.clone(), self.account.auth_token.clone());
            self.core.spawn(callbacks::tell(core, token, fetch.url.clone(), params));
        }
    }
}
