//! The systemd unit and the container whose names the path of a cgroup has.
//!
//! systemd and the runtimes of containers name the cgroups that they make. What has none of these names is in no unit, or in no
//! container, that is known: nothing is guessed. The formats are the same in both versions of cgroups.

use alloc::borrow::Cow;
use alloc::vec::Vec;

/// What an id consists of.
#[derive(Clone, Copy, Debug)]
enum IdKind {
    /// 64 hexadecimal digits.
    Digest,
    /// What a person called the container.
    Name,
    /// The same, as systemd escapes it in the name of a unit.
    EscapedName,
}

/// How a runtime names the cgroup of a container.
#[derive(Clone, Copy, Debug)]
enum Format {
    /// `PREFIX-ID.scope`, which systemd makes for the runtime. A runtime that has the words for that (`SLICE:PREFIX:ID`) and
    /// makes the cgroup itself calls it `….slice:PREFIX:ID`.
    Scope(&'static [u8]),
    /// The id between these two.
    Between(&'static [u8], &'static [u8]),
    /// The id between these two, for a payload. The runtime itself is in `supervisor` below that (create_subcgroup,
    /// src/nspawn/nspawn-cgroup.c).
    Supervised(&'static [u8], &'static [u8]),
    /// The id, in a cgroup of this name.
    In(&'static [u8]),
    /// The id, in `podUID`, in `kubepods` or in a quality of service of that.
    InPod,
}

/// The formats of all runtimes that are known.
const FORMATS: [(Format, IdKind); 17] = [
    // docker, with systemd and without.
    (Format::Scope(b"docker"), IdKind::Digest),
    (Format::In(b"docker"), IdKind::Digest),
    // containerd: of Kubernetes, and of nerdctl.
    (Format::Scope(b"cri-containerd"), IdKind::Digest),
    (Format::Scope(b"nerdctl"), IdKind::Digest),
    // Any runtime of Kubernetes without systemd.
    (Format::InPod, IdKind::Digest),
    // cri-o.
    (Format::Scope(b"crio"), IdKind::Digest),
    (Format::Between(b"crio-", b""), IdKind::Digest),
    // podman: with systemd, without, and in the cgroup of its service (`--cgroups=split`).
    (Format::Scope(b"libpod"), IdKind::Digest),
    (Format::Between(b"libpod-", b""), IdKind::Digest),
    (Format::Between(b"libpod-payload-", b""), IdKind::Digest),
    // runc and crun by themselves, with systemd.
    (Format::Scope(b"runc"), IdKind::Name),
    (Format::Scope(b"crun"), IdKind::Name),
    // systemd-nspawn: by itself, and as a service. systemd-machined names the scopes of others likewise.
    (Format::Supervised(b"machine-", b".scope"), IdKind::EscapedName),
    (Format::Supervised(b"systemd-nspawn@", b".service"), IdKind::Name),
    // lxc: since 4.0.3, in 4.0, and before.
    (Format::Between(b"lxc.payload.", b""), IdKind::Name),
    (Format::In(b"lxc.payload"), IdKind::Name),
    (Format::In(b"lxc"), IdKind::Name),
];

/// Types of units whose processes systemd keeps in a cgroup.
const UNIT_TYPES: [&[u8]; 5] = [b"service", b"scope", b"socket", b"mount", b"swap"];

/// Returns the name of the innermost systemd unit in the path of a cgroup, such as `nginx.service` or `session-3.scope`. Of
/// what a user's own manager runs, it is the unit of that manager. `None` where a slice is further inside: it has no processes
/// of its own.
pub fn unit(path: &[u8]) -> Option<&[u8]> {
    for component in path.strip_prefix(b"/")?.rsplit(|&byte| byte == b'/') {
        // systemd puts `_` before a name that could be that of a file of the kernel (cg_escape, src/basic/cgroup-util.c).
        let name = component.strip_prefix(b"_").unwrap_or(component);
        match unit_type(name) {
            Some(b"slice") => return None,
            Some(found) if UNIT_TYPES.contains(&found) => return Some(name),
            _ => {}
        }
    }
    None
}

/// Returns what stands behind the last dot, if this may be the name of a unit (unit_name_is_valid,
/// src/basic/unit-name.c).
fn unit_type(name: &[u8]) -> Option<&[u8]> {
    let is_valid = |byte: &u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(byte);
    let dot = name.iter().rposition(|&byte| byte == b'.')?;
    let has_name = name.first().is_some_and(|&first| dot > 0 && first != b'@');
    name.get(dot + 1..).filter(|_| has_name && name.iter().all(is_valid))
}

/// Returns the id of the innermost container in the path of a cgroup, or its name where the runtime has names. A name that
/// systemd has escaped is given as it was.
pub fn container(path: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !path.starts_with(b"/") {
        return None;
    }
    let (mut rest, mut inner) = (path, [].as_slice());
    while let Some(at) = rest.iter().rposition(|&byte| byte == b'/') {
        let (outer, name) = (rest.get(..at)?, rest.get(at + 1..)?);
        let id = |&(format, kind): &(Format, IdKind)| kind.read(format.id(outer, name, inner)?);
        if let Some(id) = FORMATS.iter().find_map(id) {
            return Some(id);
        }
        (rest, inner) = (outer, name);
    }
    None
}

impl Format {
    /// Returns what stands for the id in `name`, which is a cgroup in `outer`, and has `inner` in it.
    fn id<'a>(self, outer: &[u8], name: &'a [u8], inner: &[u8]) -> Option<&'a [u8]> {
        match self {
            Self::Scope(prefix) => match name.strip_suffix(b".scope") {
                Some(stem) => stem.strip_prefix(prefix)?.strip_prefix(b"-"),
                None => {
                    let mut words = name.rsplitn(3, |&byte| byte == b':');
                    let (id, found, slice) = (words.next()?, words.next()?, words.next()?);
                    (found == prefix && slice.ends_with(b".slice")).then_some(id)
                }
            },
            Self::Supervised(..) if inner == b"supervisor" => None,
            Self::Between(before, after) | Self::Supervised(before, after) => {
                name.strip_prefix(before)?.strip_suffix(after)
            }
            Self::In(parent) => (last(outer) == parent).then_some(name),
            Self::InPod => is_pod(outer).then_some(name),
        }
    }
}

