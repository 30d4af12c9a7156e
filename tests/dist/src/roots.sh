# Runs as root of a minimal Debian, whose systemd does not run. Any command that fails fails the whole. Nobody answers
# questions: standard input has nothing to read.
set -eux
exec </dev/null
template=/usr/share/observer/observer.toml
configuration=/etc/observer/observer.toml
journal=/var/lib/observer/journal.sqlite
export DEBIAN_FRONTEND=noninteractive

# Says that the configuration holds what it held when `was` was made, and that nothing lies beside it.
is_as_it_was() {
    cmp "$configuration" /was
    test "$(ls /etc/observer)" = observer.toml
}

# The former version, in which dpkg kept the configuration, and whose template was another one.
dpkg --install /packages/former.deb
id observer
observer --version
observer rules check "$configuration"
test -L /etc/systemd/system/multi-user.target.wants/observer.service
printf '[journal]\nmax_age = "7d"\n' >>"$configuration"
cp "$configuration" /was
mkdir -p /var/lib/observer
touch "$journal"

dpkg --install /packages/observer.deb
dpkg --verify observer | grep -v ' c /etc/' && exit 1
is_as_it_was
# systemd of this release knows all of the unit's settings. What it says about where it runs names no unit.
test -z "$(systemd-analyze verify --man=no observer.service 2>&1 | grep observer)"
observer check-config "$configuration"
test -e "$journal"
# Local times are those of the zone that is named.
if test -e /usr/share/zoneinfo/Europe/Berlin; then
    TZ=Europe/Berlin observer history --since 2026-11-21T12:00:00Z --until 2026-11-21T08:00:00Z 2>&1 | grep 13:00:00
fi
dpkg --install /packages/next.deb
is_as_it_was

dpkg --remove observer
test ! -e /usr/bin/observer
is_as_it_was
test -e "$journal"

dpkg --purge observer
rm /was
left=$(find / -xdev -name '*observer*' ! -path '/packages/*')
test -z "$left"

# An installation without a former one: for every user to read, whatever the umask of the one who installs.
(umask 077 && dpkg --install /packages/observer.deb)
cmp "$configuration" "$template"
test "$(stat -c '%a %U %G' "$configuration" /etc/observer)" = "$(printf '644 root root\n755 root root')"
test -z "$(dpkg --verify observer)"
printf '[journal]\nmax_age = "7d"\n' >>"$configuration"
cp "$configuration" /was
dpkg --install /packages/next.deb
is_as_it_was
cmp "$configuration" "$template" && exit 1

# Back to the former version, as docs/operations.md says it. dpkg does not know the file, which is a conffile there: it asks,
# and nobody answers.
if dpkg --install /packages/former.deb; then exit 1; fi
cmp "$configuration" /was
dpkg --force-confold --install /packages/former.deb
cmp "$configuration" /was
observer rules check "$configuration"
rm "$configuration.dpkg-dist"
dpkg --install /packages/next.deb
is_as_it_was

# What was removed on purpose stays away until the package is purged.
rm "$configuration"
dpkg --remove observer
dpkg --install /packages/observer.deb
test ! -e "$configuration"
dpkg --purge observer

# What is there before the package: written by a program that manages configurations, or a link to nowhere.
mkdir /etc/observer
echo '# By hand.' >"$configuration"
cp "$configuration" /was
dpkg --install /packages/observer.deb
is_as_it_was
dpkg --purge observer
mkdir /etc/observer
ln -s /nowhere "$configuration"
dpkg --install /packages/observer.deb
test "$(readlink "$configuration")" = /nowhere
dpkg --purge observer
rm /was
left=$(find / -xdev -name '*observer*' ! -path '/packages/*')
test -z "$left"
