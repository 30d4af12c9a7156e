//! The links by which kernel programs of a daemon are attached, as the kernel lists them.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use libc::c_long;
use observer_common::hooks::{HOOKS, Point};

/// Commands of bpf(2) (include/uapi/linux/bpf.h).
const PROG_GET_FD_BY_ID: c_long = 13;
const OBJ_GET_INFO_BY_FD: c_long = 15;
const LINK_GET_FD_BY_ID: c_long = 30;
const LINK_GET_NEXT_ID: c_long = 31;
/// Bytes that the kernel keeps of a program's name (`BPF_OBJ_NAME_LEN`, without the NUL).
const NAME_BYTES: usize = 15;
/// Where the name begins in `struct bpf_prog_info`, and the bytes up to its end.
const NAME_AT: usize = 64;
const INFO_BYTES: usize = 80;

/// A file that a process has open.
pub struct OpenFile {
    /// Its number there.
    pub fd: u64,
    /// What its link in `/proc/PID/fd` names.
    pub path: String,
    /// Its text in `/proc/PID/fdinfo`.
    pub info: String,
}

/// Where a process holds a link.
pub enum LinkPlace {
    /// Open.
    Descriptor(OpenFile),
    /// In this slot of the files that are registered with the io_uring `fd`.
    Ring {
        /// Number of the io_uring in the process.
        fd: u64,
        /// Number of the slot.
        slot: u64,
    },
}

/// Everything that a process has open.
pub fn open_files(pid: u32) -> Vec<OpenFile> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let open = fds.filter_map(|fd| {
        let fd = fd.ok()?;
        let path = fs::read_link(fd.path()).ok()?.to_str()?.to_owned();
        let fd = fd.file_name().to_str()?.parse().ok()?;
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
        Some(OpenFile { fd, path, info })
    });
    open.collect()
}

/// Names of the programs that are attached to a tracepoint: the second one on some kernels only.
pub fn programs_at(tracepoint: &str) -> Vec<&'static str> {
    let is_there = |point: Point| matches!(point, Point::Tracepoint(name) if name == tracepoint);
    let hook = HOOKS.iter().find(|hook| is_there(hook.point));
    let hook = hook.unwrap_or_else(|| panic!("observer has no program at {tracepoint}"));
    [Some(hook.point.name()), hook.second].into_iter().flatten().collect()
}

/// Where the process `pid` holds the link of its program of this name; `None` if that is not attached.
pub fn place_of(pid: u32, program: &str) -> Option<LinkPlace> {
    let files = open_files(pid);
    let programs = files.iter().filter(|file| file.path == "anon_inode:bpf-prog");
    let programs: BTreeSet<u32> = programs.filter_map(|file| number(&file.info, "prog_id:")).collect();
    let wanted = id_of(&programs, program)?;
    let links: Vec<_> = links().into_iter().filter(|link| programs.contains(&link.program)).collect();
    let link = links.iter().find(|link| link.program == wanted)?.id;
    let is = |file: &OpenFile, id: u32| number(&file.info, "link_id:") == Some(id);
    // The slots are in the order in which the programs were attached, and so are the numbers of the links.
    let is_in_ring = |id: u32| !files.iter().any(|file| is(file, id));
    let before = links.iter().filter(|other| other.id < link && is_in_ring(other.id)).count();
    if !is_in_ring(link) {
        return files.into_iter().find(|file| is(file, link)).map(LinkPlace::Descriptor);
    }
    let ring = files.iter().find(|file| file.path == "anon_inode:[io_uring]").expect("a ring holds the link");
    let slots = slots_with_links(&ring.info);
    let slot = slots.get(before).unwrap_or_else(|| panic!("{program} is not in a slot: {}", ring.info));
    Some(LinkPlace::Ring { fd: ring.fd, slot: *slot })
}

