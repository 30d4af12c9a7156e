//! Faults of the configuration's text, and the checks that its sections share.

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;

/// A fault in the text.
#[derive(Debug)]
pub struct ConfigFault {
    /// The bytes of the text where it is, if that is known.
    pub span: Option<Range<usize>>,
    /// What is wrong, and the next step.
    pub message: String,
}

/// Checks that the value of `field` is an absolute path.
pub fn absolute(field: &str, path: Spanned<PathBuf>) -> Result<PathBuf, ConfigFault> {
    if !path.get_ref().is_absolute() {
        let message =
            format!("{field} must be an absolute path, found {:?}: begin it with `/`", path.get_ref());
        return Err(ConfigFault { span: Some(path.span()), message });
    }
    Ok(path.into_inner())
}
