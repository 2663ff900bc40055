#!/usr/bin/env bash
# Brings up a Kubernetes whose namespaces are tenants and tells the story of a
# web shop in it: browsing fails, the answer and the trace name the rule, and a
# NetworkPolicy mends it. The lab stays up; `make lab-down` removes it.
set -euo pipefail
cd "$(dirname "$0")/.."

WEFT=${WEFT:-bin/weft}
HOST=hackazon.cpod-nsxv8.az-stc.cloud-garage.net
SHOP=ns-hackazon-app
CONTOUR=svc-contour-domain-c8

[ "$(id -u)" = 0 ] || {
	echo "lab: needs root: network namespaces and eBPF (run: sudo make lab)" >&2
	exit 1
}

# title TEXT says what comes next.
title() { printf '\n== %s\n' "$*"; }

# show COMMAND... prints the command as one would type it, then what it says.
show() {
	printf '\n$ %s\n' "$*"
	"$@" || true
}

# await WHAT COMMAND... runs a command until it succeeds, for a minute.
await() {
	local what=$1 end=$((SECONDS + 60))
	shift
	while [ "$SECONDS" -lt "$end" ]; do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.25
	done
	echo "lab: $what: did not happen within a minute; the logs are in ${WEFT_STATE:-/run/weft}/supervisor" >&2
	exit 1
}

WEFT_KUBE=$(scripts/kube.sh)
export WEFT_KUBE
"$WEFT" lab up examples/supervisor/lab.yaml >/dev/null
eval "$("$WEFT" lab env --lab supervisor)"

vip() { kubectl -n $CONTOUR get svc envoy -o jsonpath='{.status.loadBalancer.ingress[0].ip}'; }
has_vip() { [ -n "$(vip)" ]; }
browse() { "$WEFT" lab exec --lab supervisor web -- curl -s --max-time 10 -H "Host: $HOST" "http://$(vip)/"; }
answers() { browse | grep -q "$1"; }

title "An ingress controller, as a Supervisor service in a namespace of its own"
show kubectl apply -f examples/contour
kubectl -n $CONTOUR rollout status deployment --timeout=120s >/dev/null
await "the envoy service got its address" has_vip
show kubectl -n $CONTOUR get svc envoy

title "A web shop of two replicas with a Service and an Ingress"
show kubectl apply -f examples/hackazon/namespace.yaml -f examples/hackazon/deployment.yaml -f examples/hackazon/service.yaml -f examples/hackazon/ingress.yaml
kubectl -n $SHOP rollout status deployment/hackazon-shop --timeout=120s >/dev/null
await "the ingress got its address" sh -c "kubectl -n $SHOP get ingress hackazon-ingress -o jsonpath='{.status.loadBalancer.ingress[0].ip}' | grep -q ."
show kubectl -n $SHOP get deploy,po,svc,ingress

title "Somebody outside browses it, and it fails"
await "the ingress controller knows the shop" answers deny-all-ingress
printf '\n$ curl -H "Host: %s" http://%s/   # on machine web, outside\n' "$HOST" "$(vip)"
browse || true

title "Why: every namespace is isolated from the others"
printf '\n$ %s\n' "kubectl weft trace -n $CONTOUR deployment/envoy $SHOP/deployment/hackazon-shop tcp/80   # each step, then:"
kubectl weft trace -n $CONTOUR deployment/envoy $SHOP/deployment/hackazon-shop tcp/80 | sed -n '/^hops: /,$p' | sed 's/), /),\n      /g' || true

title "What the shop needs is a NetworkPolicy"
show kubectl apply -f examples/hackazon/networkpolicy.yaml
await "the policy is in force" answers "Pod: hackazon-shop"
printf '\n$ curl -H "Host: %s" http://%s/   # on machine web, outside\n' "$HOST" "$(vip)"
browse
show sh -c "weft get SecurityPolicy | grep -E 'NAME|hackazon'"
show kubectl -n $SHOP get events --field-selector reason=PolicyLint -o custom-columns=MESSAGE:.message

title "The hops from the shop to a machine outside"
pod=$(kubectl -n $SHOP get pods -l app=hackazon-shop -o jsonpath='{.items[0].metadata.name}')
show kubectl -n $SHOP exec "$pod" -- traceroute -n -q 1 -w 1 -m 6 192.168.178.222

next() { printf '  %s\n      %s\n' "$1" "$2"; }
echo
echo "The lab is up; examples/supervisor/lab.yaml describes it. Next, after"
next "eval \"\$($WEFT lab env)\"" "kubectl, its plugin and weft for this lab"
next "kubectl -n $SHOP exec -it $pod -- sh" "look around inside a pod"
next "kubectl weft why -n $CONTOUR deployment/envoy $SHOP/deployment/hackazon-shop" "which object lets it pass, or drops it"
next "kubectl weft get -n $SHOP networkpolicy/hackazon-app-network-policy" "what stands behind an object"
next "weft apply examples/hackazon/overwrite-everything.yaml" "a rule of category Infrastructure for everybody"
next "weft flows" "live connections: rule, translation, member, bytes"
next "make lab-down" "take it down again"
