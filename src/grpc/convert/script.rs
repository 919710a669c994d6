//! What callees hear.

use super::{non_empty, required};
use crate::domain::Violation;
use crate::domain::script::Script;
use crate::grpc::pb;
use crate::grpc::pb::script::Kind;

/// A script from the wire; the field is `script` under whatever holds it.
pub(in crate::grpc) fn read(script: Option<pb::Script>) -> Result<Script, Violation> {
    let script = required("script", script)?;
    Ok(match required("script.kind", script.kind)? {
        Kind::Say(say) => {
            Script::Say { text: say.text, voice: non_empty(say.voice), language: non_empty(say.language) }
        }
        Kind::Play(play) => Script::Play { url: play.url },
        Kind::Stream(stream) => {
            // In order of name, because maps have none of their own.
            let mut parameters: Vec<_> = stream.parameters.into_iter().collect();
            parameters.sort();
            Script::Stream { url: stream.url, parameters }
        }
        Kind::FetchTwiml(fetch) => {
            Script::FetchTwiml { url: fetch.url, fallback_url: non_empty(fetch.fallback_url) }
        }
    })
}

/// A script for the wire.
pub(in crate::grpc) fn write(script: Script) -> pb::Script {
    let kind = match script {
        Script::Say { text, voice, language } => Kind::Say(pb::script::Say {
            text,
            voice: voice.unwrap_or_default(),
            language: language.unwrap_or_default(),
        }),
        Script::Play { url } => Kind::Play(pb::script::Play { url }),
        Script::Stream { url, parameters } => {
            Kind::Stream(pb::script::Stream { url, parameters: parameters.into_iter().collect() })
        }
        Script::FetchTwiml { url, fallback_url } => {
            Kind::FetchTwiml(pb::script::FetchTwiml { url, fallback_url: fallback_url.unwrap_or_default() })
        }
    };
    pb::Script { kind: Some(kind) }
}
