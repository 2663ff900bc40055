#!/usr/bin/env bash
# Brings up the example lab and shows one connection three ways: the hops that
# traceroute finds, the source address that the server sees, and the trace
# that predicts both. The lab stays up; `make lab-down` removes it.
#
# Everything below can be set from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."

WEFT=${WEFT:-bin/weft}
LAB_FILES=${LAB_FILES:-examples/seeds/lab.yaml} # separated by spaces
FROM=${FROM:-red/web}                           # a workload of the lab
SERVER=${SERVER:-192.168.178.222}               # a machine outside that serves HTTP
PORT=${PORT:-88}

# show COMMAND... prints the command as one would type it, then what it says.
show() {
	printf '\n$ %s\n' "$*"
	"$@"
}

[ "$(id -u)" = 0 ] || {
	echo "lab: needs root: network namespaces and eBPF (run: sudo make lab)" >&2
	exit 1
}

read -r -a files <<<"$LAB_FILES"
show "$WEFT" lab up "${files[@]}"

echo
echo "== The hops that $FROM finds on the way to $SERVER"
show "$WEFT" lab exec "$FROM" -- traceroute -n -q 1 -w 1 -m 10 "$SERVER"

echo
echo "== The source address that $SERVER sees"
show "$WEFT" lab exec "$FROM" -- curl --silent --show-error --max-time 5 "http://$SERVER:$PORT/"

echo
echo "== What Weft says about the same connection, from the tables that forward it"
show "$WEFT" trace "$FROM" "$SERVER" "tcp/$PORT"

echo
echo "The lab is up. Look around: $WEFT lab exec $FROM -- bash.  Take it down: make lab-down"
