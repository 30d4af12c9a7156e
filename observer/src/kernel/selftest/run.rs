//! Runs the self-test.

use anyhow::{Error, Result, ensure};

use super::records::{self, CHILD_MARK, RingRecords};
use super::rows;
use crate::kernel::limit_reached;
use crate::kernel::look::Look;
use crate::kernel::programs::Kernel;

const REFUSAL: &str = "observer's self-test failed: what the kernel programs read differs from what the system calls \
                       return, so nothing they read on this kernel can be trusted; please report this with `uname -r`";

/// Runs all of it. Drains the ring of `kernel`, which loses nothing before the first snapshot.
pub fn run(kernel: &mut Kernel) -> Result<()> {
    check_mark()?;
    let records = RingRecords::new(kernel);
    let children = rows::check(&|| records.snapshot()).map_err(refusal)?;
    records::check(&records, &children).map_err(refusal)
}

/// Runs the iterator's part of it.
pub fn run_rows(look: &Look) -> Result<()> {
    check_mark()?;
    rows::check(&|| look.snapshot()).map(drop).map_err(refusal)
}

/// Describes why the self-test failed. A limit says nothing of the programs.
fn refusal(error: Error) -> Error {
    if limit_reached::is_cause(error.as_ref()) {
        return error.context("observer's self-test could not be made");
    }
    error.context(REFUSAL)
}

/// Fails in the child that the self-test starts, which must not run another self-test.
fn check_mark() -> Result<()> {
    ensure!(
        std::env::var_os(CHILD_MARK).is_none(),
        "the self-test's child does not run observer: unset {CHILD_MARK}"
    );
    Ok(())
}
