// Package bpf holds the data plane's programs (weft.c and its headers), the
// loader generated from them, and the codec from a table.Set to map entries.
//
// The C sources and the compiled object are dual licensed, GPL-2.0-only or
// Apache-2.0, because the kernel asks for a GPL-compatible program.
package bpf

//go:generate go tool bpf2go -tags linux -target bpfel -cflags "-O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -mcpu=v3 -I/usr/include/x86_64-linux-gnu" -type event -type step -type config -type device -type endpoint_key -type endpoint -type segment -type gateway -type ruleset_ref -type vrf -type route_key -type route -type nexthop -type nat_index_key -type nat_index -type nat_key -type nat -type identity_key -type identity -type rule_key -type rule -type addr -type tuple -type flow_key -type flow -type fragment_key -type fragment -type neighbour_key -type neighbour -type counter -type timeout_class -type flow_state -type verdict -type trace_mode -type device_kind -type presence -type ruleset_flag -type vrf_flag -type reserved_identity -type bound -type vrf_kind -type route_kind -type nat_dir -type nat_action -type rule_action Weft weft.c
