//! The file `instance` of the state directory: an id that is made once, and how often the journal was opened. A journal
//! whose own count differs is an older copy that was put back.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::text::bytes::to_line;

/// The next step in errors about the state directory.
pub const NEXT: &str = "choose another directory with --state-dir";

/// The content of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DirectoryIdentity {
    /// A random UUID.
    pub id: String,
    /// How often the journal was opened; `None`: the file does not exist yet.
    pub opens: Option<u64>,
}

impl DirectoryIdentity {
    /// Reads the identity of `dir`; makes a new one where there is none, or where the file cannot be understood.
    pub fn load(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("instance");
        let new = Self { id: uuid::Uuid::new_v4().to_string(), opens: None };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(new),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot read {}; give the daemon's user the right, or {NEXT}", path.display())
                });
            }
        };
        let read = serde_json::from_slice::<Self>(&text).ok();
        let read = read.filter(|instance| uuid::Uuid::parse_str(&instance.id).is_ok());
        if read.is_none() {
            let path = to_line(path.as_os_str().as_encoded_bytes());
            warn!(
                part = "journal",
                path = &*path,
                "{path} cannot be understood; this state directory gets a new identity"
            );
        }
        Ok(read.unwrap_or(new))
    }

    /// The same identity, with this number of opens.
    pub fn with_opens(&self, opens: u64) -> Self {
        Self { id: self.id.clone(), opens: Some(opens) }
    }

    /// Writes the identity durably, whole or not at all.
    pub fn store(&self, dir: &Path) -> anyhow::Result<()> {
        let (path, new) = (dir.join("instance"), dir.join("instance.new"));
        let text = serde_json::to_vec(self).unwrap_or_default();
        let write = || -> std::io::Result<()> {
            let mut options = File::options();
            options.create(true).truncate(true).write(true).mode(0o640).custom_flags(libc::O_NOFOLLOW);
            let mut file = options.open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(dir)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}; free disk space there, or {NEXT}", path.display()))
    }
}
