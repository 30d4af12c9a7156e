//! One batch: everything of it, or nothing. What the database refuses is looked for by halves and left out, told by a
//! gap of its number.

use std::collections::HashMap;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::ask::{ANSWER_WAIT, answer, query_one, query_opt};
use super::rows::{Item, Moment, StateRow};
use super::sql;
use super::sqlstate::{Trouble, Verdict};

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// The host.
    pub host_no: i32,
    /// Its writer's generation.
    pub generation: i64,
}

/// Where in which stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The stream.
    pub stream_id: String,
    /// Number of the last entry that the database has.
    pub seq: i64,
}

/// Writes batches on one connection.
pub struct Writer {
    batch: Statement,
    tenure: Tenure,
    /// What the database refused on this connection.
    pub rejected: Rejected,
}

/// Entries, and rows of the state, that the database refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// How many.
    pub count: u64,
    /// Why it refused the last of them.
    pub why: Option<String>,
}

impl Rejected {
    /// One more.
    pub fn add(&mut self, why: &str) {
        self.count += 1;
        self.why = Some(why.to_owned());
    }
}

/// What of a refused entry is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// The row of the state; a gap stands for the entry.
    State,
    /// The entry; its home's row stays behind and says so.
    Entry,
    /// Neither.
    Nothing,
}

impl Writer {
    /// Prepares the statement.
    pub async fn new(client: &Client, tenure: Tenure) -> Result<Self, Trouble> {
        let batch = answer(ANSWER_WAIT, client.prepare(&sql::batch())).await?;
        Ok(Self { batch, tenure, rejected: Rejected::default() })
    }

    /// Who writes.
    pub fn tenure(&self) -> Tenure {
        self.tenure
    }

