//! Sizes that depend on those of a kernel's pages.

use observer_common::limits::is_ring_size;

/// The largest pages that a kernel can have (arm64's `CONFIG_ARM64_64K_PAGES`).
const LARGEST_PAGE_BYTES: u32 = 64 << 10;

#[test]
fn every_ring_is_of_whole_pages_of_any_size() {
    let sizes: Vec<_> = (0..u32::BITS).map(|bit| 1 << bit).filter(|bytes| is_ring_size(*bytes)).collect();
    assert!(!sizes.is_empty());
    for bytes in sizes {
        assert!(bytes.is_multiple_of(LARGEST_PAGE_BYTES), "{bytes} bytes");
    }
}
