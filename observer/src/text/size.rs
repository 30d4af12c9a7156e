//! Sizes of memory for people.

/// `2.5 GB`, `340 MB`, `12 kB`, `0 B`: decimal units, with a fraction below 10.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    // What is rounded up to the next unit is shown in that.
    let unit = UNITS.into_iter().find(|&(unit, _)| bytes >= unit - unit / 2_000);
    let Some((unit, name)) = unit else { return format!("{bytes} B") };
    let tenths = bytes / (unit / 10) + u64::from(bytes % (unit / 10) >= unit / 20);
    match tenths {
        0..100 => format!("{}.{} {name}", tenths / 10, tenths % 10),
        _ => format!("{} {name}", bytes / unit + u64::from(bytes % unit >= unit / 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn a_size_has_two_or_three_digits() {
        let shown = [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_951, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (340_400_000, "340 MB"),
            (2_549_000_000, "2.5 GB"),
            (13_000_000_000, "13 GB"),
            (u64::MAX, "18446744 TB"),
        ];
        for (bytes, expected) in shown {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }
}
