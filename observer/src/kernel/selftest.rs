//! The self-test at start: processes of our own must come through ring and iterator with every field as the system
//! calls gave it. On any mismatch observer refuses to start: a wrong offset would make every row wrong.

pub(super) mod children;
mod records;
mod rows;
mod terminals;
pub(super) mod truth;
mod values;

use std::ffi::CStr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::records::Records;
use self::values::Value;
use super::{Kernel, Look};

/// Where the child goes: three levels deep, across a mount, and there on every machine that observer runs on.
const DIRECTORY: &CStr = c"/sys/kernel/btf";
/// What the child calls itself: everything that a process name can do to a reader.
const COMM: &[u8; 16] = b"o)\n\x1b[7m\xff\xc3( x\"\0\0\0";
const DEADLINE: Duration = Duration::from_secs(5);

/// Marks the child that execs this program once more: should it ever come here, it stops.
const CHILD_MARK: &str = "OBSERVER_SELF_TEST_CHILD";

const REFUSAL: &str = "observer's self-test failed: what the kernel programs read differs from what the system calls \
                       say, so nothing they read on this kernel can be trusted; please report this with `uname -r`";

/// Runs it; `kernel`'s ring is drained, which is harmless before the first snapshot.
pub fn run(kernel: &mut Kernel) -> Result<()> {
    check_mark()?;
    let records = Records::new(kernel);
    let told = rows::check(&|| records.look()).context(REFUSAL)?;
    records::check(&records, &told).context(REFUSAL)
}

/// The iterator's half of it.
pub fn run_rows(look: &Look) -> Result<()> {
    check_mark()?;
    rows::check(&|| look.snapshot()).map(drop).context(REFUSAL)
}

fn check_mark() -> Result<()> {
    ensure!(
        std::env::var_os(CHILD_MARK).is_none(),
        "the self-test's child does not run observer: unset {CHILD_MARK}"
    );
    Ok(())
}

/// Fails where a value differs, naming it and the members that it was read through.
fn same<T: PartialEq + std::fmt::Debug>(via: &str, value: &Value, got: T, expected: T) -> Result<()> {
    ensure!(got == expected, "{via}: {value} is {got:?}, expected {expected:?} ({})", value.through());
    Ok(())
}
