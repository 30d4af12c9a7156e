//! Text that is broken into lines of a given width. Widths are cells of a terminal; text has no control characters (see
//! [`super::bytes::to_line`]).

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` in lines of at most `width` cells (at least 1). Lines are broken at spaces; a word that is wider than a line is
/// broken after a comma or a slash where its second half has one, otherwise where the line ends.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for mut word in text.split(' ') {
        let gap = usize::from(!line.is_empty());
        if line.width() + gap + word.width() <= width {
            line.extend(std::iter::repeat_n(' ', gap));
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        while word.width() > width {
            let (fits, rest) = word.split_at(break_at(word, width));
            lines.push(fits.into());
            word = rest;
        }
        line.push_str(word);
    }
    if lines.is_empty() || !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// The byte at which a word that is wider than `width` is broken.
fn break_at(word: &str, width: usize) -> usize {
    let (mut used, mut end, mut after_mark) = (0, 0, 0);
    for (at, c) in word.char_indices() {
        used += c.width().unwrap_or(0);
        // A line has one character at least, however narrow it is.
        if used > width && at > 0 {
            break;
        }
        end = at + c.len_utf8();
        if matches!(c, ',' | '/') && used > width / 2 {
            after_mark = end;
        }
    }
    if after_mark > 0 { after_mark } else { end }
}

/// `label` and beside it `text`, wrapped so that no line is wider than `width`. Text begins after `indent` cells in each line;
/// the label is narrower than that.
pub fn hanging(label: &str, indent: usize, text: &str, width: usize) -> Vec<String> {
    let pieces = wrap(text, width.saturating_sub(indent).max(1));
    let beside = |(number, piece): (usize, String)| {
        let label = if number == 0 { label } else { "" };
        let missing = indent.saturating_sub(label.width());
        format!("{label}{:missing$}{piece}", "").trim_end().into()
    };
    pieces.into_iter().enumerate().map(beside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("one two three", 13), ["one two three"]);
        assert_eq!(wrap("", 7), [""]);
    }

    #[test]
    fn a_word_that_is_too_wide_is_broken_after_a_mark_or_at_the_end() {
        assert_eq!(wrap("of {rename,rmdir,mount}", 9), ["of", "{rename,", "rmdir,", "mount}"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
        assert_eq!(wrap("日本", 1), ["日", "本"], "a character wider than the line has a line");
    }

    #[test]
    fn nothing_but_spaces_is_lost_and_no_line_is_too_wide() {
        let text =
            "paths: sys_exit_{rename,renameat,renameat2}, d_move 18446744073709551615 /srv/日本/agents";
        for width in 2..100 {
            let lines = wrap(text, width);
            assert!(lines.iter().all(|line| line.width() <= width), "{width}: {lines:?}");
            assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""), "{width}");
        }
    }

    #[test]
    fn text_hangs_beside_its_label() {
        assert_eq!(hanging("map", 5, "one two three", 12), ["map  one two", "     three"]);
        assert_eq!(hanging("map", 5, "", 12), ["map"]);
    }
}
