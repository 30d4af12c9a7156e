# Runs as root of a minimal Debian, whose systemd does not run. Any command that fails fails the whole.
set -eux
configuration=/etc/observer/observer.toml
journal=/var/lib/observer/journal.sqlite
export DEBIAN_FRONTEND=noninteractive

dpkg --install /packages/former.deb
id observer
observer --version
observer rules check "$configuration"
test -L /etc/systemd/system/multi-user.target.wants/observer.service
printf '[journal]\nmax_age = "7d"\n' >>"$configuration"
mkdir -p /var/lib/observer
touch "$journal"

dpkg --install /packages/observer.deb
dpkg --verify observer | grep -v ' c /etc/' && exit 1
grep -q '^max_age = "7d"' "$configuration"
test -e "$journal"

dpkg --remove observer
test ! -e /usr/bin/observer
test -e "$configuration"
test -e "$journal"

dpkg --purge observer
left=$(find / -xdev -name '*observer*' ! -path '/packages/*')
test -z "$left"
