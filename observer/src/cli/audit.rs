//! `observer audit`

use std::path::Path;

use clap::Args;

use super::exit::Exit;
use super::flags::BtfFlag;
use super::once::StandaloneMap;
use super::term;
use crate::api::answer::AuditAnswer;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::{Text, to_line};
use crate::text::style::{BAD, GOOD};
use crate::text::table::{Align, Cell, Table};

/// What differs is looked at twice more before it counts. Without a daemon: two looks at the kernel against each
/// other (needs root).
#[derive(Args)]
pub struct AuditArgs {
    /// JSON: an object (docs/json.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    btf: BtfFlag,
}

impl AuditArgs {
    /// 0 no drift, 1 drift, 4 not certain.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        match Client::connect(socket) {
            Ok(mut client) => {
                let line = client.ask(&ClientRequest::Audit {})?;
                self.show(&decode(&line)?)
            }
            Err(ClientError::NoDaemon(_)) => {
                let mut map = StandaloneMap::take(None, self.btf.btf.as_deref())?;
                let report = map.audit()?;
                if !self.json {
                    anstream::eprintln!(
                        "observer: no daemon on {}: two looks at the kernel are compared",
                        socket.display()
                    );
                }
                self.show(&AuditAnswer::new(map.answer_time().head("audit"), &report, 2))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn show(&self, answer: &AuditAnswer<'_>) -> anyhow::Result<Exit> {
        if self.json {
            term::print_json(answer)?;
        } else {
            print(answer)?;
        }
        if !answer.drift.is_empty() {
            return Ok(Exit::None);
        }
        if answer.head.certain {
            return Ok(Exit::Found);
        }
        anstream::eprintln!("observer: not certain: events were lost (`observer status` says more)");
        Ok(Exit::Unknown)
    }
}

/// What was not compared; nothing if everything was.
fn not_compared(answer: &AuditAnswer<'_>) -> Option<String> {
    let words = match answer.executing {
        0 => return None,
        1 => "1 of them was in the middle of an exec: its name and user ids were not compared".to_owned(),
        many => format!(
            "{many} of them were in the middle of an exec: their names and user ids were not compared"
        ),
    };
    Some(words)
}

fn print(answer: &AuditAnswer<'_>) -> std::io::Result<()> {
    if answer.drift.is_empty() {
        let word = format!("{} processes compared with the kernel, no drift", answer.processes);
        let line = format!("{GOOD}{word}{GOOD:#}");
        return term::print_lines([line].into_iter().chain(not_compared(answer)));
    }
    let mut table = Table::new(&[
        ("PID", Align::Right),
        ("FIELD", Align::Left),
        ("OBSERVER", Align::Left),
        ("KERNEL", Align::Left),
    ]);
    let value = |value: &Option<Text<'_>>| match value {
        Some(value) => Cell::new(to_line(value.as_bytes())),
        None => Cell::new("-"),
    };
    for drift in &answer.drift {
        table.push(vec![
            Cell::new(drift.pid.to_string()),
            Cell::new(to_line(drift.field.as_bytes())).styled(BAD),
            value(&drift.observer),
            value(&drift.kernel),
        ]);
    }
    let mut lines: Vec<_> = table.lines(term::width()).collect();
    lines.push(format!(
        "{BAD}{} differences in {} processes{BAD:#}: a defect of observer; report it with this output",
        answer.drift.len(),
        answer.processes
    ));
    lines.extend(not_compared(answer));
    term::print_lines(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_says_how_many_were_in_the_middle_of_an_exec() {
        let of = |executing| not_compared(&AuditAnswer { executing, ..AuditAnswer::default() });
        assert_eq!(of(0), None);
        assert!(of(1).is_some_and(|words| words.starts_with("1 of them was ")));
        assert!(of(2).is_some_and(|words| words.starts_with("2 of them were ")));
    }
}
