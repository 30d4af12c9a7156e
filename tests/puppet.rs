//! The program of a puppet: a process that does one thing at a time as a test asks. The harness has its code; the program
//! stands here because cargo builds the programs of a package before its tests.

fn main() {
    observer_harness::puppet::main()
}
