//! What callees hear.

use super::{non_empty, required};
use crate::domain::Violation;
use crate::domain::opt_out::OptOut;
use crate::domain::script::Script;
use crate::grpc::pb;
use crate::grpc::pb::script::Kind;

/// A script from the wire; the field is `script` under whatever holds it.
pub(in crate::grpc) fn read(script: Option<pb::Script>) -> Result<Script, Violation> {
    let script = required("script", script)?;
    Ok(match required("script.kind", script.kind)? {
        Kind::Say(say) => Script::Say {
            text: say.text,
            voice: non_empty(say.voice),
            language: non_empty(say.language),
        },
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

/// An opt-out from the wire, with our words for what is left out.
pub(in crate::grpc) fn read_opt_out(from: pb::OptOut) -> Result<OptOut, Violation> {
    let mut keys = from.digit.chars();
    let key = match (keys.next(), keys.next()) {
        (None, _) => OptOut::default().digit,
        (Some(key), None) => key,
        (Some(_), Some(_)) => return Err(Violation::new("opt_out.digit", "must be one key")),
    };
    let ours = OptOut::on(key);
    Ok(OptOut {
        prompt: non_empty(from.prompt).unwrap_or(ours.prompt),
        confirmation: non_empty(from.confirmation).unwrap_or(ours.confirmation),
        ..ours
    })
}

/// An opt-out for the wire.
pub(in crate::grpc) fn write_opt_out(opt_out: OptOut) -> pb::OptOut {
    let OptOut { digit, prompt, confirmation } = opt_out;
    pb::OptOut { digit: digit.to_string(), prompt, confirmation }
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
        Script::FetchTwiml { url, fallback_url } => Kind::FetchTwiml(pb::script::FetchTwiml {
            url,
            fallback_url: fallback_url.unwrap_or_default(),
        }),
    };
    pb::Script { kind: Some(kind) }
}
