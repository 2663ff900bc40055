// Package pipeline says what one packet does in one table.Set: the stages in
// their order, the connection table as a value, verdict, reason and steps.
//
// It implements docs/pipeline.md, to whose sections (§) the comments point.
// The eBPF programs implement the same page and are judged by this package,
// packet by packet; rules and NAT rows are therefore scanned here in the plain
// order that the page gives them. A trace is a Result's Steps.
//
//	run.go       Run: §2 parse, §3 entry, and what a Result holds
//	neighbour.go §3 ARP
//	fragment.go  §4 later fragments
//	icmp.go      §5 ICMP errors
//	flow.go      §6 packets of known connections; connect.go new ones
//	state.go     what packets leave behind; lru.go the replacement of rows
//	load.go      §6 open connections, fails and persistence; sweep.go the sweep
//	walk.go      §7 the walk; firewall.go and nat.go its policies
//	balance.go   §8 virtual servers
//	answer.go    §9 what is sent back
//	tally.go     §10 counts
//	hash.go      the hash of §6
//	index.go     look-ups in a table.Set
//
// There is no clock, randomness or I/O: equal inputs give equal results.
package pipeline
