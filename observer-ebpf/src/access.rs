//! The ways of reading kernel memory, and the offsets that reading goes through. What is read is in `task` and `path`.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel as probe_read_kernel;

/// Reads an offset, which is a constant to the verifier.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a static of this object; volatile, so that the compiler does not take the zero it was built with.
        unsafe { core::ptr::read_volatile(&raw const crate::maps::OFFSETS.$field) }
    };
}
pub(crate) use offset;

/// How kernel memory is read.
pub trait Access: Copy {
    /// Reads 64 bits at `base + offset`; returns 0 if they cannot be read.
    fn u64(base: u64, offset: u32) -> u64;
    /// Reads 32 bits at `base + offset`; returns 0 if they cannot be read.
    fn u32(base: u64, offset: u32) -> u32;
}

/// Plain loads through pointers whose types the verifier knows: arguments of a BTF program, and what is loaded through
/// them. A load takes a few instructions, a helper call some 30 ns. A load from a bad address returns 0. On kernels that
/// do not guarantee this (`typed_loads` is 0), reads by helper instead.
#[derive(Clone, Copy)]
pub struct Typed;

/// Reads by helper, for pointers that are plain numbers to the verifier.
#[derive(Clone, Copy)]
pub struct Probed;

/// Loads a `$size` through a typed pointer; the value is 0 if the pointer is null.
///
/// Newer verifiers mark some members as "or null" and require the test. The load is written in assembly,
/// because the compiler would combine the tests of several pointers by arithmetic, which the verifier forbids on
/// pointers, and because kernel members need not be aligned for Rust.
macro_rules! typed_load {
    ($size:literal, $base:expr, $offset:expr) => {{
        let value: u64;
        // SAFETY: the verifier accepts only loads that lie within the pointer's type; a load that faults returns 0.
        unsafe {
            core::arch::asm!(
                "{value} = 0",
                "if {at} == 0 goto +2",
                "{at} += {offset}",
                concat!("{value} = *(", $size, " *)({at} + 0)"),
                at = inout(reg) $base => _,
                offset = in(reg) u64::from($offset),
                value = out(reg) value,
                options(nostack)
            );
        }
        value
    }};
}

impl Access for Typed {
    #[inline(always)]
    fn u64(base: u64, offset: u32) -> u64 {
        // A constant to the verifier, which does not visit the other branch.
        if offset!(typed_loads) == 1 { typed_load!("u64", base, offset) } else { Probed::u64(base, offset) }
    }

    #[inline(always)]
    fn u32(base: u64, offset: u32) -> u32 {
        if offset!(typed_loads) == 1 {
            typed_load!("u32", base, offset) as u32
        } else {
            Probed::u32(base, offset)
        }
    }
}

impl Access for Probed {
    #[inline(always)]
    fn u64(base: u64, offset: u32) -> u64 {
        read(base.wrapping_add(u64::from(offset)))
    }

    #[inline(always)]
    fn u32(base: u64, offset: u32) -> u32 {
        read(base.wrapping_add(u64::from(offset)))
    }
}

/// Returns whether a pointer is null. Written so that the compiler cannot turn the test into arithmetic on the pointer,
/// which the verifier forbids.
#[inline(always)]
pub fn is_null(pointer: u64) -> bool {
    let null: u64;
    // SAFETY: compares and sets a register.
    unsafe {
        core::arch::asm!(
            "{null} = 1",
            "if {pointer} == 0 goto +1",
            "{null} = 0",
            pointer = in(reg) pointer,
            null = out(reg) null,
            options(nostack, nomem, pure)
        );
    }
    null != 0
}

/// Returns whether two pointers are equal, without arithmetic on them, as [`is_null`] does.
#[inline(always)]
pub fn is_same(one: u64, other: u64) -> bool {
    let same: u64;
    // SAFETY: compares and sets a register.
    unsafe {
        core::arch::asm!(
            "{same} = 1",
            "if {one} == {other} goto +1",
            "{same} = 0",
            one = in(reg) one,
            other = in(reg) other,
            same = out(reg) same,
            options(nostack, nomem, pure)
        );
    }
    same != 0
}

/// Reads a value at a kernel address by helper; returns zero if the read fails.
///
/// The helper's result is ignored, because the helper zeroes the target of a failed read (`bpf_probe_read_kernel_common`
/// in kernel/trace/bpf_trace.c). A branch on the result would double the verifier's states at each read, and
/// older verifiers never merge them again: the fork program reached the limit on 6.1.
#[inline(always)]
pub fn read<T: Copy + Default>(address: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address, and writes all of the value in any case. T is made of integers.
    unsafe {
        probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const _);
        value.assume_init()
    }
}

/// Reads 16 bytes at `base + offset`; each half that cannot be read is zero.
#[inline(always)]
pub fn bytes16<A: Access>(base: u64, offset: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (low, high) = bytes.split_at_mut(8);
    low.copy_from_slice(&A::u64(base, offset).to_ne_bytes());
    high.copy_from_slice(&A::u64(base, offset.wrapping_add(8)).to_ne_bytes());
    bytes
}

/// Copies `len` bytes of kernel memory from `from` to `to`; returns whether that succeeded. `len` must be bounded in a way
/// that the verifier can see.
#[inline(always)]
pub fn read_bytes(to: *mut u8, len: u64, from: u64) -> bool {
    // SAFETY: the verifier checks the target, the helper the source.
    unsafe { probe_read_kernel(to.cast(), len as u32, from as *const _) == 0 }
}
