//! `[labels]`: environment variables that label sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use observer_core::label::LabelVariable;
use observer_core::limits::LABELS_MAX;
use toml::Spanned;

use super::fault::{ConfigFault, Findings, variable};
use crate::text::bytes::quoted;

/// Characters of a label's name.
const LABEL_NAME_MAX: usize = 64;

/// The variable of each label.
pub type LabelsSection = BTreeMap<Spanned<String>, Spanned<String>>;

/// Checks the section. Labels are in the order of their names. Faults are added to `found`.
pub fn check(section: LabelsSection, found: &mut Findings) -> Vec<LabelVariable> {
    if let Some((name, _)) = section.iter().nth(LABELS_MAX) {
        let message = format!("there are more than {LABELS_MAX} labels: leave out those that nobody needs");
        found.faults.push(ConfigFault { span: Some(name.span()), message });
    }
    section.into_iter().filter_map(|(name, of)| found.take(label(&name, of))).collect()
}

fn label(name: &Spanned<String>, of: Spanned<String>) -> Result<LabelVariable, ConfigFault> {
    let text = name.get_ref();
    let is_plain =
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if text.is_empty() || text.len() > LABEL_NAME_MAX || !is_plain {
        let message = format!(
            "the name of a label has 1 to {LABEL_NAME_MAX} of a to z, 0 to 9 and _, found {}: write for instance \
             agent_session",
            quoted(text)
        );
        return Err(ConfigFault { span: Some(name.span()), message });
    }
    let variable = variable("[labels]", "CLAUDE_CODE_SESSION_ID", of)?.into_bytes();
    Ok(LabelVariable { name: Arc::from(text.as_str()), variable })
}
