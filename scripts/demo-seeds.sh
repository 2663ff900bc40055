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
FROM=${FROM:-cormac-ns/busybox1}                # a workload of the lab
SERVER=${SERVER:-192.168.178.222}               # a machine outside that serves HTTP
PORT=${PORT:-88}

[ "$(id -u)" = 0 ] || {
	echo "lab: needs root: network namespaces and eBPF (run: sudo make lab)" >&2
	exit 1
}

# show COMMAND... prints the command as one would type it, then what it says.
show() {
	printf '\n$ %s\n' "$*"
	"$@"
}

read -r -a files <<<"$LAB_FILES"
"$WEFT" lab up "${files[@]}" >/dev/null

echo "== The hops that $FROM, a pod in a guest cluster, finds on its way out"
show "$WEFT" lab exec "$FROM" -- traceroute -n -q 1 -w 1 -m 10 "$SERVER"

echo
echo "== The source address that the server sees"
show "$WEFT" lab exec "$FROM" -- curl --silent --show-error --max-time 5 "http://$SERVER:$PORT/"

echo
echo "== What weft says of the same connection, from the tables that forward it"
printf '\n$ %s\n' "$WEFT trace $FROM $SERVER tcp/$PORT   # each step, then:"
"$WEFT" trace "$FROM" "$SERVER" "tcp/$PORT" | sed -n '/^hops: /,$p' | sed 's/), /),\n      /g'

next() { printf '  %-58s %s\n' "$1" "$2"; }
echo
echo "The lab is up; $LAB_FILES describes it. Next:"
next "$WEFT trace $FROM $SERVER tcp/$PORT" "every rule, route and translation"
next "$WEFT trace cormac-ns/podvm registry/harbor" "a packet that a rule drops, and which"
next "$WEFT lab exec $FROM -- curl -s http://10.203.182.134/" "through the registry's load balancer"
next "$WEFT flows" "live connections: rule, translation, member, bytes"
next "$WEFT stats" "hits, packets and bytes of every rule; drops"
next "$WEFT lab exec $FROM -- bash" "look around inside the pod"
next "make lab-down" "take it down again"
