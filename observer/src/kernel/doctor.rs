//! `observer doctor`: checks whether this machine can run observer, with the real programs.

use std::path::Path;

use super::attach::{HookChoice, tracefs_mounted};
use super::options::KernelOptions;
use super::programs::Kernel;
use super::{load, rights, sys};
use crate::api::check::{Check, Verdict};

/// Where the kernel says what it forbids root.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// Size of the ring while `doctor` runs the self-test: room for what a busy machine does meanwhile.
const RING_BYTES: u32 = 1 << 20;

/// Runs every check that concerns the kernel, the most important first. Loads, attaches and self-tests the real programs, then
/// detaches them.
pub fn doctor(btf: Option<&Path>, hooks: HookChoice) -> Vec<Check> {
    let mut checks = vec![
        Check::of(
            "kernel release",
            sys::check_kernel_release().and_then(|()| sys::kernel_release()).map(|(release, _)| release),
        ),
        Check::of("pid namespace", sys::check_pid_namespace().map(|()| "the host's own".into())),
        Check::of("time namespace", sys::check_time_namespace().map(|()| "has the host's boot clock".into())),
        Check::of("rights", rights::check().map(|()| "may load programs".into())),
        Check::of("BTF", load::check_btf(btf).map(|_| has_all(btf))),
        tracefs(),
        lockdown(std::fs::read_to_string(LOCKDOWN).ok().as_deref()),
    ];
    if checks.iter().any(|check| check.verdict == Verdict::Fails) {
        return checks;
    }
    match Kernel::start(&KernelOptions::brief(btf, hooks, RING_BYTES)) {
        Err(error) => checks.push(Check::of("programs", Err(error))),
        Ok(kernel) => checks.extend(of_programs(&kernel)),
    }
    checks
}

fn of_programs(kernel: &Kernel) -> Vec<Check> {
    let mut checks = vec![Check {
        name: "programs and self-test".into(),
        verdict: Verdict::Fine,
        detail: "load, attach, and report what the system calls return".into(),
    }];
    for source in kernel.sources() {
        let detail = if source.why.is_empty() {
            source.fact.name().to_owned()
        } else {
            format!("{} ({})", source.fact.name(), source.why)
        };
        let verdict = if source.fallback { Verdict::Limited } else { Verdict::Fine };
        checks.push(Check { name: source.source.clone(), verdict, detail });
    }
    for spot in kernel.blind_spots() {
        let detail = if spot.is_read_again {
            format!("not seen when it happens: {}; read again when asked", spot.what)
        } else {
            format!("not known: {}", spot.what)
        };
        checks.push(Check {
            name: format!("blind: {}", spot.fact.name()),
            verdict: Verdict::Limited,
            detail,
        });
    }
    checks
}

fn has_all(btf: Option<&Path>) -> String {
    format!("{} has every field in use", btf.unwrap_or(Path::new(load::KERNEL_BTF)).display())
}

/// Whether the kernel is locked down, by what [`LOCKDOWN`] has: `none [integrity] confidentiality`.
fn lockdown(modes: Option<&str>) -> Check {
    let mode = modes.and_then(|modes| modes.split_once('[')?.1.split_once(']')).map(|(mode, _)| mode);
    let (verdict, detail) = match mode {
        Some("confidentiality") => (
            Verdict::Fails,
            "forbids kernel programs to read kernel memory: boot with lockdown=integrity, or without lockdown",
        ),
        Some("integrity") => (Verdict::Fine, "integrity, which observer does not mind"),
        Some(_) | None => (Verdict::Fine, "off"),
    };
    Check::new("lockdown", verdict, detail)
}

fn tracefs() -> Check {
    let name = "tracefs".to_owned();
    if tracefs_mounted() {
        return Check { name, verdict: Verdict::Fine, detail: "mounted".into() };
    }
    if rights::has_sys_admin() {
        let detail = "not mounted; observer mounts it for itself while it attaches";
        return Check { name, verdict: Verdict::Fine, detail: detail.into() };
    }
    let detail = "not mounted, and mounting it takes CAP_SYS_ADMIN; only needed where fexit does not attach: then run \
                  `mount -t tracefs nodev /sys/kernel/tracing` as root";
    Check { name, verdict: Verdict::Limited, detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lockdown_that_hides_kernel_memory_is_a_problem() {
        let verdict = |modes| lockdown(modes).verdict;
        assert_eq!(verdict(Some("none integrity [confidentiality]\n")), Verdict::Fails);
        for modes in [Some("none [integrity] confidentiality\n"), Some("[none] integrity\n"), Some(""), None]
        {
            assert_eq!(verdict(modes), Verdict::Fine, "{modes:?}");
        }
    }
}