    /// Writes `items`, which follow `position`, and moves it; `caught_up`: with them the database has all.
    pub async fn write(
        &mut self,
        client: &Client,
        items: &[Item],
        position: &mut Position,
        caught_up: bool,
    ) -> Result<(), Trouble> {
        // Depth first, by hand: what fails is cut in halves, the left one goes first.
        let mut parts = vec![items];
        while let Some(part) = parts.pop() {
            let last = parts.is_empty();
            match self.attempt(client, part, &[], position, caught_up && last).await {
                Err(Trouble { verdict: Verdict::Bisect, message }) => match part {
                    [item] => self.reject(client, item, &message, position, caught_up && last).await?,
                    _ => {
                        let (left, right) = part.split_at(part.len() / 2);
                        parts.extend([right, left]);
                    }
                },
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Writes of `item` what the database takes.
    async fn reject(
        &mut self,
        client: &Client,
        item: &Item,
        why: &str,
        position: &mut Position,
        caught_up: bool,
    ) -> Result<(), Trouble> {
        let mut refused = Trouble::new(Verdict::Bisect, why);
        for left in [Left::State, Left::Entry, Left::Nothing] {
            let mut kept = if left == Left::Entry { item.clone() } else { item.rejected(why) };
            let mut doubtful = Vec::new();
            if left != Left::State {
                doubtful.extend(kept.state.take().filter(|state| state.row.is_some()));
            }
            let doubtful: Vec<_> = doubtful.iter().map(|state| state.home_id.as_slice()).collect();
            match self.attempt(client, &[kept], &doubtful, position, caught_up).await {
                Err(trouble) if trouble.verdict == Verdict::Bisect => refused = trouble,
                outcome => {
                    self.rejected.add(why);
                    return outcome;
                }
            }
        }
        // Not even a gap: it is not the data.
        let next = "look for constraints and triggers that were added to the schema observer";
        Err(Trouble::new(Verdict::Stop(next), format!("{}; {next}", refused.message)))
    }

    /// One statement.
    async fn attempt(
        &self,
        client: &Client,
        items: &[Item],
        doubtful: &[&[u8]],
        position: &mut Position,
        caught_up: bool,
    ) -> Result<(), Trouble> {
        let Some(last) = items.last() else { return Ok(()) };
        let events = Events::new(items);
        let state = State::new(items);
        let certain = items.iter().rev().find_map(|item| item.certain);
        let params: [&(dyn ToSql + Sync); 22] = [
            &self.tenure.host_no,
            &self.tenure.generation,
            &certain,
            &caught_up,
            &position.stream_id,
            &position.seq,
            &last.seq,
            &events.seqs,
            &events.ats,
            &events.boot_ids,
            &events.kinds,
            &events.home_ids,
            &events.homes,
            &events.names,
            &events.pids,
            &events.start_boottimes,
            &events.details,
            &state.home_ids,
            &state.rows,
            &state.deaths,
            &state.lasts,
            &doubtful,
        ];
        let row = query_one(client, &self.batch, &params).await?;
        let (host, cursor): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if host != 1 {
            return Err(self.superseded(client).await?);
        }
        if cursor != 1 {
            // Restored or edited under us: what it has is read again.
            return Err(Trouble::new(Verdict::Reconnect, "the database's cursor was moved by somebody else"));
        }
        position.seq = last.seq;
        Ok(())
    }

    /// Why this is no longer the host's writer.
    async fn superseded(&self, client: &Client) -> Result<Trouble, Trouble> {
        let found = query_opt(client, sql::GENERATION, &[&self.tenure.host_no]).await?;
        Ok(match found {
            None => {
                Trouble::new(Verdict::Reconnect, "the host was removed from the database (observer forget)")
            }
            Some(row) if row.try_get::<_, i64>(0)? == self.tenure.generation => {
                // The row is right and the process is not: statements are spread over several.
                super::connect::through_pooler()
            }
            Some(_) => superseded(),
        })
    }
}

/// Somebody else took over while this daemon ran.
pub fn superseded() -> Trouble {
    let next = "stop one, and give a cloned machine an id and a state directory of its own (docs/mirror.md)";
    Trouble::new(
        Verdict::Stop(next),
        format!(
            "another daemon with this host's identity writes: cloned machine-id or second daemon; {next}"
        ),
    )
}

/// Columns of entries.
#[derive(Default)]
struct Events<'a> {
    seqs: Vec<i64>,
    ats: Vec<Moment>,
    boot_ids: Vec<&'a str>,
    kinds: Vec<&'a str>,
    home_ids: Vec<Option<&'a [u8]>>,
    homes: Vec<Option<&'a str>>,
    names: Vec<Option<&'a str>>,
    pids: Vec<Option<i32>>,
    start_boottimes: Vec<Option<i64>>,
    details: Vec<&'a str>,
}

impl<'a> Events<'a> {
    fn new(items: &'a [Item]) -> Self {
        let mut columns = Self::default();
        for item in items {
            columns.seqs.push(item.seq);
            columns.ats.push(item.at);
            columns.boot_ids.push(&item.boot_id);
            columns.kinds.push(&item.kind);
            columns.home_ids.push(item.home_id.as_deref());
            columns.homes.push(item.home.as_deref());
            columns.names.push(item.name.as_deref());
            columns.pids.push(item.pid);
            columns.start_boottimes.push(item.start_boottime_ns);
            columns.details.push(&item.detail);
        }
        columns
    }
}

/// Columns of rows of the state: one a home, the last word of the batch.
#[derive(Default)]
pub struct State<'a> {
    /// Keys.
    pub home_ids: Vec<&'a [u8]>,
    /// Rows.
    pub rows: Vec<Option<&'a str>>,
    /// Deaths.
    pub deaths: Vec<Option<&'a str>>,
    /// Which of those are the homes' last, whatever the clocks say.
    pub lasts: Vec<bool>,
}

impl<'a> State<'a> {
    fn new(items: &'a [Item]) -> Self {
        Self::of(items.iter().filter_map(|item| item.state.as_ref()))
    }

    /// Of rows in their order.
    pub fn of(rows: impl Iterator<Item = &'a StateRow>) -> Self {
        let mut columns = Self::default();
        let mut index = HashMap::new();
        for row in rows {
            let at = *index.entry(row.home_id.as_slice()).or_insert_with(|| {
                columns.home_ids.push(&row.home_id);
                columns.rows.push(None);
                columns.deaths.push(None);
                columns.lasts.push(false);
                columns.home_ids.len() - 1
            });
            if let (Some(place), Some(body)) = (columns.rows.get_mut(at), row.row.as_deref()) {
                *place = Some(body);
            }
            if let (Some(place), Some(last), Some(death)) =
                (columns.deaths.get_mut(at), columns.lasts.get_mut(at), row.death.as_deref())
            {
                (*place, *last) = (Some(death), row.is_last);
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
        let row = |home: &[u8], row: Option<&str>, death: Option<&str>| StateRow {
            home_id: home.into(),
            row: row.map(Into::into),
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
        let state = State::of(rows.iter());
        assert_eq!(state.home_ids, [b"a", b"b", b"c"]);
        assert_eq!(state.rows, [Some("4"), Some("2"), None]);
        assert_eq!(state.deaths, [Some("d"), None, Some("e")]);
    }
}
