//! The live map against the kernel.

use super::Daemon;
use crate::show::answer::AuditAnswer;

impl Daemon {
    /// Answer to `audit`.
    pub(super) fn audit(&mut self) -> AuditAnswer<'static> {
        let sure = self.pass();
        AuditAnswer { head: self.moment(sure).head("audit"), ..AuditAnswer::default() }
    }
}
