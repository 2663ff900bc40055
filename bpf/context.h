/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a walk knows and finds out, its steps, and its look-ups in the tables. */
#pragma once

#include "common.h"

enum mode {
	MODE_NEW,
	MODE_AGAIN,
	MODE_REPLY,
};

enum next {
	NEXT_SEGMENT,
	NEXT_ROUTER,
	NEXT_ENDPOINT,
	NEXT_DONE,
};

enum outcome {
	OUTCOME_NONE,
	OUTCOME_FORWARD,
	OUTCOME_LOCAL, /* the router answers echo */
	OUTCOME_DROP,
};

/* What goes back to the sender of a dropped packet. */
enum answer {
	ANSWER_NONE,
	ANSWER_ICMP,
	ANSWER_REJECT, /* RST or ICMP 3,13 */
};

enum snat_kind {
	SNAT_NONE,
	SNAT_BLOCK, /* other source ports may be taken */
	SNAT_ONE_TO_ONE,
};

struct walk {
	/* the question */
	struct tuple t;  /* as sent */
	struct tuple t0; /* its connection's first packet, for hashes */
	__u32 slot;
	__u32 now; /* tick */
	__u32 ttl; /* remaining; WALK_NO_TTL: does not run out */
	__u8 mode;
	__u8 routed;
	__u8 check_mac; /* dmac is the frame's */
	__u8 dmac[MAC_LEN];
	__u8 trace;
	__u16 svc; /* host order */
	__u8 echo_request;
	__u8 midstream; /* mode new: a TCP segment that begins no connection */
	__u8 guarded; /* the packet passed spoofguard where it entered */
	__u8 from_uplink;
	/* mode again: who took the connection; 0: nobody */
	__u32 kept_server;
	__u32 kept_member;
	__u8 kept_new; /* the connection is New: its member has to be up */
	struct ruleset_ref uplink_in; /* valid iff from_uplink */
	/* mode reply: the original's sources, last first */
	struct addr undo_from[2];
	struct addr undo_to[2];

	/* where it is */
	__u8 next;
	__u8 above;
	__u8 l2;      /* NEXT_ENDPOINT within a segment, no router before */
	__u8 hops;
	__u8 src_translations;
	__u8 dst_translations;
	__u8 snat;
	__u8 strict;
	__u32 segment;
	__u32 port; /* table.PortID by which it entered the segment */
	__u32 from; /* that by which it entered at first; 0: an uplink */
	__u32 vrf;
	__u32 from_vrf; /* the Tier-1 it came up from */
	struct addr src;
	struct addr dst;
	__be16 dport;
	__u16 port_first;
	__u16 port_last;
	__u16 pad;
	struct addr in_addr;  /* who sends ICMP errors */
	struct addr endpoint; /* address to deliver to on segment */
	struct addr mid_src;
	__u8 by_server; /* a virtual server at a router took it, or a monitor sent it */
	__u8 tier0;     /* it has come to a Tier-0, which checked the source */
	__u8 vouched;   /* a virtual server took it after that: no uRPF any more */
	__u8 nrules;
	__u8 nnats;
	__u32 server_vrf; /* the router of that virtual server */
	__u32 rules[8]; /* MAX_FLOW_RULES are used */
	__u32 nats[MAX_FLOW_NATS];

	/* firewall's and NAT's question and answer */
	struct ruleset_ref ruleset[MAX_RULESETS];
	struct addr remote;
	__u32 realm;
	__u32 nat_iface;
	__u32 nat_dir;
	__u32 hit; /* rule that decided; 0: none */
	__u8 hit_strict;
	__u8 hit_logged;

	/* the gateway's firewall: question */
	struct ruleset_ref gateway;
	struct addr gw_src;
	struct addr gw_dst;
	__u16 gw_svc;

	/* the virtual server's choice */
	__u8 why;     /* enum why */
	__u8 in_turn; /* connect moves the pool's counter on */
	__u8 gone;    /* mode again: its member is gone */
	__u32 server;
	__u32 member;
	__u32 pool;
	__u32 persist;
	struct vip_key vip_key;
	struct slots_key slots_key;
	struct member_key member_key;
	struct gauge_key gauge_key;
	struct client_key client_key;

