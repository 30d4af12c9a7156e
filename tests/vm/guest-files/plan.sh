# Runs each line of /vm/plan and reports to $1 what came of it. Its own lines begin with a marker that nothing else knows.
marker=$(cat /vm/marker)
exec </dev/null >"$1" 2>&1
if [ -c "$1" ]; then
    stty -F "$1" raw -echo
fi
report() { echo; echo "$marker $*"; }
# Seconds since the start, and how many of these the processor was idle.
uptime_s() { cat /proc/uptime; }

report release "$(uname -r)"
report version "$(uname -v)"
while read -r name limit command; do
    report begin "$name" "$(uptime_s)"
    # shellcheck disable=SC2086 # the command is words
    busybox timeout -s KILL "$limit" $command
    report end "$name" "$?" "$(uptime_s)"
done < /vm/plan
report done
