#!/usr/bin/env bash
# Installs the programs that Weft calls and that are missing here.
#
#   scripts/setup.sh         what `make lab` and `make test` need
#   scripts/setup.sh --gen   also what `make gen`, `make lint` and the test of a
#                            real kubelet need
#
# As root on Debian or Ubuntu it installs them; otherwise it says what is
# missing and fails. With nothing missing it prints nothing. Go must be there
# already: see the line `go` in go.mod for the version.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin # where a plain user's shell does not look

# Each row: the Debian package, then programs or files of which any shows that
# it is there.
run_needs=(
	"ca-certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/cert.pem /etc/pki/tls/certs/ca-bundle.crt"
	"curl curl"
	"iproute2 ip"
	"iputils-ping ping"
	"nftables nft"
	"tcpdump tcpdump"
	"traceroute traceroute"
)
gen_needs=(
	"clang-19 clang-19"
	"containerd containerd"
	"gcc gcc"
	"libbpf-dev /usr/include/bpf/bpf_helpers.h"
	"libc6-dev /usr/include/stdlib.h"
	"linux-libc-dev /usr/include/linux/bpf.h"
	"llvm-19 llvm-strip-19"
	"make make"
	"protobuf-compiler protoc"
	"runc runc"
	"shellcheck shellcheck"
)

needs=("${run_needs[@]}")
case "${1-}" in
"") ;;
--gen) needs+=("${gen_needs[@]}") ;;
*)
	echo "usage: scripts/setup.sh [--gen]" >&2
	exit 2
	;;
esac

die() {
	echo "setup: $*" >&2
	exit 1
}

want=$(awk '$1 == "go" { print $2 }' go.mod)
command -v go >/dev/null ||
	die "go: not found in PATH (go.mod wants $want or newer, see https://go.dev/doc/install; sudo may hide it: sudo env PATH=\"\$PATH\" make ...)"
go list -m >/dev/null || die "go: $(go env GOVERSION) does not take this module (go.mod wants $want or newer)"

# present SIGN... succeeds if any of the programs or files is there.
present() {
	local sign
	for sign in "$@"; do
		if [[ $sign == /* && -e $sign ]] || command -v "$sign" >/dev/null; then return 0; fi
	done
	return 1
}

missing=()
for need in "${needs[@]}"; do
	read -r -a row <<<"$need"
	present "${row[@]:1}" || missing+=("${row[0]}")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

command -v apt-get >/dev/null ||
	die "missing: ${missing[*]} (names of Debian packages; install what your system calls them)"
[ "$(id -u)" = 0 ] ||
	die "missing: ${missing[*]} (run: sudo apt-get install ${missing[*]})"

echo "setup: installing ${missing[*]}"
# Of containerd only the programs are wanted, not its service.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
	trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0)
"${apt[@]}" update
"${apt[@]}" install --yes --no-install-recommends "${missing[@]}" >/dev/null
if [[ " ${missing[*]} " == *" containerd "* ]] && command -v systemctl >/dev/null; then
	systemctl disable containerd.service >/dev/null 2>&1 || true
fi
