//! Labels: what a variable in the environment says of a session. Processes choose their environment, so a label is a hint.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::model::process::Bytes;

/// A variable whose value labels the sessions in which programs are executed with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelVariable {
    /// Name of the label.
    pub name: Arc<str>,
    /// Name of the environment variable.
    pub variable: Vec<u8>,
}

/// A label of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: Arc<str>,
    /// Name of the variable. Empty where a label was recorded without it.
    pub variable: Bytes,
    /// The value of the variable, at most [`LABEL_BYTES_MAX`](crate::limits::LABEL_BYTES_MAX).
    pub value: Bytes,
}
