//! Puts the kernel programs where `include_bytes_aligned!` finds them: `$OUT_DIR/observer.bpf.o`.
//!
//! They are built by `cargo xtask build`, since they need another compiler. Without them the file is empty, and the
//! program says so when it is asked to load them: `cargo build` and `cargo test` work on any machine.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Names the object instead of the workspace's own; it must exist.
const OBJECT: &str = "OBSERVER_BPF_OBJECT";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OBJECT}");
    let out = directory("OUT_DIR")?.join("observer.bpf.o");

    if let Some(object) = env::var_os(OBJECT).filter(|value| !value.is_empty()).map(PathBuf::from) {
        println!("cargo::rerun-if-changed={}", object.display());
        return match fs::copy(&object, &out) {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::other(format!(
                "{OBJECT}={}: {error}; run cargo xtask build and unset it, or name an object that exists",
                object.display()
            ))),
        };
    }

    let object = directory("CARGO_MANIFEST_DIR")?.join("../target/bpf/observer.bpf.o");
    match fs::copy(&object, &out) {
        Ok(_) => {
            println!("cargo::rerun-if-changed={}", object.display());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            watch_for(&object);
            fs::write(&out, [])
        }
        Err(error) => Err(error),
    }
}

/// Has cargo run this script again when `object` appears, and not before: cargo takes a missing file for
/// changed at every build, a directory for changed when something appears in it.
fn watch_for(object: &Path) {
    let watched = match object.parent() {
        Some(directory) if fs::create_dir_all(directory).is_ok() => directory,
        _ => object,
    };
    println!("cargo::rerun-if-changed={}", watched.display());
}

fn directory(variable: &str) -> io::Result<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other(format!("{variable} is not set: build with cargo")))
}
