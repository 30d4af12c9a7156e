//! `[metrics]`: where metrics are served.

use serde::Deserialize;
use toml::Spanned;

use super::fault::ConfigFault;
use crate::socket::metrics_address::MetricsAddress;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsSection {
    listen: Option<Spanned<String>>,
}

impl MetricsSection {
    /// The address; `None`: no metrics are served.
    pub(super) fn check(self) -> Result<Option<MetricsAddress>, ConfigFault> {
        let Some(listen) = self.listen else { return Ok(None) };
        let span = Some(listen.span());
        MetricsAddress::parse(listen.get_ref()).map(Some).map_err(|message| ConfigFault { span, message })
    }
}
