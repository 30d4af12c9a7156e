//! The service as which the daemon runs, whose processes are never sessions.

use observer_core::rule::{Conditions, Ignore, Pattern};

/// Where the kernel says in which control groups this process is.
const OWN_CGROUPS: &str = "/proc/self/cgroup";

/// A control group and those below it.
#[derive(Debug)]
struct CgroupTree(Box<[u8]>);

impl Pattern for CgroupTree {
    fn is_match(&self, bytes: &[u8]) -> bool {
        bytes.strip_prefix(&*self.0).is_some_and(|below| below.is_empty() || below.starts_with(b"/"))
    }
}

/// The processes of the service as which systemd has started this one; `None`: it was started otherwise.
pub(super) fn own_service() -> Option<Ignore> {
    std::env::var_os("NOTIFY_SOCKET")?;
    let cgroups = std::fs::read(OWN_CGROUPS).ok()?;
    let tree = CgroupTree(service_cgroup(&cgroups)?.into());
    let conditions = Conditions { cgroup: vec![Box::new(tree)], ..Conditions::default() };
    Some(Ignore { cwd: Vec::new(), conditions })
}

/// The cgroup of the service that the process with these `cgroups` is in. A scope or a slice below a service, such as that
/// of a user's manager, is not of that service.
fn service_cgroup(cgroups: &[u8]) -> Option<&[u8]> {
    let path = cgroups.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    let mut rest = path;
    loop {
        let name = rest.rsplit(|&byte| byte == b'/').next()?;
        let is_unit = |suffix: &[u8]| name.len() > suffix.len() && name.ends_with(suffix);
        if is_unit(b".service") {
            return Some(rest);
        }
        if name.is_empty() || is_unit(b".scope") || is_unit(b".slice") {
            return None;
        }
        rest = rest.get(..rest.len().checked_sub(name.len() + 1)?)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_the_innermost_unit() {
        let cases: [(&str, Option<&str>); 11] = [
            ("0::/system.slice/observer.service\n", Some("/system.slice/observer.service")),
            ("0::/system.slice/observer.service/sub/a\n", Some("/system.slice/observer.service")),
            ("12:cpu:/x.service\n1:name=systemd:/y.service\n0::/z.service\n", Some("/z.service")),
            (
                "0::/user.slice/user-0.slice/user@0.service/app.slice/observer.service",
                Some("/user.slice/user-0.slice/user@0.service/app.slice/observer.service"),
            ),
            ("0::/user.slice/user-0.slice/user@0.service/app.slice/run-1.scope\n", None),
            ("0::/user.slice/user-0.slice/session-3.scope\n", None),
            ("0::/\n", None),
            ("0::/.service\n", None),
            ("1:name=systemd:/system.slice/observer.service\n", None),
            ("0::\n", None),
            ("", None),
        ];
        for (cgroups, expected) in cases {
            assert_eq!(service_cgroup(cgroups.as_bytes()), expected.map(str::as_bytes), "{cgroups:?}");
        }
    }

    #[test]
    fn a_service_has_its_cgroup_and_those_below_it() {
        let tree = CgroupTree(b"/system.slice/observer.service".as_slice().into());
        assert!(tree.is_match(b"/system.slice/observer.service"));
        assert!(tree.is_match(b"/system.slice/observer.service/a/b"));
        for other in
            ["/system.slice/observer.service2", "/system.slice", "/", "", "/x/system.slice/observer.service"]
        {
            assert!(!tree.is_match(other.as_bytes()), "{other}");
        }
    }
}