	/* the outcome */
	__u8 outcome;
	__u8 reason;
	__u8 answer;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 out_uplink;
	__u8 out_mac[MAC_LEN];
	__u32 rule;
	__u32 out;      /* ifindex */
	__u32 out_port; /* table.PortID */
	__u32 out_zone;
	__u32 mtu; /* of the uplink; 0: no limit */
	struct addr answer_addr;
	struct addr nexthop;

	struct event event;
};

#define WALK_NO_TTL 256

/* What is beyond MAX_STEPS is not kept. */
inline_fn void write_step(struct walk *w, __u32 stage, __u32 id, __u32 rule, __u8 reason, __u8 why)
{
	__u32 n = w->event.steps;

	if (n >= MAX_STEPS)
		return;
	struct step *s = &w->event.step[n & (MAX_STEPS - 1)];

	s->id = id;
	s->rule = rule;
	s->src = w->src;
	s->dst = w->dst;
	s->stage = stage;
	s->reason = reason;
	s->why = why;
	w->event.steps = n + 1;
}

/* Out of line: only traced packets come here. */
__noinline int record_step(struct walk *w, __u32 stage, __u32 id, __u32 rule)
{
	if (w)
		write_step(w, stage, id, rule, REASON_NONE, WHY_NONE);
	return 0;
}

inline_fn void step(struct walk *w, __u32 stage, __u32 id, __u32 rule)
{
	if (w->trace)
		record_step(w, stage, id, rule);
}

/* Ends the walk with a drop at a stage. Out of line: most packets pass. */
__noinline int drop_at(struct walk *w, __u32 stage, __u32 id, __u32 rule, __u32 reason)
{
	if (!w)
		return 0;
	if (w->trace)
		write_step(w, stage, id, rule, reason, WHY_NONE);
	w->outcome = OUTCOME_DROP;
	w->next = NEXT_DONE;
	w->reason = reason;
	w->rule = rule;
	return 0;
}

inline_fn void answer_icmp(struct walk *w, __u8 type, __u8 code, const struct addr *from)
{
	w->answer = ANSWER_ICMP;
	w->icmp_type = type;
	w->icmp_code = code;
	w->answer_addr = *from;
}

/* ---- look-ups: each returns the current slot, or NULL ---- */

#define LOOKUP(NAME, MAP, KEYTYPE, TYPE)                                          \
	inline_fn struct TYPE *NAME(KEYTYPE *key, __u32 slot)                     \
	{                                                                         \
		struct TYPE##_row *row = bpf_map_lookup_elem(&MAP, key);          \
                                                                                  \
		if (!row)                                                         \
			return NULL;                                              \
		return row->slot[slot & 1].present ? &row->slot[slot & 1] : NULL; \
	}

LOOKUP(device_get, weft_devices, __u32, device)
LOOKUP(endpoint_get, weft_endpoints, struct endpoint_key, endpoint)
LOOKUP(segment_get, weft_segments, __u32, segment)
LOOKUP(vrf_get, weft_vrfs, __u32, vrf)
LOOKUP(route_get, weft_routes, struct route_key, route)
LOOKUP(nexthop_get, weft_nexthops, __u32, nexthop)
LOOKUP(nat_index_get, weft_nat_index, struct nat_index_key, nat_index)
LOOKUP(nat_get, weft_nat, struct nat_key, nat)
LOOKUP(identity_get, weft_identities, struct identity_key, identity)
LOOKUP(rule_get, weft_rules, struct rule_key, rule)
LOOKUP(class_get, weft_classes, struct class_key, class)
LOOKUP(pair_get, weft_pairs, struct pair_key, pair)
LOOKUP(vip_get, weft_vips, struct vip_key, vip)
LOOKUP(pool_get, weft_pools, __u32, pool)
LOOKUP(slots_get, weft_slots, struct slots_key, slots)
LOOKUP(member_get, weft_members, struct member_key, member)

inline_fn struct route *route_lookup(struct walk *w, const struct addr *dst)
{
	struct route_key k = { .plen = 32 + 128, .vrf = w->vrf, .addr = *dst };

	return route_get(&k, w->slot);
}
