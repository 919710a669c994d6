//! Forecasts: the store counts, the domain reckons.

use std::collections::BTreeSet;

use super::runs::{check_ranges, in_settings};
use crate::domain::{LeadId, RunId, Violation, forecast};
use crate::grpc::convert::forecast::LeftOut;
use crate::grpc::pb::forecast_run_request::Of;
use crate::grpc::service::Call;
use crate::grpc::status::{self, Refusal};
use crate::grpc::{batch, convert, pb};
use crate::store::ForecastOf;

pub(super) async fn forecast(
    call: Call,
    request: pb::ForecastRunRequest,
) -> Result<pb::ForecastRunResponse, Refusal> {
    let settings = request.settings.map(|settings| {
        // Nobody hears it.
        let script = settings.script.or_else(unheard);
        convert::run::read(Some(pb::RunSettings { script, ..settings }))
    });
    let settings = settings.transpose()?;
    settings.as_ref().map_or(Ok(()), check_ranges)?;
    let (of, named, duplicate) = match convert::required("of", request.of)? {
        Of::Leads(filter) => {
            let filter =
                convert::lead::filter(filter).map_err(|violation| violation.under("leads"))?;
            (ForecastOf::Leads(filter), None, 0)
        }
        Of::LeadIds(ids) => {
            batch::check_len("lead_ids.lead_ids", ids.lead_ids.len())?;
            let ids =
                ids.lead_ids.iter().enumerate().map(lead_id).collect::<Result<Vec<_>, _>>()?;
            let all = ids.len() as u64;
            let once: BTreeSet<LeadId> = ids.into_iter().collect();
            let named = once.len() as u64;
            (ForecastOf::Ids(once.into_iter().collect()), Some(named), all - named)
        }
        Of::RunId(run) => (ForecastOf::Run(convert::id::<RunId>("run_id", &run)?), None, 0),
    };
    let counted =
        call.store.forecast_facts(&call.tenant, of, settings).await.map_err(in_settings)?;
    // Ids that are no lead's were not counted.
    let unknown = named.map_or(0, |named| named.saturating_sub(counted.total));
    let left_out = LeftOut {
        suppressed: counted.suppressed,
        capped: counted.capped,
        invalid: counted.invalid + unknown,
        duplicate,
    };
    // Up to a second or so, which no other request should wait for.
    let reckoning = tokio::task::spawn_blocking(move || {
        let told = forecast::forecast(&counted.facts);
        convert::forecast::write(&counted.facts, left_out, &told)
    });
    Ok(reckoning.await.map_err(|error| status::internal(&error))?)
}

fn lead_id((i, text): (usize, &String)) -> Result<LeadId, Violation> {
    convert::id(&format!("lead_ids.lead_ids[{i}]"), text)
}

fn unheard() -> Option<pb::Script> {
    let say = pb::script::Say { text: "-".to_owned(), ..Default::default() };
    Some(pb::Script { kind: Some(pb::script::Kind::Say(say)) })
}
