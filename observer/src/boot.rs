//! The identity of this machine and of this boot.

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

/// Machine ids are hashed with this, because the id itself must not be published (machine-id(5)).
const HOST_ID_SPACE: Uuid = Uuid::from_u128(0x6f62_7365_7276_6572_8d1c_5a0e_4b7f_9e21);

/// The kernel's id of this boot. Boot times are comparable only within one boot.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let id = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {path}; mount the proc file system"))?;
    Ok(id.trim().to_owned())
}

/// The id of this machine: it survives boots, and differs between machines unless one is a clone of the other.
pub fn host_id() -> Result<Uuid> {
    let path = "/etc/machine-id";
    let next = "make one with systemd-machine-id-setup";
    let id = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}; {next}"))?;
    let id = id.trim();
    ensure!(
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{path} holds no machine id; {next}"
    );
    Ok(Uuid::new_v5(&HOST_ID_SPACE, id.as_bytes()))
}

/// The machine's name.
pub fn hostname() -> Result<String> {
    let path = "/proc/sys/kernel/hostname";
    let name =
        std::fs::read(path).with_context(|| format!("cannot read {path}; mount the proc file system"))?;
    Ok(crate::text::bytes::to_json(name.trim_ascii_end()).into_owned())
}
