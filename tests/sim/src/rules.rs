//! The rules of the simulations.

use observer_core::Rule;
use observer_core::rule::{Conditions, HomeRule, Instances, Pattern};

/// A name, or with `*` at the end the names that begin so, without another slash.
#[derive(Debug)]
struct Name(&'static str);

impl Pattern for Name {
    fn is_match(&self, bytes: &[u8]) -> bool {
        match self.0.strip_suffix('*') {
            None => bytes == self.0.as_bytes(),
            Some(prefix) => bytes
                .strip_prefix(prefix.as_bytes())
                .is_some_and(|rest| !rest.is_empty() && !rest.contains(&b'/')),
        }
    }
}

fn names(of: &[&'static str]) -> Vec<Box<dyn Pattern>> {
    of.iter().map(|&name| Box::new(Name(name)) as Box<dyn Pattern>).collect()
}

/// Homes are the directories in `/srv`. Shells have no sessions, and `sudo` and `env` are wrappers.
pub(crate) fn rules() -> Vec<Rule> {
    vec![Rule {
        home: HomeRule::Prefix(names(&["/srv/*"])),
        conditions: Conditions::default(),
        not_comm: names(&["init", "bash"]),
        not_program: Vec::new(),
        wrappers: names(&["sudo", "env"]),
        owner: false,
        instances: Instances::One,
        min_age_ns: 0,
        name: "{basename}".into(),
    }]
}
