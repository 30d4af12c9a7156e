#!/bin/sh
# Runs a program under a mosh-server of this machine, as the program mosh does over ssh, and shows it here: `./mosh.sh mosh-server
# PROGRAM`. The server begins in the user's home.
server=$1
shift
connect=$($server new -i 127.0.0.1 -- sh -c 'cd "$0" && exec "$@"' "$PWD" "$@" | grep '^MOSH CONNECT')
set -- $connect
MOSH_KEY=$4 exec mosh-client 127.0.0.1 "$3"
