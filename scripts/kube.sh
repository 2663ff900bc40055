#!/usr/bin/env bash
# Builds the Kubernetes that labs and tests run, once: etcd, kube-apiserver,
# kube-controller-manager, kube-scheduler, kubectl and kubelet, as pinned by
# tools/kube/go.mod, into a cache. With everything there it does nothing.
#
#   scripts/kube.sh           prints the directory of the programs at the end
#
# WEFT_KUBE names another directory than the default.
set -euo pipefail
cd "$(dirname "$0")/../tools/kube"

version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' go.mod)
dir=${WEFT_KUBE:-/var/cache/weft/kube/$version}

# Each row: the program, then its package.
programs=(
	"etcd go.etcd.io/etcd/server/v3"
	"kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver"
	"kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager"
	"kube-scheduler k8s.io/kubernetes/cmd/kube-scheduler"
	"kubectl k8s.io/kubernetes/cmd/kubectl"
	"kubelet k8s.io/kubernetes/cmd/kubelet"
)

stamp=$(cat go.mod go.sum | sha256sum | cut -d ' ' -f 1)
if [ "$(cat "$dir/.stamp" 2>/dev/null)" = "$stamp" ]; then
	echo "$dir"
	exit 0
fi

mkdir -p "$dir"
exec 9>"$dir/.lock"
flock 9 # one builder at a time
if [ "$(cat "$dir/.stamp" 2>/dev/null)" = "$stamp" ]; then
	echo "$dir"
	exit 0
fi

# What the programs say of themselves.
minor=${version#v1.}
minor=${minor%%.*}
flags="-s -w"
for x in component-base/version client-go/pkg/version; do
	flags+=" -X k8s.io/$x.gitVersion=$version -X k8s.io/$x.gitMajor=1 -X k8s.io/$x.gitMinor=$minor -X k8s.io/$x.gitTreeState=clean"
done

say() { echo "kube: $*" >&2; }
say "building Kubernetes $version into $dir, once (about 8 minutes on 2 cores)"
start=$SECONDS
n=0
for row in "${programs[@]}"; do
	read -r name package <<<"$row"
	n=$((n + 1))
	say "$n/${#programs[@]} $name"
	# -buildvcs: the module has no version of its own.
	CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags "$flags" -o "$dir/$name.new" "$package"
	mv "$dir/$name.new" "$dir/$name"
done
echo "$stamp" >"$dir/.stamp"
say "done in $((SECONDS - start)) s"
echo "$dir"
