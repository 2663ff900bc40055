/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What connections weigh: open connections and fails of virtual servers and
 * members, hits, packets and bytes of rules (docs/pipeline.md sections 6 and 10). */
#pragma once

#include "walk.h"

inline_fn void less_open(__u32 kind, __u32 id)
{
	struct gauge_key k = { .kind = kind, .id = id };
	struct gauge *g = bpf_map_lookup_elem(&weft_gauges, &k);

	if (g)
		__sync_fetch_and_add(&g->open, -1);
}

/* A connection that a virtual server took is over: the first CPU to see that
 * takes it off. False: another one was. */
static __noinline bool load_off(struct flow *o)
{
	if (__sync_val_compare_and_swap(&o->loaded, 1, 0) != 1)
		return false;
	less_open(GAUGE_SERVER, o->server);
	less_open(GAUGE_MEMBER, o->member);
	return true;
}

/* What answers a SYN that is refused; a client can not make its member say it otherwise. */
#define RST_ACK (4 | 16)

/* The connection with halves f, whose packet this is, and p changes its state. */
static __noinline void load_changes(struct flow *f, struct flow *p, __u8 from, __u8 to, __u8 tcp)
{
	struct gauge_key k = { .kind = GAUGE_MEMBER, .id = f->member };
	struct gauge *g;

	if (to == STATE_CLOSING)
		load_off(f->flags & FLOW_REPLY ? p : f);
	if (from != STATE_NEW || !(f->flags & FLOW_REPLY))
		return;
	g = bpf_map_lookup_elem(&weft_gauges, &k);
	if (!g)
		return;
	if (to == STATE_CLOSING && (tcp & RST_ACK) == RST_ACK)
		__sync_fetch_and_add(&g->fails, 1);
	else if (to == STATE_REPLIED)
		g->fails = 0;
}

inline_fn void tally_add(__u32 kind, __u32 id, __u64 hits, __u64 packets, __u64 bytes)
{
	struct tally_key k = { .kind = kind, .id = id };
	struct tally first = { .hits = hits, .packets = packets, .bytes = bytes };
	struct tally *t = bpf_map_lookup_elem(&weft_tallies, &k);

	if (!t) {
		if (!bpf_map_update_elem(&weft_tallies, &k, &first, BPF_NOEXIST))
			return;
		t = bpf_map_lookup_elem(&weft_tallies, &k);
		if (!t)
			return;
	}
	/* a packet may interrupt a sweep on this CPU */
	__sync_fetch_and_add(&t->hits, hits);
	__sync_fetch_and_add(&t->packets, packets);
	__sync_fetch_and_add(&t->bytes, bytes);
}

/* Adds to all that a connection is counted for. */
static __noinline void tally_flow(const struct flow *o, __u64 hits, __u64 packets, __u64 bytes)
{
	for (int i = 0; i < MAX_FLOW_RULES && o->rules[i]; i++)
		tally_add(TALLY_RULE, o->rules[i], hits, packets, bytes);
	for (int i = 0; i < MAX_FLOW_NATS && o->nats[i]; i++)
		tally_add(TALLY_NAT, o->nats[i], hits, packets, bytes);
	if (o->server)
		tally_add(TALLY_SERVER, o->server, hits, packets, bytes);
}

/* Adds what original o and reply r forwarded since the last time. */
static __noinline void tally_traffic(struct flow *o, const struct flow *r)
{
	__u64 packets = o->packets + r->packets, bytes = o->bytes + r->bytes;
	__u64 had = o->tallied_packets, had_bytes = o->tallied_bytes;

	/* less: the reply has just been entered anew */
	if (packets <= had || bytes < had_bytes ||
	    __sync_val_compare_and_swap(&o->tallied_packets, had, packets) != had)
		return;
	o->tallied_bytes = bytes;
	tally_flow(o, 0, packets - had, bytes - had_bytes);
}

/* A pair is about to be deleted; expired: it was not alive any more. */
static __noinline void let_go(struct flow *o, const struct flow *r, __u8 proto, bool expired)
{
	struct gauge_key k = { .kind = GAUGE_MEMBER, .id = o->member };
	struct gauge *g;

	tally_traffic(o, r);
	if (!o->server)
		return;
	if (!load_off(o) || !expired || proto != IPPROTO_TCP || o->state != STATE_NEW)
		return;
	g = bpf_map_lookup_elem(&weft_gauges, &k);
	if (g)
		__sync_fetch_and_add(&g->fails, 1);
}

/* A new connection is in: what the walk chose takes effect. */
static __noinline void load_on(struct walk *w, const struct flow *o)
{
	struct gauge *g;

	tally_flow(o, 1, 0, 0);
	if (!o->server)
		return;
	g = gauge_of(GAUGE_SERVER, o->server);
	if (g)
		__sync_fetch_and_add(&g->open, 1);
	g = gauge_of(GAUGE_MEMBER, o->member);
	if (g)
		__sync_fetch_and_add(&g->open, 1);
	if (w->in_turn) {
		g = gauge_of(GAUGE_POOL, w->pool);
		if (g)
			__sync_fetch_and_add(&g->turn, 1);
	}
	if (w->persist) {
		struct client c = { .member = o->member, .seen = w->now };

		bpf_map_update_elem(&weft_clients, &w->client_key, &c, BPF_ANY);
	}
}