impl IdKind {
    /// Returns the id, if it is one.
    fn read(self, id: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Digest => (id.len() == 64 && id.iter().all(is_digit)).then_some(Cow::Borrowed(id)),
            Self::Name => is_name(id).then_some(Cow::Borrowed(id)),
            Self::EscapedName => unescaped(id).filter(|name| is_name(name) && !is_virtual_machine(name)),
        }
    }
}

/// Returns whether this is a lowercase hexadecimal digit.
fn is_digit(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Returns whether a container may have this name.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Returns whether libvirt names a machine of QEMU so: `qemu-3-web`.
fn is_virtual_machine(name: &[u8]) -> bool {
    name.strip_prefix(b"qemu-").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}

/// Returns whether the path ends with `kubepods/podUID`, or with one component between these.
fn is_pod(path: &[u8]) -> bool {
    let mut components = path.rsplit(|&byte| byte == b'/');
    let uid = components.next().and_then(|pod| pod.strip_prefix(b"pod"));
    let is_uid = |uid: &[u8]| !uid.is_empty() && uid.iter().all(|byte| is_digit(byte) || *byte == b'-');
    uid.is_some_and(is_uid) && components.take(2).any(|component| component == b"kubepods")
}

/// Returns the last component of a path.
fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Undoes the escapes in the name of a unit, such as `\x2d` for `-`. A bare `-` stands for a slash, which is in the name of no
/// machine.
fn unescaped(escaped: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !escaped.iter().any(|byte| b"\\-".contains(byte)) {
        return Some(Cow::Borrowed(escaped));
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut name = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((&byte, after)) = rest.split_first() {
        let (plain, after) = match (byte, after) {
            (b'-', _) => return None,
            (b'\\', [b'x', high, low, after @ ..]) => (digit(*high)? << 4 | digit(*low)?, after),
            (b'\\', _) => return None,
            _ => (u32::from(byte), after),
        };
        name.push(u8::try_from(plain).ok()?);
        rest = after;
    }
    Some(Cow::Owned(name))
}
