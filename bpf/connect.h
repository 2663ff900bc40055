/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* New connections: both entries, the source port (docs/pipeline.md section 6, connect). */
#pragma once

#include "flow.h"

enum reserved {
	RESERVED,
	TAKEN,
	FULL,
};

inline_fn bool key_eq(const struct flow_key *a, const struct flow_key *b)
{
	return a->zone == b->zone && tuple_eq(&a->t, &b->t);
}

#define EEXIST 17

/* Enters f under a key that has no entry; -EEXIST if it has. */
inline_fn long enter_new(const struct flow_key *k, const struct flow *f)
{
	long err = bpf_map_update_elem(&weft_flows, k, f, BPF_NOEXIST);

	if (!err)
		count(COUNTER_FLOWS_ENTERED);
	return err;
}

/* Enters the reply entry x->fresh under x->peer if that key is free. */
__noinline int reserve(struct work *x)
{
	struct flow_key other;
	struct flow *f, *p;
	long err;

	if (!x)
		return FULL;
	if (x->dead && key_eq(&x->peer, &x->old)) {
		f = bpf_map_lookup_elem(&weft_flows, &x->peer);
		if (f) {
			*f = x->fresh;
			return RESERVED;
		}
	}
	err = enter_new(&x->peer, &x->fresh);
	if (err != -EEXIST)
		return err ? FULL : RESERVED;
	f = bpf_map_lookup_elem(&weft_flows, &x->peer);
	p = f ? peer_of(&x->peer, f, &other) : NULL;
	if (p) {
		if (half_alive(x, f) || half_alive(x, p))
			return TAKEN;
		if (f->flags & FLOW_REPLY)
			let_go(p, f, other.t.proto, true);
		else
			let_go(f, p, other.t.proto, true);
		forget(&other);
	} else if (f && age(x->now, f->seen) <= 1) {
		return TAKEN; /* another CPU is about to enter the other half */
	}
	forget(&x->peer);
	return enter_new(&x->peer, &x->fresh) ? TAKEN : RESERVED;
}

/* Whether SNAT may choose another source port for this packet. */
inline_fn bool port_block(const struct work *x)
{
	__u8 proto = x->key.t.proto;

	return x->w.snat == SNAT_BLOCK && (proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_ICMP);
}

/* Reserves with the packet's own source port, or another of the block. */
inline_fn int reserve_port(struct work *x)
{
	struct walk *w = &x->w;
	__u16 own = bpf_ntohs(x->key.t.sport);
	__u32 n, h;
	int got = TAKEN;

	if (!port_block(x) || (own >= w->port_first && own <= w->port_last)) {
		got = reserve(x);
		if (got != TAKEN || !port_block(x))
			return got;
	}
	n = (__u32)w->port_last - w->port_first + 1;
	h = hash_tuple(&x->key.t);
	for (__u32 i = 0; i < MAX_PORT_TRIES; i++) {
		if (i >= n)
			break;
		count(COUNTER_SNAT_RETRIES);
		x->peer.t.dport = bpf_htons(w->port_first + (h + i) % n);
		got = reserve(x);
		if (got != TAKEN)
			return got;
	}
	return got;
}

inline_fn __u8 first_state(const struct work *x)
{
	if (x->p.t.proto == IPPROTO_TCP && (x->p.tcp & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return STATE_ESTABLISHED;
	return STATE_NEW;
}

/* Lets go of what is left of the connection that x->key had before. */
inline_fn void bury(struct work *x, bool own)
{
	if (own)
		forget(&x->key);
	forget(&x->old);
	x->dead = 0;
}

/* Enters the original entry x->fresh under x->key. */
inline_fn bool enter_original(struct work *x)
{
	struct flow *f = x->dead ? bpf_map_lookup_elem(&weft_flows, &x->key) : NULL;

	if (f) {
		*f = x->fresh;
		return true;
	}
	return !enter_new(&x->key, &x->fresh);
}

/* Enters both halves of the connection that x->w found a way for. Leaves the
 * original in x->fresh. True, or the walk's reason is set. */
__noinline int connect_flow(struct work *x)
{
	if (!x)
		return 0;
	struct walk *w = &x->w;
	struct flow *f = &x->fresh;
	__u8 state = first_state(x);
	int got;

	if (x->p.t.proto == IPPROTO_TCP && state == STATE_ESTABLISHED && w->strict) {
		drop_at(w, STAGE_CONNECT, 0, 0, REASON_TCP_STATE);
		return 0;
	}
	__builtin_memset(f, 0, sizeof(*f));
	f->seen = x->now;
	f->born = x->now;
	f->server = w->server;
	f->loaded = 0;
	f->member = w->member;
	f->state = state;
	f->timeout = timeout_of(x->key.t.proto, state);
	f->flags = FLOW_REPLY;
	f->peer_zone = x->key.zone;
	tuple_exchange(&f->t, &x->key.t);
	/* what the other side will send */
	x->peer.zone = w->out_zone;
	x->peer.t.src = w->dst;
	x->peer.t.dst = w->src;
	x->peer.t.sport = w->dport;
	x->peer.t.dport = x->key.t.sport;
	x->peer.t.proto = x->key.t.proto;
	x->peer.t.pad[0] = x->peer.t.pad[1] = x->peer.t.pad[2] = 0;
	if (!tuple_eq(&x->peer.t, &f->t))
		f->flags |= FLOW_NAT;
	if (port_block(x))
		f->flags |= FLOW_NAT;
	got = reserve_port(x);
	if (got == TAKEN) {
		drop_at(w, STAGE_CONNECT, 0, 0, w->snat == SNAT_ONE_TO_ONE || port_block(x) ? REASON_SNAT_EXHAUSTED : REASON_TUPLE_IN_USE);
		return 0;
	}
	if (got == FULL) {
		drop_at(w, STAGE_CONNECT, 0, 0, REASON_FLOW_TABLE_FULL);
		return 0;
	}
	f->flags &= ~FLOW_REPLY;
	tuple_exchange(&f->t, &x->peer.t);
	f->peer_zone = w->out_zone;
	f->packets = 1;
	f->loaded = !!w->server;
	f->bytes = x->p.total;
	f->mid_src = w->mid_src;
	take_rules(f, w);
	take_entry(x, f, &x->key);
	take_outcome(x, f);
	if (!enter_original(x)) {
		forget(&x->peer);
		drop_at(w, STAGE_CONNECT, 0, 0, REASON_FLOW_TABLE_FULL);
		return 0;
	}
	if (x->dead && !key_eq(&x->peer, &x->old))
		bury(x, false);
	load_on(w, f);
	expect_reply(x);
	return 1;
}
