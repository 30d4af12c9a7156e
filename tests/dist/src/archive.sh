# Runs as root of a minimal Debian, whose systemd does not run: /packages has the archive, and the commands of README that
# install it. Any command that fails fails the whole.
set -eux
exec </dev/null
configuration=/etc/observer/observer.toml
# systemctl needs no systemd then to enable a unit.
export SYSTEMD_OFFLINE=1
cd /packages
sh -eux ./install
id observer
observer --version
observer check-config "$configuration"
test -L /etc/systemd/system/multi-user.target.wants/observer.service
test -z "$(systemd-analyze verify --man=no observer.service 2>&1 | grep observer)"
for document in LICENSE-APACHE LICENSE-MIT copyright CHANGELOG.md; do
    test "$(stat -c '%a %U %G' "/usr/share/doc/observer/$document")" = '644 root root'
done

# The same again, as an upgrade does it.
printf '[journal]\nmax_age = "7d"\n' >>"$configuration"
cp "$configuration" /was
sh -eux ./install
cmp "$configuration" /was
