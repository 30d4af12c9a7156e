# Runs what /vm/plan says, one line each, and says to $1 what came of it. What it says itself begins with a word that
# nothing else knows.
word=$(cat /vm/word)
exec </dev/null >"$1" 2>&1
if [ -c "$1" ]; then
    stty -F "$1" raw -echo
fi
say() { echo; echo "$word $*"; }

say release "$(uname -r)"
say version "$(uname -v)"
while read -r name limit command; do
    say begin "$name"
    # shellcheck disable=SC2086 # the command is words
    busybox timeout -s KILL "$limit" $command
    say end "$name" "$?" "$(cut -d' ' -f1 /proc/uptime)"
done < /vm/plan
say done
