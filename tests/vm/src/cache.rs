//! The directory of what is fetched.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result};

/// Where kernels are kept, instead of ~/.cache/observer-vm.
const CACHE: &str = "OBSERVER_VM_CACHE";

/// The directory, and a lock on it: of two runs that find the same thing missing, one fetches it.
pub(crate) fn locked() -> Result<(PathBuf, fs::File)> {
    let path = directory()?;
    fs::create_dir_all(&path).with_context(|| format!("create {} (or set {CACHE})", path.display()))?;
    let path = path.canonicalize().with_context(|| format!("look up {}", path.display()))?;
    let file = path.join("lock");
    let lock = fs::File::create(&file).with_context(|| format!("create {}", file.display()))?;
    if lock.try_lock().is_err() {
        eprintln!("vm: another run fetches what is missing to {}: waiting for it", path.display());
        lock.lock().with_context(|| format!("lock {}", file.display()))?;
    }
    Ok((path, lock))
}

/// Where the cache is, or will be.
pub(crate) fn directory() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(CACHE)
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("observer-vm")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/observer-vm")))
        .with_context(|| format!("no HOME to keep kernels below: set {CACHE} to a directory"))
}
