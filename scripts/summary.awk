# Shortens `go test -v`: one line for each package, and at the end every skipped
# test with its reason, which is the last line that it logged, and what failed,
# with the ends of what it printed. The names come last: that is what people see.

BEGIN { HEAD = 20; TAIL = 80 }

# ends is the first and the last lines of a text.
function ends(text,    line, n, i, out) {
	n = split(text, line, "\n") - 1
	for (i = 1; i <= n; i++) {
		if (i == HEAD + 1 && n > HEAD + TAIL) {
			out = out "    ... (" n - HEAD - TAIL " lines)\n"
			i = n - TAIL + 1
		}
		out = out line[i] "\n"
	}
	return out
}

/^=== (RUN|PAUSE|CONT|NAME) / { test = $3; next }

/^ *--- SKIP: / { skipped[++skips] = "  " $3 ": " said[$3]; next }

/^ *--- FAIL: / { failed[++fails] = $3; line[fails] = $0; next }

/^(ok|FAIL|\?) *\t/ {
	if ($1 == "FAIL" && NF > 1) {
		for (i = 1; i <= fails; i++) {
			bad = bad line[i] "\n" ends(text[failed[i]])
			names = names line[i] "\n"
		}
		# Without the name of a test it did not build, panicked or took too long.
		if (!fails) bad = bad ends(all)
		names = names $0 "\n"
	}
	if ($1 != "?") print
	fflush()
	split("", text)
	fails = 0
	test = all = ""
	next
}

{
	if (match($0, /^ +[^ ]+\.go:[0-9]+: /)) said[test] = substr($0, RLENGTH + 1)
	if ($0 ~ /^ *--- PASS: / || $0 == "PASS" || $0 == "FAIL") next
	text[test] = text[test] $0 "\n"
	all = all $0 "\n"
}

END {
	if (skips) print skips " skipped:"
	for (i = 1; i <= skips; i++) print skipped[i]
	if (names || all) printf "what failed said:\n%s%sfailed:\n%s", bad, ends(all), names
}
