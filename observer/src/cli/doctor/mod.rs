//! `observer doctor`

mod report;
mod service;
mod unit;

use std::path::{Path, PathBuf};

use clap::Args;
use uuid::Uuid;

use super::database::DatabaseFlags;
use super::exit::Exit;
use super::flags::BtfFlag;
use super::hooks::HooksFlag;
use super::places::PlaceFlags;
use super::term;
use crate::api::check::{Check, Verdict};
use crate::config::Config;
use crate::mirror::target::DatabaseUrl;
use crate::text::bytes::to_line;
use crate::text::style::{BAD, GOOD, NOTICE};
use crate::{boot, journal, kernel, mirror};

/// Where systemd puts what it hands to the service; only root can look.
const CREDENTIALS: &str = "/run/credentials/observer.service";

const EXIT_CODES: &str = "\
Exit codes:
  0  no problem; there may be warnings
  1  a problem: each says what to do";

/// Tries the real programs and the way to the database, with the rights of whoever runs it: run it as root. It changes nothing.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct DoctorArgs {
    /// JSON: an array of checks (docs/json.md)
    #[arg(long)]
    json: bool,
    /// Also write what a bug report needs into a text file, without secrets; without a name, observer-report.txt here
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "observer-report.txt")]
    report: Option<PathBuf>,
    #[command(flatten)]
    places: PlaceFlags,
    #[command(flatten)]
    database: DatabaseFlags,
    #[command(flatten)]
    btf: BtfFlag,
    /// Where to take facts from that more than one hook can tell
    #[arg(long, value_enum, default_value_t)]
    hooks: HooksFlag,
}

impl DoctorArgs {
    /// 0, or 1 where a check fails.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let given = self.places.config().map(Path::to_path_buf);
        let file = given.or_else(|| service::config_in_use(socket)).or_else(unit::config);
        let (config, mut checks) = service::configuration(file.as_deref());
        checks.extend(kernel::doctor(self.btf.btf.as_deref(), self.hooks.into()));
        checks.extend(service::daemon(socket));
        checks.extend(service::memory());
        checks.extend(self.journal(socket, &config));
        checks.extend(self.mirror(&config)?);
        if let Some(path) = &self.report {
            report::write(path, &checks, file.as_deref(), socket)?;
        }
        if self.json {
            term::print_json(&checks.iter().map(Check::json).collect::<Vec<_>>())?;
        } else {
            term::print_lines(checks.iter().map(line))?;
        }
        if let Some(path) = &self.report {
            let path = to_line(path.as_os_str().as_encoded_bytes()).into_owned();
            anstream::eprintln!("observer: the report is in {path}; read it before you pass it on");
        }
        let fails = checks.iter().any(|check| check.verdict == Verdict::Fails);
        Ok(if fails { Exit::None } else { Exit::Found })
    }

    /// The disk of the journal that the daemon has, or would have.
    fn journal(&self, socket: &Path, config: &Config) -> Vec<Check> {
        let of_daemon = service::answers(socket) && !self.places.are_given();
        let found = match of_daemon {
            true => self.places.journal(socket),
            false => Ok(self.places.named_journal(config)),
        };
        match found {
            Ok(found) => {
                let max_bytes = config.journal.max_bytes.unwrap_or(journal::MAX_BYTES_DEFAULT);
                journal::doctor::doctor(&found.path, max_bytes)
            }
            Err(error) => vec![Check::new("journal", Verdict::Limited, format!("{error:#}"))],
        }
    }

    /// The way to the database, if there is to be one: that of the flags, of the configuration, or of the service.
    fn mirror(&self, config: &Config) -> anyhow::Result<Vec<Check>> {
        let database = self.database.url()?.or_else(|| config.mirror.database.clone());
        let Some(database) = database.or_else(|| DatabaseUrl::from_credentials(Some(Path::new(CREDENTIALS))))
        else {
            return Ok(vec![Check::new(
                "mirror",
                Verdict::Fine,
                "no database is named, so nothing is mirrored",
            )]);
        };
        let host_id: Option<Uuid> = boot::host_id().ok();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let mut checks = match runtime {
            Ok(runtime) => runtime.block_on(mirror::doctor::doctor(&database, host_id)),
            Err(error) => vec![Check::of("mirror", Err(error.into()))],
        };
        if database.target().is_ok_and(|target| target.is_remote()) {
            checks.extend(unit::addresses());
        }
        Ok(checks)
    }
}

fn line(check: &Check) -> String {
    let style = match check.verdict {
        Verdict::Fine => GOOD,
        Verdict::Limited => NOTICE,
        Verdict::Fails => BAD,
    };
    let (level, name, detail) = check.plain();
    format!("{style}{level:<7}{style:#}  {name}: {detail}")
}
