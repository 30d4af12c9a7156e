//! `observer doctor`

mod report;
mod service;
mod tried;
mod unit;

use std::path::{Path, PathBuf};

use clap::Args;
use uuid::Uuid;

use self::tried::TriedUser;
use super::database::DatabaseFlags;
use super::exit::Exit;
use super::flags::BtfFlag;
use super::hooks::HooksFlag;
use super::places::PlaceFlags;
use super::{term, user};
use crate::api::check::{Check, Verdict};
use crate::config::Config;
use crate::mirror::target::DatabaseUrl;
use crate::text::bytes::to_line;
use crate::text::style::{BAD, GOOD, NOTICE};
use crate::{boot, journal, kernel, mirror};

/// Where systemd puts what it hands to the service; only root can look.
const CREDENTIALS: &str = "/run/credentials/observer.service";

/// What is said where nothing is to be mirrored.
const NO_DATABASE: &str = "no database is named, so nothing is mirrored";

const EXIT_CODES: &str = "\
Exit codes:
  0  no problem; there may be warnings
  1  a problem: each says what to do";

/// Tries the real programs, and as the daemon's user the journal's disk and the way to the database: run it as root. It
/// changes nothing.
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
        let user = TriedUser::find(socket);
        checks.push(user.check());
        checks.extend(self.journal(socket, &config, user));
        checks.extend(self.mirror(&config, user)?);
        if self.json {
            term::print_json(&checks.iter().map(Check::json).collect::<Vec<_>>())?;
        } else {
            term::print_lines(checks.iter().map(line))?;
        }
        if let Some(path) = &self.report {
            report::write(path, &checks, file.as_deref(), socket)?;
            let path = to_line(path.as_os_str().as_encoded_bytes()).into_owned();
            anstream::eprintln!("observer: the report is in {path}; read it before you pass it on");
        }
        let fails = checks.iter().any(|check| check.verdict == Verdict::Fails);
        Ok(if fails { Exit::None } else { Exit::Found })
    }

    /// The disk of the journal that the daemon has, or would have.
    fn journal(&self, socket: &Path, config: &Config, user: TriedUser) -> Vec<Check> {
        let of_daemon = service::answers(socket) && !self.places.are_given();
        let found = match of_daemon {
            true => self.places.journal(socket),
            false => Ok(self.places.named_journal(config)),
        };
        match found {
            Ok(found) => {
                let max_bytes = config.journal.max_bytes.unwrap_or(journal::MAX_BYTES_DEFAULT);
                user.run(&|tried| {
                    let named = user::named(tried.uid);
                    let (denied, next) = match tried.uid == user.uid {
                        true if tried.is_daemons => (Verdict::Fails, "give that user the right"),
                        true => (Verdict::Limited, "give that user the right"),
                        // The daemon, whose rights count, may.
                        false => (Verdict::Limited, "run the doctor as root"),
                    };
                    journal::doctor::doctor(&found.path, max_bytes, (&named, denied, next))
                })
            }
            Err(error) => vec![Check::new("journal", Verdict::Limited, format!("{error:#}"))],
        }
    }

    /// The way to the database, if there is to be one: that of the flags, of the configuration, or of the service.
    fn mirror(&self, config: &Config, user: TriedUser) -> anyhow::Result<Vec<Check>> {
        let target = match self.database.url()? {
            Some(database) => database.target(),
            None => match &config.mirror.database {
                // The daemon reads this file itself.
                Some(database) => user.run(&|_| database.target()),
                // This one is handed to it by systemd.
                None => match DatabaseUrl::from_credentials(Some(Path::new(CREDENTIALS))) {
                    Some(database) => database.target(),
                    None => return Ok(vec![Check::new("mirror", Verdict::Fine, NO_DATABASE)]),
                },
            },
        };
        let target = match target {
            Ok(target) => target,
            Err(error) => return Ok(vec![Check::of("mirror: connection string", Err(error))]),
        };
        let host_id: Option<Uuid> = boot::host_id().ok();
        // Servers know the users of their own machine, and only the daemon's need be able to read the files of TLS.
        let mut checks = user.run(&|_| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(mirror::doctor::reach_and_log_in(&target, host_id)),
                Err(error) => vec![Check::of("mirror", Err(error.into()))],
            }
        });
        if target.is_remote() {
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
