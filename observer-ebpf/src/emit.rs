//! The only writer of the ring: takes the timestamp, reserves, submits, and decides whether to wake the reader. Drops are
//! counted here and nowhere else.

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_ringbuf_query};
use observer_common::control;
use observer_common::record::{HINT_BIT_THROTTLED, KIND_CWD, RecordHeader};

use crate::access::{Access, offset};
use crate::maps::{CONTROL, RING, WATCHED};
use crate::task::Task;

// Flags of the ring buffer's helpers, include/uapi/linux/bpf.h.
const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// How a record is treated while the ring fills up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Births, execs (with their directory where others' are left out), deaths and signals are reserved as long as there is room. Where it is scarce, `hooks::signal` sends
    /// SIGKILL alone.
    Vital,
    /// Other records are not sent while the ring is more than half full; the daemon reads their fields again instead.
    Throttled,
}

/// Returns the boot time, ns. Must be called before the fields of a record are read.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Returns the header of a record about `leader`'s group.
#[inline(always)]
pub fn header<A: Access>(kind: u32, boottime_ns: u64, leader: Task<A>, tid: u32, len: usize) -> RecordHeader {
    RecordHeader {
        kind,
        len: len as u32,
        boottime_ns,
        start_boottime_ns: leader.start_boottime(),
        tgid: leader.tgid(),
        tid,
    }
}

/// Sends a record of fixed size. `urgent` records concern a terminal.
#[inline(always)]
pub fn fixed<T: 'static>(kind: u32, priority: Priority, tgid: u32, urgent: bool, record: T) {
    if priority == Priority::Throttled && throttle(kind) {
        return;
    }
    match RING.reserve::<T>(0) {
        Some(mut entry) => {
            entry.write(record);
            entry.submit(BPF_RB_NO_WAKEUP);
            wake(tgid, urgent);
        }
        None => count(control::DROPS + kind),
    }
}

/// Sends a record that makes a value more exact and that nothing depends on: not while the ring is more than half full, and the
/// reader finds it when it reads the next time.
#[inline(always)]
pub fn refinement<T: 'static>(kind: u32, record: T) {
    // What is reserved takes room until the reader has passed it, also if it is discarded.
    if !is_half_full()
        && let Some(mut entry) = RING.reserve::<T>(0)
    {
        entry.write(record);
        entry.submit(BPF_RB_NO_WAKEUP);
    } else {
        count(control::THROTTLED + kind);
    }
}

/// Sends `len` bytes that begin at `record`: the body of a scratch and the filled part of its tail. `len` must be bounded in
/// a way that the verifier can see.
#[inline(always)]
pub fn variable(kind: u32, priority: Priority, tgid: u32, urgent: bool, record: *const u8, len: u64) {
    if priority == Priority::Throttled && throttle(kind) {
        return;
    }
    // SAFETY: the verifier checks that `len` bytes from `record` lie within one map value.
    let result = unsafe {
        aya_ebpf::helpers::generated::bpf_ringbuf_output(
            (&raw const RING).cast_mut().cast(),
            record.cast_mut().cast(),
            len,
            BPF_RB_NO_WAKEUP,
        )
    };
    if result == 0 {
        wake(tgid, urgent);
    } else {
        count(control::DROPS + kind);
    }
}

/// Returns whether a record of lower priority must not be sent, because the ring is more than half full. If so, counts it and
/// asks the daemon to read the fields again.
#[inline(always)]
fn throttle(kind: u32) -> bool {
    let is_refused = is_half_full();
    if is_refused {
        leave_out(kind, now);
        set_word(control::HINTS + HINT_BIT_THROTTLED, 1);
    }
    is_refused
}

/// Counts a record that is not sent.
#[inline(always)]
pub fn leave_out(kind: u32, at: impl FnOnce() -> u64) {
    count(control::THROTTLED + kind);
    if kind == KIND_CWD {
        set_word(control::CWD_LEFT_OUT_AT, at());
    }
}

/// Returns whether more than half of the ring is in use.
#[inline(always)]
pub fn is_half_full() -> bool {
    // SAFETY: the ring is a ring buffer map.
    let used = unsafe { bpf_ringbuf_query((&raw const RING).cast_mut().cast(), BPF_RB_AVAIL_DATA) };
    used > u64::from(offset!(ring_bytes)) / 2
}

/// Wakes the reader where its state asks for it: an idle reader for any record, a lingering reader for an urgent one, a polling
/// reader never. A wake-up costs more than ten times what a record costs.
///
/// Must be called after the record is committed, which is a full barrier: a reader that announces its sleep and then finds
/// the ring empty cannot miss the record. The wake-up is carried by a record that is discarded.
#[inline(always)]
fn wake(tgid: u32, urgent: bool) {
    let urgent = urgent || watched(tgid);
    if urgent {
        set_word(control::URGENT, 1);
    }
    let state = word(control::READER_STATE);
    if state == control::READER_IDLE || (state == control::READER_LINGERING && urgent) {
        // If two CPUs get here at once, the reader is woken twice, which is harmless.
        set_word(control::READER_STATE, control::READER_POLLING);
        if let Some(entry) = RING.reserve::<u64>(0) {
            entry.discard(BPF_RB_FORCE_WAKEUP);
        }
    }
}

#[inline(always)]
fn watched(tgid: u32) -> bool {
    // SAFETY: the value is not dereferenced.
    word(control::WATCHED_COUNT) != 0 && unsafe { WATCHED.get(tgid) }.is_some()
}

/// Reads a control word.
#[inline(always)]
pub fn word(index: u32) -> u64 {
    match CONTROL.get_ptr(index) {
        // SAFETY: a pointer into a map value; the daemon writes whole words.
        Some(word) => unsafe { core::ptr::read_volatile(word) },
        None => 0,
    }
}

/// Writes a control word.
#[inline(always)]
pub fn set_word(index: u32, value: u64) {
    if let Some(word) = CONTROL.get_ptr_mut(index) {
        // SAFETY: a pointer into a map value; whole words only.
        unsafe { core::ptr::write_volatile(word, value) };
    }
}

/// Adds one to a control word.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(word) = CONTROL.get_ptr_mut(index) {
        // SAFETY: adds to an aligned word of a map value. `AtomicU64::fetch_add` does not exist on this target;
        // this is BPF_XADD, which every supported kernel has.
        unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) word, in(reg) 1_u64) };
    }
}
