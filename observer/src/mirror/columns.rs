//! The parameters of the statements that write a batch and rows of the state, from one list.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::delivery::{BatchStatement, FencingToken};
use super::items::{BatchItem, SessionRow};

/// Defines the parameters of the statement: the struct with their values, and the list of their names and types in order.
macro_rules! parameters {
    ($($name:ident: $value:ty => $kind:literal,)*) => {
        /// Values of the statement's parameters.
        pub struct Parameters<'a> {
            $($name: $value,)*
        }

        /// Name and type of each parameter, in order.
        const PARAMETERS: &[(&str, &str)] = &[$((stringify!($name), $kind),)*];

        impl Parameters<'_> {
            /// The values in order.
            pub fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
                vec![$(&self.$name,)*]
            }
        }
    };
}

parameters! {
    host_no: i32 => "integer",
    generation: i64 => "bigint",
    certain: Option<bool> => "boolean",
    caught_up: bool => "boolean",
    stream_id: Uuid => "uuid",
    after: i64 => "bigint",
    last_seq: i64 => "bigint",
    seq: Vec<i64> => "bigint[]",
    at: Vec<Timestamp> => "timestamptz[]",
    boot_id: Vec<Option<Uuid>> => "uuid[]",
    kind: Vec<&'a str> => "text[]",
    home_id: Vec<Option<&'a [u8]>> => "bytea[]",
    home: Vec<Option<&'a str>> => "text[]",
    name: Vec<Option<&'a str>> => "text[]",
    pid: Vec<Option<i32>> => "integer[]",
    start_boottime_ns: Vec<Option<i64>> => "bigint[]",
    detail: Vec<&'a str> => "text[]",
    row_homes: Vec<&'a [u8]> => "bytea[]",
    row_bodies: Vec<Option<&'a str>> => "text[]",
    row_deaths: Vec<Option<&'a str>> => "text[]",
    rows_are_last: Vec<bool> => "boolean[]",
    doubtful: Vec<&'a [u8]> => "bytea[]",
}

/// Columns of an event, each of which is a parameter of the same name with one value an entry.
pub const EVENT_COLUMNS: [&str; 10] =
    ["seq", "at", "boot_id", "kind", "home_id", "home", "name", "pid", "start_boottime_ns", "detail"];

/// The parameter of this name, as the statement's text refers to it: `$3::boolean`.
pub fn parameter(name: &str) -> String {
    let place = PARAMETERS.iter().position(|(known, _)| *known == name);
    let kind = place.and_then(|at| PARAMETERS.get(at)).map_or("", |(_, kind)| kind);
    // Postgres has no `$0`: an unknown name is an error of the statement.
    format!("${}::{kind}", place.map_or(0, |at| at + 1))
}

/// All parameters in their order, as a statement's text refers to them.
pub fn all_parameters() -> String {
    PARAMETERS.iter().map(|(name, _)| parameter(name)).collect::<Vec<_>>().join(", ")
}

impl<'a> Parameters<'a> {
    /// The values for `statement`.
    pub fn new(token: FencingToken, statement: &'a BatchStatement) -> Self {
        let items = statement.items();
        let rows = StateColumns::new(items.iter().filter_map(|item| item.row.as_ref()));
        fn column<'a, T>(items: &'a [BatchItem], of: impl Fn(&'a BatchItem) -> T) -> Vec<T> {
            items.iter().map(of).collect()
        }
        Self {
            host_no: token.host_no,
            generation: token.generation,
            certain: items.iter().rev().find_map(|item| item.certain),
            caught_up: statement.caught_up,
            stream_id: statement.stream_id,
            after: statement.after.cast_signed(),
            last_seq: statement.last_seq().cast_signed(),
            seq: column(items, |item| item.seq.cast_signed()),
            at: column(items, |item| item.at),
            boot_id: column(items, |item| item.boot_id),
            kind: column(items, |item| item.kind.as_str()),
            home_id: column(items, |item| item.home_id.as_deref()),
            home: column(items, |item| item.home.as_deref()),
            name: column(items, |item| item.name.as_deref()),
            pid: column(items, |item| item.pid),
            start_boottime_ns: column(items, |item| item.start_boottime_ns),
            detail: column(items, |item| item.detail.as_str()),
            row_homes: rows.homes,
            row_bodies: rows.bodies,
            row_deaths: rows.deaths,
            rows_are_last: rows.are_last,
            doubtful: statement.doubtful.iter().map(Vec::as_slice).collect(),
        }
    }
}

