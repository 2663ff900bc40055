#!/usr/bin/env bash
# Fails if `make gen` changes a file, and names it. It compares the files
# themselves, so that uncommitted work does not count.
set -euo pipefail
cd "$(dirname "$0")/.."

sums() {
	find . -path ./.git -prune -o -path ./bin -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
}

before=$(sums)
make --no-print-directory gen
after=$(sums)
if [ "$before" != "$after" ]; then
	echo "gen-check: make gen changes these files; run it and commit them:" >&2
	diff <(echo "$before") <(echo "$after") | sed -n 's/^[<>] [0-9a-f]*  \.\//  /p' | sort -u >&2
	exit 1
fi