/// The number of the program of this name among `programs`; `None` if it is not loaded.
fn id_of(programs: &BTreeSet<u32>, name: &str) -> Option<u32> {
    let kept = |name: &str| name.get(..NAME_BYTES).unwrap_or(name).to_owned();
    let ids: Vec<u32> = programs.iter().copied().filter(|&id| name_of(id) == kept(name)).collect();
    let names = HOOKS.iter().flat_map(|hook| [Some(hook.point.name()), hook.second]).flatten();
    let alike: Vec<&str> = names.filter(|other| kept(other) == kept(name)).collect();
    if ids.is_empty() {
        return None;
    }
    // Programs whose names the kernel cuts to the same are loaded in the order of the list.
    assert_eq!(ids.len(), alike.len(), "all of {alike:?} are loaded");
    let at = alike.iter().position(|it| *it == name)?;
    ids.get(at).copied()
}

/// Slots of an io_uring that hold links, from its text in fdinfo: `UserFiles:`, and a line `SLOT: FILE` for each.
fn slots_with_links(info: &str) -> Vec<u64> {
    let files = info.lines().skip_while(|line| !line.starts_with("UserFiles:")).skip(1);
    let slots = files.map_while(|line| {
        let (slot, file) = line.split_once(':')?;
        Some((slot.trim().parse::<u64>().ok()?, file))
    });
    slots.filter(|(_, file)| file.contains("bpf_link")).map(|(slot, _)| slot).collect()
}

/// A link of any process.
struct KernelLink {
    id: u32,
    program: u32,
}

/// All links that the kernel has, in the order of their numbers.
fn links() -> Vec<KernelLink> {
    let (mut links, mut last) = (Vec::new(), 0);
    loop {
        let mut attributes = [last, 0, 0, 0];
        if bpf(LINK_GET_NEXT_ID, &mut attributes) < 0 {
            return links;
        }
        let [_, id, ..] = attributes;
        last = id;
        // It may be gone by now.
        let Some(link) = by_id(LINK_GET_FD_BY_ID, id) else { continue };
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())).unwrap_or_default();
        if let Some(program) = number(&info, "prog_id:") {
            links.push(KernelLink { id, program });
        }
    }
}

/// The name of a program, as far as the kernel keeps it.
fn name_of(program: u32) -> String {
    let Some(program) = by_id(PROG_GET_FD_BY_ID, program) else { return String::new() };
    let mut info = [0_u64; INFO_BYTES / 8];
    let address = info.as_mut_ptr() as u64;
    let fd = program.as_raw_fd().cast_unsigned();
    // The two halves of the address, lower first: this is a little-endian machine.
    let mut attributes = [fd, INFO_BYTES as u32, address as u32, (address >> 32) as u32];
    assert_eq!(bpf(OBJ_GET_INFO_BY_FD, &mut attributes), 0, "ask for a program");
    let bytes: Vec<u8> = info.iter().flat_map(|word| word.to_ne_bytes()).skip(NAME_AT).collect();
    bytes
        .split(|&byte| byte == 0)
        .next()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .unwrap_or_default()
}

fn by_id(command: c_long, id: u32) -> Option<OwnedFd> {
    let fd = i32::try_from(bpf(command, &mut [id, 0, 0, 0])).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: a new descriptor that nothing else owns.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: c_long, attributes: &mut [u32; 4]) -> c_long {
    // SAFETY: the kernel reads and writes `size` bytes of the attributes, and what they point to, which the caller owns.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) }
}

fn number(info: &str, label: &str) -> Option<u32> {
    info.lines().find_map(|line| line.strip_prefix(label))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::slots_with_links;

    #[test]
    fn slots_of_a_ring_are_read_in_the_words_of_old_and_new_kernels() {
        let new = "SqMask:\t0x0\nUserFiles:\t4\n    0: anon_inode:bpf_link\n    1: <none>\n    2: \
                   anon_inode:[perf_event]\n    3: anon_inode:bpf_link\nUserBufs:\t1\n    0: 0x0/7\n";
        assert_eq!(slots_with_links(new), [0, 3]);
        let old = "UserFiles:\t2\n    0: bpf_link\n    1: [perf_event]\nUserBufs:\t0\nPollList:\n";
        assert_eq!(slots_with_links(old), [0]);
        assert_eq!(slots_with_links(""), [0_u64; 0]);
    }
}
