//! Who this state directory is: an id made once, and how often its journal was opened, kept beside the journal. A
//! journal whose own count differs was put back from a copy. And who keeps a journal there, and up to when it lacks
//! nothing.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::Unusable;

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

/// The file `lock`: held while this process keeps a journal here.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// What the daemon before left there.
    pub before: Note,
    noted: Note,
}

/// The text of `lock`: what a daemon knew of its journal. Not synced: after a power loss an earlier one is as true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Up to when the journal lacks nothing, ns since 1970; 0: not known.
    pub complete_ns: i64,
    /// Number of the newest committed entry.
    pub last_seq: u64,
    /// Number of the newest entry that the mirror was known to have.
    pub delivered: u64,
    /// Of this stream.
    pub stream_id: String,
}

impl Lock {
    /// Makes `dir` where it is missing, and claims it for this process.
    pub fn claim(dir: &Path) -> Result<Self, Unusable> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .with_context(|| {
                format!("cannot make {}; give the daemon's user the right, or {NEXT}", dir.display())
            })
            .map_err(Unusable::Now)?;
        let path = dir.join("lock");
        let mut options = File::options();
        let file = options.create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
        let file = file
            .with_context(|| {
                format!("cannot write in {}: give the daemon's user the right, or {NEXT}", dir.display())
            })
            .map_err(Unusable::Now)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < CLAIM_WAIT => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    let dir = dir.display();
                    return Err(Unusable::Ever(anyhow::anyhow!(
                        "another observer keeps its journal in {dir}; stop it, or {NEXT}"
                    )));
                }
                Err(TryLockError::Error(error)) => {
                    let told = format!("cannot lock {}; {NEXT}", path.display());
                    return Err(Unusable::Now(anyhow::Error::new(error).context(told)));
                }
            }
        }
        let mut text = [0; 128];
        let read = file.read_at(&mut text, 0).unwrap_or(0);
        let text = text.get(..read).and_then(|text| std::str::from_utf8(text).ok());
        let before = text.and_then(Note::parse).unwrap_or_default();
        Ok(Self { file, before, noted: Note::default() })
    }

    /// What is known of the journal: by this daemon, or still by the one before.
    pub fn last(&self) -> &Note {
        if self.noted.stream_id.is_empty() { &self.before } else { &self.noted }
    }

    /// Leaves `note` to the next daemon.
    pub fn note(&mut self, note: Note) {
        if note != self.noted {
            // Of one length, so that nothing of another remains. Where it fails, an earlier one stands.
            let Note { complete_ns, last_seq, delivered, stream_id } = &note;
            let text = format!("{complete_ns:019} {last_seq:020} {delivered:020} {stream_id}\n");
            let _ = self.file.write_all_at(text.as_bytes(), 0);
            self.noted = note;
        }
    }
}

impl Note {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let complete_ns = words.next()?.parse().ok()?;
        let mut number = || words.next()?.parse().ok();
        let (last_seq, delivered) = (number()?, number()?);
        Some(Self { complete_ns, last_seq, delivered, stream_id: words.next()?.into() })
    }
}

impl Instance {
    /// Reads it; a new one where there is none, or none that makes sense.
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
    pub fn store(&self, dir: &Path) -> anyhow::Result<()> {
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
