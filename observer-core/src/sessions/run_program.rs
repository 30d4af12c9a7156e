//! The program that a session is of, as it is compared with what processes run.

use crate::model::process::{Bytes, Comm, Process};

/// What a process runs, as far as it tells programs apart.
#[derive(Clone, Debug)]
pub(crate) struct RunProgram {
    program: Option<Bytes>,
    exe: Option<Bytes>,
    comm: Comm,
}

impl RunProgram {
    pub fn of(process: &Process) -> Self {
        Self { program: process.program.clone(), exe: process.exe.clone(), comm: process.comm }
    }

    /// Returns what a process runs that was recorded to run `program`.
    pub fn recorded(process: &Process, program: Option<&[u8]>) -> Self {
        let program = program.map(Bytes::from).or_else(|| process.program.clone());
        Self { program, ..Self::of(process) }
    }

    /// Returns what a process ran of which nothing but its program is known.
    pub fn named(program: &[u8]) -> Self {
        // No process has such a comm: the kernel's ends with a NUL.
        Self { program: Some(Bytes::from(program)), exe: None, comm: Comm([u8::MAX; 16]) }
    }

    /// Returns the program, where it is known.
    pub fn name(&self) -> Option<&Bytes> {
        self.program.as_ref()
    }

    /// Returns whether `process` runs the same. comm and executable decide only where a program is not known:
    /// an interpreter runs many programs.
    pub fn is_run_by(&self, process: &Process) -> bool {
        match (&self.program, &process.program) {
            (Some(program), Some(other)) => program == other,
            _ => self.comm == process.comm || (self.exe.is_some() && self.exe == process.exe),
        }
    }
}
