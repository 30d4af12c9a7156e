//! Which history a command shows: that of a journal, or what hosts mirrored to a database.

use clap::Args;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use super::database::DatabaseFlags;
use super::exit::{Exit, Failure};
use super::places::PlaceFlags;
use crate::clock;
use crate::config::span;

/// Flags of commands that show history.
#[derive(Args)]
pub struct PastFlags {
    /// Earlier than this; until now if it is left out
    #[arg(long, value_name = "WHEN", value_parser = when)]
    pub until: Option<i64>,
    #[command(flatten)]
    pub places: PlaceFlags,
    /// Instead of the journal: what all hosts mirrored to this database
    #[command(flatten)]
    pub database: DatabaseFlags,
    /// Of the mirror only this host, by its name or host_id
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
}

/// Where history is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastSource {
    /// A journal of this machine.
    Journal,
    /// The database that the flags name.
    Mirror,
}

impl PastFlags {
    /// Where the flags say that history is read; flags that contradict each other are wrong usage.
    pub fn source(&self) -> anyhow::Result<PastSource> {
        let usage = |message: &str| Err(Failure { exit: Exit::Usage, message: message.into() }.into());
        match (self.database.url()?.is_some(), self.places.are_given()) {
            (true, true) => usage("a journal and a database cannot both be read: leave one out"),
            (true, false) => Ok(PastSource::Mirror),
            (false, _) if self.host.is_some() => {
                usage("--host is of the mirror: name its database, with --database-url-file FILE")
            }
            (false, _) => Ok(PastSource::Journal),
        }
    }
}

/// A time, ns since 1970. A date stands for its first moment in this machine's time zone.
pub fn when(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let now = clock::realtime_ns();
    let ago = || span(text).map(|span| now - span.as_nanos().cast_signed());
    let moment = || text.parse::<Timestamp>().ok().map(Timestamp::as_nanosecond);
    let local = || {
        let time = text.parse::<DateTime>().ok().or_else(|| text.parse::<Date>().ok().map(DateTime::from))?;
        time.to_zoned(TimeZone::system()).ok().map(|time| time.timestamp().as_nanosecond())
    };
    ago().or_else(moment).or_else(local).and_then(|ns| i64::try_from(ns).ok()).ok_or_else(|| {
        "it is no moment: write for instance 24h, 2026-11-21 or 2026-11-21T08:00:00Z".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T08:00:00Z.
    const BASE_NS: i64 = 1_795_248_000_000_000_000;

    #[test]
    fn times_are_spans_dates_and_rfc_3339() {
        for (text, seconds) in [("90s", 90), (" 24h ", 86_400), ("7d", 604_800), ("1h 30m", 5_400)] {
            let before = clock::realtime_ns();
            let at = i128::from(when(text).unwrap());
            let ago = before - at..=clock::realtime_ns() - at;
            assert!(ago.contains(&(seconds * 1_000_000_000)), "{text}: {ago:?}");
        }
        assert_eq!(when("2026-11-21T08:00:00Z"), Ok(BASE_NS));
        assert_eq!(when("2026-11-21T09:00:00+01:00"), Ok(BASE_NS));
        let midnight = "2026-11-21".parse::<Date>().unwrap().to_zoned(TimeZone::system()).unwrap();
        let midnight = i64::try_from(midnight.timestamp().as_nanosecond()).unwrap();
        assert_eq!(when("2026-11-21"), Ok(midnight));
        assert_eq!(when("2026-11-21T01:00"), Ok(midnight + 3_600_000_000_000));
        for wrong in ["", "yesterday", "-1h", "2026-13-01", "999999999d", "24"] {
            let error = when(wrong).unwrap_err();
            assert!(error.contains("write for instance"), "{wrong}: {error}");
        }
    }
}
