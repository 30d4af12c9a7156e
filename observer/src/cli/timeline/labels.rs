//! What rows are called: no two of them the same, as far as that is possible.

use std::collections::{BTreeMap, BTreeSet};

use super::lives::{LifeRow, RowKey};
use crate::cli::user;
use crate::text::bytes::{from_json, to_line};

/// Characters of a host's id that tell apart hosts of one name.
const ID_CHARS: usize = 8;

/// The names of rows, in their order: with that of the host where there are several, and what tells rows of one name apart.
pub(super) fn labels(rows: &[(&RowKey, &LifeRow)]) -> Vec<String> {
    let mut by_label: BTreeMap<String, Vec<&RowKey>> = BTreeMap::new();
    for (key, row) in rows {
        by_label.entry(plain(key, row)).or_default().push(key);
    }
    let differences: BTreeMap<_, _> =
        by_label.into_iter().map(|(label, keys)| (label, Differences::of(&keys))).collect();
    let label = |(key, row): &(&RowKey, &LifeRow)| {
        let label = plain(key, row);
        match differences.get(&label).map(|differences| differences.words(key)) {
            Some(words) if !words.is_empty() => format!("{label} ({words})"),
            _ => label,
        }
    };
    rows.iter().map(label).collect()
}

/// The name of a row, with that of its host where there are several.
fn plain(key: &RowKey, row: &LifeRow) -> String {
    let name = to_line(&row.name);
    match key.host.is_empty() {
        true => name.into_owned(),
        false => format!("{}/{name}", to_line(&from_json(&key.host))),
    }
}

/// In what rows of one name differ.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    host_id: bool,
    home: bool,
    user: bool,
    mnt_ns: bool,
}

impl Differences {
    fn of(keys: &[&RowKey]) -> Self {
        fn differ<T: Ord>(keys: &[&RowKey], part: impl Fn(&RowKey) -> T) -> bool {
            keys.iter().map(|key| part(key)).collect::<BTreeSet<_>>().len() > 1
        }
        Self {
            host_id: differ(keys, |key| key.host_id.clone()),
            home: differ(keys, |key| key.home.clone()),
            user: differ(keys, |key| key.uid),
            mnt_ns: differ(keys, |key| key.mnt_ns),
        }
    }

    /// What a row has of that.
    fn words(&self, key: &RowKey) -> String {
        let mut words = Vec::new();
        if self.host_id {
            words.push(key.host_id.chars().take(ID_CHARS).collect());
        }
        if self.user {
            // Another host's users are not those of this machine.
            words.push(match key.host_id.is_empty() {
                true => to_line(user::shown(key.uid).as_bytes()).into_owned(),
                false => format!("uid {}", key.uid),
            });
        }
        if self.home {
            words.push(to_line(&key.home).into_owned());
        }
        if self.mnt_ns {
            words.push(key.mnt_ns.map_or_else(|| "host".into(), |mnt_ns| format!("ns {mnt_ns}")));
        }
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(keys: &[RowKey]) -> Vec<String> {
        let row = LifeRow { name: b"alpha".to_vec(), ..LifeRow::default() };
        labels(&keys.iter().map(|key| (key, &row)).collect::<Vec<_>>())
    }

    #[test]
    fn rows_of_one_name_are_told_apart_by_what_differs() {
        let key = RowKey { home: b"/srv/alpha".to_vec(), uid: 4_294_967_290, ..RowKey::default() };
        assert_eq!(named(std::slice::from_ref(&key)), ["alpha"]);
        let of_other = RowKey { uid: 4_294_967_291, ..key.clone() };
        assert_eq!(named(&[key.clone(), of_other]), ["alpha (4294967290)", "alpha (4294967291)"]);
        let elsewhere = RowKey { home: b"/x/\x1balpha".to_vec(), ..key.clone() };
        assert_eq!(named(&[key.clone(), elsewhere]), ["alpha (/srv/alpha)", r"alpha (/x/\x1balpha)"]);
        let inside = RowKey { mnt_ns: Some(7), ..key.clone() };
        assert_eq!(named(&[key.clone(), inside]), ["alpha (host)", "alpha (ns 7)"]);
        let host = |name: &str, id: &str| RowKey { host: name.into(), host_id: id.into(), ..key.clone() };
        assert_eq!(
            named(&[host("web1", "6f9619ff-8b86"), host("web2", "a0b1c2d3-0000")]),
            ["web1/alpha", "web2/alpha"]
        );
        assert_eq!(
            named(&[host("web1", "6f9619ff-8b86"), host("web1", "a0b1c2d3-0000")]),
            ["web1/alpha (6f9619ff)", "web1/alpha (a0b1c2d3)"]
        );
        let root = RowKey { uid: 0, ..host("web1", "6f9619ff-8b86") };
        assert_eq!(
            named(&[host("web1", "6f9619ff-8b86"), root]),
            ["web1/alpha (uid 4294967290)", "web1/alpha (uid 0)"]
        );
    }
}
