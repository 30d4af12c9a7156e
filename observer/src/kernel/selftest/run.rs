//! Runs the self-test.

use anyhow::{Context as _, Result, ensure};

use super::records::{self, CHILD_MARK, RingRecords};
use super::rows;
use crate::kernel::look::Look;
use crate::kernel::programs::Kernel;

const REFUSAL: &str = "observer's self-test failed: what the kernel programs read differs from what the system calls \
                       return, so nothing they read on this kernel can be trusted; please report this with `uname -r`";

/// Runs all of it. Drains the ring of `kernel`, which loses nothing before the first snapshot.
pub fn run(kernel: &mut Kernel) -> Result<()> {
    check_mark()?;
    let records = RingRecords::new(kernel);
    let children = rows::check(&|| records.snapshot()).context(REFUSAL)?;
    records::check(&records, &children).context(REFUSAL)
}

/// Runs the iterator's part of it.
pub fn run_rows(look: &Look) -> Result<()> {
    check_mark()?;
    rows::check(&|| look.snapshot()).map(drop).context(REFUSAL)
}

/// Fails in the child that the self-test starts, which must not run another self-test.
fn check_mark() -> Result<()> {
    ensure!(
        std::env::var_os(CHILD_MARK).is_none(),
        "the self-test's child does not run observer: unset {CHILD_MARK}"
    );
    Ok(())
}
