# Shortens `go test -v`: one line for each package, all output of one that
# fails, and at the end every skipped test with its reason, which is the last
# line that it logged, and once more what failed: the end is what people see.

/^=== (RUN|PAUSE|CONT|NAME) / { test = $3; next }

/^ *--- SKIP: / { skipped[++skips] = "  " $3 ": " said[$3]; next }

/^(ok|FAIL|\?) *\t/ {
	if ($1 == "FAIL" && NF > 1) {
		printf "%s", text
		failed = failed text $0 "\n"
	}
	if ($1 != "?") print
	fflush()
	text = ""
	next
}

{
	if (match($0, /^ +[^ ]+\.go:[0-9]+: /)) said[test] = substr($0, RLENGTH + 1)
	if ($0 !~ /^ *--- PASS: / && $0 != "PASS") text = text $0 "\n"
}

END {
	printf "%s", text
	if (skips) print skips " skipped:"
	for (i = 1; i <= skips; i++) print skipped[i]
	if (failed) printf "failed:\n%s", failed
}
