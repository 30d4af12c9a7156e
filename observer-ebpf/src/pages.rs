//! Reads how much memory a `struct mm_struct` has.

use observer_common::offsets::ABSENT;

use crate::access::{Access, offset};

/// The most pages that a `struct mm_struct` had at a time (`get_mm_hiwater_rss`, include/linux/mm.h): `hiwater_rss`, which is
/// written when pages are given back, or `resident`, what it has now. 0 where the counters are not known.
#[inline(always)]
pub fn peak_pages<A: Access>(mm: u64, resident: u64) -> u64 {
    if offset!(mm_rss_stat) == ABSENT {
        return 0;
    }
    let highest = A::u64(mm, offset!(mm_hiwater_rss));
    if highest > resident { highest } else { resident }
}

/// The pages that a `struct mm_struct` has (`get_mm_rss`, include/linux/mm.h). What single CPUs or threads have not added to its
/// counters is missing, as it is in what the kernel reports at the end. 0 where the counters are not known.
#[inline(always)]
pub fn resident_pages<A: Access>(mm: u64) -> u64 {
    if offset!(mm_rss_stat) == ABSENT {
        return 0;
    }
    // MM_FILEPAGES, MM_ANONPAGES and MM_SHMEMPAGES, include/linux/mm_types_task.h.
    counted::<A>(mm, 0).wrapping_add(counted::<A>(mm, 1)).wrapping_add(counted::<A>(mm, 3))
}

/// A counter of `mm_struct::rss_stat`; 0 while it is below zero.
#[inline(always)]
fn counted<A: Access>(mm: u64, index: u32) -> u64 {
    let pages = A::u64(mm, offset!(mm_rss_stat) + index * offset!(mm_rss_stride));
    if pages.cast_signed() < 0 { 0 } else { pages }
}
