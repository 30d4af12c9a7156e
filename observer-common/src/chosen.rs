//! Which processes the task iterator shows, as a map of bits that the daemon sets before it reads. All tgids with the same
//! low bits share one bit, so a pass may show more processes than were chosen, and never fewer.

/// Words of the map, of 64 bits each.
pub const CHOSEN_WORDS: u32 = 256;

/// Returns the index of the word, and the bit in it, that choose a tgid.
pub const fn place(tgid: u32) -> (u32, u64) {
    (tgid / u64::BITS % CHOSEN_WORDS, 1 << (tgid % u64::BITS))
}
