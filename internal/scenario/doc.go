// Package scenario runs tenant stories: the scripts in scenarios/*.txtar, which
// apply intent, ask what happens to packets, change something and ask again.
//
// A script is a testscript with the files that it applies. Its commands are the
// project's words:
//
//	apply FILE...              merge Policy API bodies into the intent; prints problems
//	delete FILE...             delete all objects that the files describe
//	tables KIND                print tables: ports, segments, endpoints, routers, routes, nat, rules, gates, sets,
//	                           services, vips, pools, members
//	tables-empty               fail if a table has a row
//	trace SRC DST [PROTO]      print what weft trace prints
//	trace-json SRC DST [PROTO] print it as weft trace -o json does
//	connect SRC DST [PROTO]    make a connection: prints "delivered, source seen ADDRESS",
//	                           "answered" by the router that has DST, "refused" if the
//	                           sender is told so, or "dropped"
//	traceroute SRC DST [PROTO] print the hops, one a line, and * if nobody answers behind them
//	hold NAME SRC DST [PROTO]  open a connection and, if it is delivered, keep it; prints what connect prints
//	held NAME [BYTES]          send data on it, there and back: prints "passes data" or what connect prints
//	release NAME               close it
//	[netns] inside NAME CMD... run a program in a machine's namespace
//
// SRC, DST and PROTO are those of weft trace; PROTO is icmp if it is missing. A
// file of the archive named lab.yaml says what stands around the intent; it is
// not applied. A script ends with a deletion and tables-empty.
//
// What a trace or connect makes of a virtual server is the answer of one that
// nobody used before; those that a proof makes in earnest take turns. So the
// members of a pool must look the same to both, or be one. Held connections are
// what counts in turn: a pool that has seen hold alone is in the same state in
// all proofs.
//
// Each script runs once for each Proof, and its goldens hold in all of them. A
// proof differs in what it checks on the way and in who answers the live
// commands connect, traceroute, hold, held and release:
//
//   - compile: the tables are a function of the intent alone, whatever the order,
//     repetition and grouping of the changes; live commands are answered by the trace;
//   - trace: the oracle, which knows the intent only, agrees with every trace;
//   - bpf: the eBPF programs do to every packet of every traced or held flow what
//     the pipeline does, also after the tables changed; needs root;
//   - netns: the lab is built in network namespaces, live commands use its sockets
//     and the real traceroute, and every trace is compared with both; needs root.
//
// Only inside has no answer without namespaces; its line begins with the
// condition [netns], which is false in the other proofs.
//
// go test -update rewrites the goldens that cmp compares with.
package scenario