/// Columns of rows of the state: one row a home, with the last of its values.
#[derive(Default)]
pub struct StateColumns<'a> {
    /// Keys of the homes.
    pub homes: Vec<&'a [u8]>,
    /// Rows as JSON; `None`: the row stays as it is.
    pub bodies: Vec<Option<&'a str>>,
    /// Deaths as JSON.
    pub deaths: Vec<Option<&'a str>>,
    /// Whether the death is the home's last, whatever the clocks say.
    pub are_last: Vec<bool>,
}

impl<'a> StateColumns<'a> {
    /// The columns of `rows`, which come in their order.
    pub fn new(rows: impl Iterator<Item = &'a SessionRow>) -> Self {
        let mut columns = Self::default();
        let mut place_by_home = HashMap::new();
        for row in rows {
            let place = *place_by_home.entry(row.home_id.as_slice()).or_insert_with(|| {
                columns.homes.push(&row.home_id);
                columns.bodies.push(None);
                columns.deaths.push(None);
                columns.are_last.push(false);
                columns.homes.len() - 1
            });
            if let (Some(column), Some(body)) = (columns.bodies.get_mut(place), row.body.as_deref()) {
                *column = Some(body);
            }
            if let (Some(column), Some(is_last), Some(death)) =
                (columns.deaths.get_mut(place), columns.are_last.get_mut(place), row.death.as_deref())
            {
                (*column, *is_last) = (Some(death), row.is_last);
            }
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_has_one_row_a_batch_its_last_and_the_last_death() {
        let row = |home: &[u8], body: Option<&str>, death: Option<&str>| SessionRow {
            home_id: home.into(),
            is_ended: false,
            body: body.map(Into::into),
            death: death.map(Into::into),
            is_last: true,
        };
        let rows = [
            row(b"a", Some("1"), None),
            row(b"b", Some("2"), None),
            row(b"a", Some("3"), Some("d")),
            row(b"a", Some("4"), None),
            row(b"c", None, Some("e")),
        ];
        let columns = StateColumns::new(rows.iter());
        assert_eq!(columns.homes, [b"a", b"b", b"c"]);
        assert_eq!(columns.bodies, [Some("4"), Some("2"), None]);
        assert_eq!(columns.deaths, [Some("d"), None, Some("e")]);
    }

    #[test]
    fn the_statement_refers_to_each_parameter_and_to_no_other() {
        for text in [crate::mirror::tables::batch(), crate::mirror::sql::deliver()] {
            for (at, (name, kind)) in PARAMETERS.iter().enumerate() {
                assert!(text.contains(&format!("${}::{kind}", at + 1)), "{name}");
            }
            assert!(!text.contains("$0"), "{text}");
            assert!(!text.contains(&format!("${}", PARAMETERS.len() + 1)), "{text}");
        }
    }

    #[test]
    fn the_function_takes_the_parameters_in_their_order() {
        let script = crate::mirror::schema::last_with_functions();
        let (_, declared) = script.split_once("CREATE OR REPLACE FUNCTION observer.deliver(").unwrap();
        let (declared, _) = declared.split_once(", OUT hosts").unwrap();
        let kinds: Vec<_> = declared.split(',').map(|one| one.trim().split_once(' ').unwrap().1).collect();
        assert_eq!(kinds, PARAMETERS.iter().map(|(_, kind)| *kind).collect::<Vec<_>>());
    }
}
