/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The maps, all pinned by name. Sizes are defaults that the loader may change. */
#pragma once

#include "state.h"
#include "stages.h"

#include <bpf/bpf_helpers.h>

#define TABLE(NAME, TYPE, KEY, VALUE, MAX, FLAGS)           \
	struct {                                            \
		__uint(type, TYPE);                         \
		__type(key, KEY);                           \
		__type(value, VALUE);                       \
		__uint(max_entries, MAX);                   \
		__uint(map_flags, FLAGS);                   \
		__uint(pinning, LIBBPF_PIN_BY_NAME);        \
	} NAME SEC(".maps")

#define NO_PREALLOC BPF_F_NO_PREALLOC

TABLE(weft_config, BPF_MAP_TYPE_ARRAY, __u32, struct config, 1, 0);
TABLE(weft_devices, BPF_MAP_TYPE_HASH, __u32, struct device_row, 16384, NO_PREALLOC);
TABLE(weft_endpoints, BPF_MAP_TYPE_HASH, struct endpoint_key, struct endpoint_row, 131072, NO_PREALLOC);
TABLE(weft_segments, BPF_MAP_TYPE_HASH, __u32, struct segment_row, 32768, NO_PREALLOC);
TABLE(weft_vrfs, BPF_MAP_TYPE_HASH, __u32, struct vrf_row, 32768, NO_PREALLOC);
TABLE(weft_routes, BPF_MAP_TYPE_LPM_TRIE, struct route_key, struct route_row, 262144, NO_PREALLOC);
TABLE(weft_nexthops, BPF_MAP_TYPE_HASH, __u32, struct nexthop_row, 4096, NO_PREALLOC);
TABLE(weft_nat_index, BPF_MAP_TYPE_LPM_TRIE, struct nat_index_key, struct nat_index_row, 131072, NO_PREALLOC);
TABLE(weft_nat, BPF_MAP_TYPE_HASH, struct nat_key, struct nat_row, 262144, NO_PREALLOC);
TABLE(weft_identities, BPF_MAP_TYPE_LPM_TRIE, struct identity_key, struct identity_row, 1048576, NO_PREALLOC);
TABLE(weft_rules, BPF_MAP_TYPE_LPM_TRIE, struct rule_key, struct rule_row, 4194304, NO_PREALLOC);
TABLE(weft_classes, BPF_MAP_TYPE_HASH, struct class_key, struct class_row, 262144, NO_PREALLOC);
TABLE(weft_pairs, BPF_MAP_TYPE_HASH, struct pair_key, struct pair_row, 1048576, NO_PREALLOC);
TABLE(weft_vips, BPF_MAP_TYPE_LPM_TRIE, struct vip_key, struct vip_row, 262144, NO_PREALLOC);
TABLE(weft_pools, BPF_MAP_TYPE_HASH, __u32, struct pool_row, 65536, NO_PREALLOC);
TABLE(weft_slots, BPF_MAP_TYPE_HASH, struct slots_key, struct slots_row, 131072, NO_PREALLOC);
TABLE(weft_members, BPF_MAP_TYPE_HASH, struct member_key, struct member_row, 262144, NO_PREALLOC);

TABLE(weft_flows, BPF_MAP_TYPE_LRU_HASH, struct flow_key, struct flow, 262144, 0);
TABLE(weft_fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment_key, struct fragment, 8192, 0);
TABLE(weft_held, BPF_MAP_TYPE_LRU_HASH, struct held_key, struct held, 1024, 0);
TABLE(weft_neighbours, BPF_MAP_TYPE_LRU_HASH, struct neighbour_key, struct neighbour, 4096, 0);
TABLE(weft_gauges, BPF_MAP_TYPE_HASH, struct gauge_key, struct gauge, 262144, NO_PREALLOC);
TABLE(weft_clients, BPF_MAP_TYPE_LRU_HASH, struct client_key, struct client, 65536, 0);
TABLE(weft_tallies, BPF_MAP_TYPE_PERCPU_HASH, struct tally_key, struct tally, 262144, NO_PREALLOC);
TABLE(weft_drops, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, REASON_MAX, 0);
TABLE(weft_port_drops, BPF_MAP_TYPE_PERCPU_HASH, struct drop_key, __u64, 65536, NO_PREALLOC);
TABLE(weft_counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, 16, 0);

/* What weft_counters count. */
enum counter {
	COUNTER_FLOWS_ENTERED, /* new entries of the flow table, two a connection */
	COUNTER_FLOWS_REMOVED, /* entries that a program deleted */
	COUNTER_ANSWERS,       /* ICMP errors, resets and echo replies sent */
	COUNTER_EVENTS_LOST,   /* trace records that found the ring full */
	COUNTER_SNAT_RETRIES,  /* source ports that were taken */
	COUNTER_FRAGMENTS_HELD, /* that came before their first one */
	COUNTER_LOGS_LOST,     /* lines about rules beyond the rate, or that found the ring full */
	COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} weft_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} weft_log SEC(".maps");

static __always_inline void count(__u32 counter)
{
	__u64 *n = bpf_map_lookup_elem(&weft_counters, &counter);

	if (n)
		__sync_fetch_and_add(n, 1); /* a packet may interrupt a sweep on this CPU */
}
