//! Who this state directory is: an id made once, and how often its journal was opened, kept beside the journal. A
//! journal whose own count differs was put back from a copy.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

const NEXT: &str = "choose another directory with --state-dir";

/// A predecessor that is ending, or a child of it that has yet to exec, may hold the lock for a moment.
const CLAIM_WAIT: Duration = Duration::from_secs(1);

/// The file `instance`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// A random UUID.
    pub id: String,
    /// Opens of the journal so far; `None`: the file is new.
    pub opens: Option<u64>,
}

/// Makes `dir` where it is missing, and claims it for this process.
pub fn claim(dir: &Path) -> Result<File> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .with_context(|| format!("cannot make {}; {NEXT}", dir.display()))?;
    let path = dir.join("lock");
    let lock =
        File::options().create(true).truncate(false).write(true).mode(0o600).open(&path).with_context(
            || format!("cannot write in {}: give the daemon's user the right, or {NEXT}", dir.display()),
        )?;
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if began.elapsed() < CLAIM_WAIT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => return told(outcome, lock, dir),
        }
    }
}

fn told(outcome: Result<(), TryLockError>, lock: File, dir: &Path) -> Result<File> {
    match outcome {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            bail!("another observer keeps its journal in {}; stop it, or {NEXT}", dir.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}; {NEXT}", dir.join("lock").display()))
        }
    }
}

impl Instance {
    /// Reads it; a new one where there is none, or none that makes sense.
    pub fn load(dir: &Path) -> Result<Self> {
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
            eprintln!(
                "observer: warning: {} made no sense; this state directory gets a new identity",
                path.display()
            );
        }
        Ok(read.unwrap_or(new))
    }

    /// The same, opened so often.
    pub fn with_opens(&self, opens: u64) -> Self {
        Self { id: self.id.clone(), opens: Some(opens) }
    }

    /// Writes it, durably, whole or not at all.
    pub fn store(&self, dir: &Path) -> Result<()> {
        let (path, new) = (dir.join("instance"), dir.join("instance.new"));
        let text = serde_json::to_vec(self).unwrap_or_default();
        let write = || -> std::io::Result<()> {
            let mut file = File::options().create(true).truncate(true).write(true).mode(0o640).open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(dir)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}; free disk space there, or {NEXT}", path.display()))
    }
}
