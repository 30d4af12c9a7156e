//! The package for Debian, made by debhelper from a tree of files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use observer_harness::{command, former};

use crate::version::Version;
use crate::{changelog, tree};
use observer_harness::workspace::Workspace;

/// Files that debhelper reads.
const FILES: [&str; 3] = ["control", "copyright", "observer.postrm"];
/// Puts the configuration where it is read.
const POSTINST: &str = "observer.postinst";
/// The first steps that `dh binary` has for a package without a build. The user is made before the service starts.
const FIRST: [&[&str]; 4] = [
    &["dh_installdocs"],
    &["dh_installchangelogs", "-XCHANGELOG.md"],
    &["dh_installsysusers"],
    &["dh_installsystemd"],
];
/// Those that follow, without the last one.
const LAST: [&[&str]; 5] = [
    &["dh_compress", "-X.md", "-X.json", "-X.svg", "-X.txt", "-XLICENSE"],
    &["dh_fixperms"],
    &["dh_installdeb"],
    &["dh_gencontrol"],
    &["dh_md5sums"],
];
/// The last one. Debian 11 reads no packages that are compressed by zstd.
const PACK: [&str; 3] = ["dh_builddeb", "--", "-Zxz"];
/// Packs sooner and not as small.
const PACK_SOONER: &str = "-z1";
/// Where the unit goes, and where dh_installsystemd of Debian 12 looks for it: in no other place.
const UNIT: (&str, &str) = ("usr/lib/systemd", "lib/systemd");

/// The shipped template of the configuration, where the postinst takes it from.
const TEMPLATE: &str = "usr/share/observer/observer.toml";
/// Where the configuration is read.
const CONFIGURATION: &str = "etc/observer/observer.toml";

/// The unit as it was in the version of the former program (`former::FIRST`), and where it goes.
const FORMER_UNIT: (&str, &str) =
    ("usr/lib/systemd/system/observer.service", include_str!("../former/observer.service"));

/// Which package is made of the same files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edition {
    /// The one that is released.
    Release,
    /// For tests: a lower version, with another configuration, of which dpkg keeps what an operator changed (a conffile).
    Former,
    /// For tests: a lower version, with the program and the unit of a former one, and no configuration, which was the operator's
    /// to write. Only where that program was built.
    Earlier,
    /// For tests: a higher version, with another template of the configuration.
    Next,
}

impl Edition {
    /// The version of the package that has `version` when it is released.
    fn version(self, version: &Version) -> Version {
        let suffix = match self {
            Self::Release => "",
            Self::Former => "~former",
            Self::Earlier => "~earlier",
            Self::Next => "+next",
        };
        Version { debian: format!("{}{suffix}", version.debian), epoch: version.epoch }
    }

    /// The files of `packaging/debian` that it is made with.
    fn files(self) -> Vec<&'static str> {
        let has_template = matches!(self, Self::Release | Self::Next);
        let postinst = has_template.then_some(POSTINST);
        FILES.into_iter().chain(postinst).collect()
    }

    /// Changes the files of the package, which are below `root`, to what this one has.
    fn change(self, root: &Path) -> Result<()> {
        let template = root.join(TEMPLATE);
        let text = fs::read_to_string(&template).with_context(|| format!("read {}", template.display()))?;
        match self {
            Self::Release => Ok(()),
            Self::Former => {
                fs::remove_file(&template).with_context(|| format!("remove {}", template.display()))?;
                tree::write(&root.join(CONFIGURATION), &format!("# Of the former version.\n{text}"))
            }
            Self::Earlier => {
                fs::remove_file(&template).with_context(|| format!("remove {}", template.display()))?;
                let (path, unit) = FORMER_UNIT;
                tree::write(&root.join(path), unit)?;
                let mut strip = Command::new("strip");
                strip.args(["--strip-all", "-o"]).arg(root.join(tree::PROGRAM));
                command::quiet(strip.arg(former::FIRST.path()?))
            }
            Self::Next => tree::write(&template, &format!("# Of the next version.\n{text}")),
        }
    }

    /// The step that packs it.
    fn pack(self) -> Vec<&'static str> {
        let sooner = (self != Self::Release).then_some(PACK_SOONER);
        PACK.into_iter().chain(sooner).collect()
    }
}

/// Makes the package below `work`, puts it into `directory` and returns its path. `version` is that of the release.
pub(crate) fn build(
    workspace: &Workspace,
    work: &Path,
    files: &Path,
    (edition, version): (Edition, &Version),
    directory: &Path,
) -> Result<PathBuf> {
    let version = &edition.version(version);
    let debian = work.join("debian");
    fs::create_dir_all(&debian).with_context(|| format!("create {}", debian.display()))?;
    for name in edition.files() {
        let from = workspace.root.join("packaging/debian").join(name);
        fs::copy(&from, debian.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    let markdown = fs::read_to_string(workspace.root.join("CHANGELOG.md")).context("read CHANGELOG.md")?;
    tree::write(&debian.join("changelog"), &changelog::debian(&markdown, version)?)?;
    let root = debian.join("observer");
    command::quiet(Command::new("cp").arg("--archive").arg(files).arg(&root))?;
    edition.change(&root)?;
    let (unit, for_debhelper) = (root.join(UNIT.0), root.join(UNIT.1));
    fs::create_dir_all(root.join("lib")).context("create lib")?;
    fs::rename(&unit, &for_debhelper).with_context(|| format!("move {}", unit.display()))?;
    steps(&FIRST, work, version)?;
    fs::rename(&for_debhelper, &unit).with_context(|| format!("move {}", for_debhelper.display()))?;
    fs::remove_dir(root.join("lib")).context("remove lib")?;
    steps(&LAST, work, version)?;
    steps(&[&edition.pack()], work, version)?;
    // It is written beside the directory of the package.
    let architecture = command::capture(Command::new("dpkg").arg("--print-architecture"))?;
    let name = format!("observer_{}_{}.deb", version.debian, architecture.trim());
    let (made, path) = (work.with_file_name(&name), directory.join(&name));
    fs::rename(&made, &path).with_context(|| format!("move {}", made.display()))?;
    Ok(path)
}

fn steps(steps: &[&[&str]], work: &Path, version: &Version) -> Result<()> {
    for step in steps {
        let (program, arguments) = step.split_first().context("a step without a program")?;
        let mut dh = Command::new(program);
        dh.current_dir(work).env("SOURCE_DATE_EPOCH", version.epoch.to_string()).env("LC_ALL", "C");
        command::quiet(dh.args(arguments))?;
    }
    Ok(())
}
