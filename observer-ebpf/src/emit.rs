//! The only way to the ring: timestamp, reserve, submit, wake or not. Drops are counted here and nowhere else.

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_ringbuf_query};
use observer_common::control;
use observer_common::record::{HINT_BIT_THROTTLED, Header};

use crate::maps::{CONTROL, RING, WATCHED};
use crate::task::{Access, Task, offset};

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// How a record is treated when the ring fills up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Births, execs, deaths: reserved as long as there is room.
    Vital,
    /// All else: above half full the field is marked for a re-read instead.
    Throttled,
}

/// Boot time, ns: to be called before the fields of a record are read.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The header of a record of `leader`'s group.
#[inline(always)]
pub fn header<A: Access>(kind: u32, boottime_ns: u64, leader: Task<A>, tid: u32, len: usize) -> Header {
    Header {
        kind,
        len: len as u32,
        boottime_ns,
        start_boottime_ns: leader.start_boottime(),
        tgid: leader.tgid(),
        tid,
    }
}

/// Sends a record of fixed size. `urgent`: it concerns a terminal.
#[inline(always)]
pub fn fixed<T: 'static>(kind: u32, class: Class, tgid: u32, urgent: bool, record: T) {
    if class == Class::Throttled && throttle(kind) {
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

/// Sends `len` bytes that begin at `record`: the body of a scratch and as much of its tail as is filled.
///
/// `len` must be bounded in a way that the verifier can see.
#[inline(always)]
pub fn variable(kind: u32, class: Class, tgid: u32, urgent: bool, record: *const u8, len: u64) {
    if class == Class::Throttled && throttle(kind) {
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

/// Above half full: counts, marks for a re-read, and says that the record is not to be reserved.
#[inline(always)]
fn throttle(kind: u32) -> bool {
    // SAFETY: the ring is a ring buffer map.
    let used = unsafe { bpf_ringbuf_query((&raw const RING).cast_mut().cast(), BPF_RB_AVAIL_DATA) };
    if used <= u64::from(offset!(ring_bytes)) / 2 {
        return false;
    }
    count(control::THROTTLED + kind);
    set_word(control::HINTS + HINT_BIT_THROTTLED, 1);
    true
}

/// Wake-ups are what costs: one for the first record after idle and for what concerns a session or a terminal,
/// none while the reader drains.
///
/// Decided after the record is committed, which is a full barrier: a reader that announces its sleep and then finds
/// the ring empty cannot miss it. The wake-up rides on a record that is discarded.
#[inline(always)]
fn wake(tgid: u32, urgent: bool) {
    let urgent = urgent || watched(tgid);
    if urgent {
        set_word(control::URGENT, 1);
    }
    let state = word(control::READER_STATE);
    if state == control::READER_IDLE || (state == control::READER_LINGERING && urgent) {
        // Two CPUs may both get here: one wake-up too many.
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
        // SAFETY: a pointer into a map value; the other side writes whole words.
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
