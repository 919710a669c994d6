//! A callee who asks, by a key, to be called no more.

use crate::domain::opt_out::OptOut;
use crate::domain::run::RunSettings;
use crate::domain::suppression::{NewSuppression, SuppressionReason, SuppressionSource};
use crate::domain::{CallId, Phone, TenantId};
use crate::store::db::Scope;
use crate::store::db::sql::{args, statement};
use crate::store::{Error, Result, Store, suppressions};

impl Store {
    /// What the callee of `call` hears who pressed a key; if it was the opt-out's, its phone is
    /// suppressed. May be repeated.
    pub async fn opt_out(&self, tenant: &TenantId, call: CallId, pressed: bool) -> Result<OptOut> {
        statement!(
            SELECT,
            "SELECT c.phone_to, r.settings FROM call_log c
             JOIN runs r ON r.tenant_id = $1 AND r.run_id = c.run_id
             WHERE c.tenant_id = $1 AND c.call_id = $2 AND c.direction = 'outbound'"
        );
        let mut tx = self.db.begin(Scope::Tenant(tenant)).await?;
        let row = tx
            .fetch_optional(&SELECT, args![tenant, call.0])
            .await?
            .ok_or(Error::NotFound("call"))?;
        // The run may have other settings by now. What the callee was told holds.
        let opt_out = row.json::<RunSettings>("settings")?.opt_out.unwrap_or_default();
        if !pressed {
            return Ok(opt_out);
        }
        let phone = row.text("phone_to")?;
        if phone.is_empty() {
            return Err(Error::NotFound("person of the call"));
        }
        let (reason, source) = (SuppressionReason::Asked, SuppressionSource::OptOut);
        let new = NewSuppression {
            call: Some(call),
            ..NewSuppression::of(Phone::from_stored(phone), reason, source)
        };
        suppressions::add_in(&mut tx, self, tenant, &[new]).await?;
        tx.commit(&self.wakes).await?;
        tracing::info!(event = "opted_out", %tenant, call_id = %call, "a callee asked to be called no more");
        Ok(opt_out)
    }
}
