/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections: two flow entries each (docs/pipeline.md section 6). */
#pragma once

#include "rewrite.h"

/* What one packet needs that does not fit on the stack; one a CPU. */
struct work {
	struct packet p;
	struct walk w;
	struct flow_key key;  /* of this packet */
	struct flow_key peer; /* of the other direction */
	struct flow fresh;
	struct config config;
	__u32 now;
	__u32 ifindex;
	__u32 slot;
	__u8 smac[MAC_LEN];
	__u8 dmac[MAC_LEN];
	__u8 routed;
	__u8 dead; /* key and old hold a connection that is over */
	__u8 pad[2];
	struct flow_key old;
	struct device device;
	struct held_key held;
	__u32 to; /* what followers go out of */
	__u8 macs[2 * MAC_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct work);
	__uint(max_entries, 1);
} weft_work SEC(".maps");

enum found {
	FOUND_NONE,
	FOUND_LIVE,
	FOUND_DROP, /* w.reason says why */
};

inline_fn __u8 timeout_of(__u8 proto, __u8 state)
{
	switch (proto) {
	case IPPROTO_TCP:
		if (state == STATE_ESTABLISHED)
			return TIMEOUT_TCP_ESTABLISHED;
		return state == STATE_CLOSING ? TIMEOUT_TCP_CLOSING : TIMEOUT_TCP_OPENING;
	case IPPROTO_UDP:
		return state == STATE_NEW ? TIMEOUT_UDP_SINGLE : TIMEOUT_UDP_MULTIPLE;
	case IPPROTO_ICMP:
		return TIMEOUT_ICMP;
	}
	return TIMEOUT_OTHER;
}

inline_fn void peer_key(struct flow_key *k, const struct flow *f)
{
	tuple_exchange(&k->t, &f->t);
	k->zone = f->peer_zone;
}

/* The other half of k's connection if it points back, else NULL. */
static __noinline struct flow *peer_of(const struct flow_key *k, const struct flow *f, struct flow_key *peer)
{
	struct flow_key back;
	struct flow *p;

	peer_key(peer, f);
	p = bpf_map_lookup_elem(&weft_flows, peer);
	if (!p)
		return NULL;
	peer_key(&back, p);
	if (back.zone != k->zone || !tuple_eq(&back.t, &k->t) || (p->flags & FLOW_REPLY) == (f->flags & FLOW_REPLY))
		return NULL;
	return p;
}

/* Ticks since then; 0 if another CPU's clock was ahead. */
inline_fn __u32 age(__u32 now, __u32 then)
{
	return (__s32)(now - then) > 0 ? now - then : 0;
}

inline_fn bool half_alive(const struct work *x, const struct flow *f)
{
	return age(x->now, f->seen) <= x->config.timeout[x->slot & 1][f->timeout & (TIMEOUTS - 1)];
}

inline_fn void forget(const struct flow_key *k)
{
	if (!bpf_map_delete_elem(&weft_flows, k))
		count(COUNTER_FLOWS_REMOVED);
}

/* The zone as records name it: table.PortID or VRFID. */
inline_fn __u32 zone_id(const struct work *x)
{
	return x->device.kind == DEVICE_UPLINK ? x->device.vrf : x->device.id;
}

/* Sets up w for tuple t entering by device d. */
static __noinline void ask(struct work *x, const struct tuple *t, const struct device *d, __u8 mode, bool routed)
{
	struct walk *w = &x->w;

	w->t = *t;
	w->t0 = *t;
	w->slot = x->slot;
	w->now = x->now;
	w->ttl = WALK_NO_TTL;
	w->mode = mode;
	w->routed = routed;
	w->check_mac = 0;
	w->guarded = mode == MODE_NEW;
	w->svc = t->proto == IPPROTO_ICMP ? 8 << 8 : 0;
	if (t->proto == IPPROTO_TCP || t->proto == IPPROTO_UDP || t->proto == IPPROTO_SCTP)
		w->svc = bpf_ntohs(t->dport);
	w->echo_request = t->proto == IPPROTO_ICMP;
	w->midstream = 0;
	w->src = t->src;
	w->dst = t->dst;
	w->dport = t->dport;
	w->above = 0;
	w->l2 = 0;
	w->hops = 0;
	w->src_translations = 0;
	w->dst_translations = 0;
	w->snat = SNAT_NONE;
	w->strict = 0;
	w->from_vrf = 0;
	w->by_server = 0;
	w->tier0 = 0;
	w->vouched = 0;
	w->nrules = 0;
	w->nnats = 0;
	w->server_vrf = 0;
	w->server = 0;
	w->member = 0;
	w->why = WHY_NONE;
	w->in_turn = 0;
	w->gone = 0;
	w->persist = 0;
	w->kept_server = 0;
	w->kept_member = 0;
	w->mtu = 0;
	__builtin_memset(w->rules, 0, sizeof(w->rules));
	__builtin_memset(w->nats, 0, sizeof(w->nats));
	__builtin_memset(&w->mid_src, 0, sizeof(w->mid_src));
	__builtin_memset(w->undo_from, 0, sizeof(w->undo_from));
	w->outcome = OUTCOME_NONE;
	w->reason = 0;
	w->rule = 0;
	w->answer = ANSWER_NONE;
	w->port = d->id;
	w->from_uplink = d->kind == DEVICE_UPLINK;
	if (w->from_uplink) {
		w->vrf = d->vrf;
		w->in_addr = d->address;
		w->uplink_in = d->in;
		w->from = 0;
		w->above = 1;
		w->next = NEXT_ROUTER;
	} else {
		w->segment = d->segment;
		w->from = d->id;
		w->next = NEXT_SEGMENT;
	}
}

/* Whether a frame with these MACs is one of f, which enters by a port: routed
 * or bridged like the first, from the same MAC, and if bridged to the same. */
inline_fn bool frame_of(const struct flow *f, const __u8 *dmac, const __u8 *smac)
{
	if (!mac_eq(smac, f->smac))
		return false;
	if (f->flags & FLOW_ROUTED)
		return mac_router(dmac);
	return !mac_router(dmac) && (f->hops || mac_eq(dmac, f->dmac));
}

/* Whether this packet enters otherwise than f's packets do. */
inline_fn bool enters_otherwise(const struct work *x, const struct flow *f)
{
	if (!(f->flags & FLOW_FROM_PORT))
		return x->device.kind == DEVICE_PORT;
	return !frame_of(f, x->dmac, x->smac);
}

/* Spoofguard: whether a source and its MAC are a binding of port d. */
static __noinline bool is_bound(const struct device *d, const struct addr *src, const __u8 *mac, __u32 slot)
{
	struct endpoint_key k = { .segment = d->segment, .addr = *src };
	struct endpoint *e = endpoint_get(&k, slot);

	return e && e->port == d->id && mac_eq(e->mac, mac);
}

/* Gives f, which other CPUs may read, the outcome of the walk. Its generation
 * goes first and comes last: in between nobody forwards by it. */
inline_fn void take_outcome(struct work *x, struct flow *f)
{
	const struct walk *w = &x->w;

	f->out = w->out;
	f->out_port = w->out_port;
	f->hops = w->hops;
	f->nexthop = w->nexthop;
	f->mtu = w->mtu;
	mac_copy(f->dmac, w->out_mac);
	if (w->out_uplink)
		f->flags |= FLOW_UPLINK;
	else
		f->flags &= ~FLOW_UPLINK;
	barrier();
	f->generation = x->config.generation;
}

/* What original f is counted for from now on. */
inline_fn void take_rules(struct flow *f, const struct walk *w)
{
	__builtin_memcpy(f->rules, w->rules, sizeof(f->rules));
	__builtin_memcpy(f->nats, w->nats, sizeof(f->nats));
}

/* Notes how this packet, one of f with key k, entered. */
inline_fn void take_entry(const struct work *x, struct flow *f, const struct flow_key *k)
{
	f->generation = 0;
	barrier();
	f->in = x->ifindex;
	if (x->device.kind != DEVICE_PORT)
		return;
	f->flags |= FLOW_FROM_PORT;
	f->flags &= ~(FLOW_UNBOUND | FLOW_ROUTED);
	if (x->routed)
		f->flags |= FLOW_ROUTED;
	/* of an ICMP error, spoofguard has seen another source */
	if (x->p.icmp == ICMP_ERROR && !is_bound(&x->device, &k->t.src, x->smac, x->slot))
		f->flags |= FLOW_UNBOUND;
	mac_copy(f->smac, x->smac);
}

/* Drops a packet of the entry x->key at the flow stage. */
inline_fn void refuse(struct work *x, __u8 reason)
{
	struct flow *e = bpf_map_lookup_elem(&weft_flows, &x->key);

	if (e) {
		x->w.src = e->t.src;
		x->w.dst = e->t.dst;
	}
	x->w.answer = ANSWER_NONE;
	drop_at(&x->w, STAGE_FLOW, zone_id(x), 0, reason);
}

/* Walks the original direction again. own: it is this packet's. */
__noinline int again_original(struct work *x, __u32 own)
{
	if (!x)
		return FOUND_NONE;
	struct walk *w = &x->w;
	const struct flow_key *k = own ? &x->key : &x->peer;
	struct flow *o = bpf_map_lookup_elem(&weft_flows, k);
	struct device *d = &x->device;
	__u32 in;

	if (!o)
		return FOUND_NONE;
	if (!own) {
		in = o->in;
		d = device_get(&in, x->slot);
		if (!d) {
			drop_at(w, STAGE_PARSE, 0, 0, REASON_NO_PORT);
			w->answer = ANSWER_NONE;
			return FOUND_DROP;
		}
	}
	ask(x, &k->t, d, MODE_AGAIN, own ? x->routed : !!(o->flags & FLOW_ROUTED));
	if (own) {
		w->check_mac = 1;
		mac_copy(w->dmac, x->dmac);
	}
	w->kept_server = o->server;
	w->kept_member = o->member;
	w->kept_new = o->state == STATE_NEW;
	walk(w);
	if (!own && w->answer == ANSWER_ICMP)
		w->answer = ANSWER_NONE; /* it would be about another packet */
	if (!w->gone && w->outcome != OUTCOME_FORWARD)
		return FOUND_DROP;
	if (w->gone || !addr_eq(&w->src, &o->t.src) || !addr_eq(&w->dst, &o->t.dst) || w->dport != o->t.dport ||
	    w->out_zone != o->peer_zone || w->server != o->server || w->member != o->member) {
		if (own)
			return FOUND_NONE;
		refuse(x, REASON_STALE_CONNECTION);
		return FOUND_DROP;
	}
	if (own)
		take_entry(x, o, k);
	else if (d->kind == DEVICE_PORT && !is_bound(d, &k->t.src, o->smac, x->slot))
		o->flags |= FLOW_UNBOUND; /* the binding has another MAC now */
	o->mid_src = w->mid_src;
	take_rules(o, w);
	take_outcome(x, o);
	return FOUND_LIVE;
}

/* Asks for the way of the reply with key k to original o with key ok. */
inline_fn void ask_reply(struct work *x, const struct flow_key *k, const struct flow_key *ok, const struct flow *o,
			 const struct device *d, bool routed)
{
	struct walk *w = &x->w;

	ask(x, &k->t, d, MODE_REPLY, routed);
	w->t0 = ok->t;
	w->kept_server = o->server;
	w->undo_from[0] = o->t.src;
	if (addr_zero(&o->mid_src)) {
		w->undo_to[0] = ok->t.src;
		return;
	}
	w->undo_to[0] = o->mid_src;
	w->undo_from[1] = o->mid_src;
	w->undo_to[1] = ok->t.src;
}

/* Walks the reply direction; this packet is its. ttl: WALK_NO_TTL, or to find
 * who answers. */
__noinline int again_reply(struct work *x, __u32 ttl)
{
	if (!x)
		return FOUND_NONE;
	struct walk *w = &x->w;
	struct flow *e = bpf_map_lookup_elem(&weft_flows, &x->key);
	struct flow *o = bpf_map_lookup_elem(&weft_flows, &x->peer);

	if (!e || !o)
		return FOUND_NONE;
	ask_reply(x, &x->key, &x->peer, o, &x->device, x->routed);
	w->ttl = ttl;
	w->check_mac = 1;
	mac_copy(w->dmac, x->dmac);
	walk(w);
	if (w->outcome != OUTCOME_FORWARD)
		return FOUND_DROP;
	if (w->out_zone != x->peer.zone || !addr_eq(&w->dst, &x->peer.t.src)) {
		drop_at(w, STAGE_FLOW, zone_id(x), 0, REASON_NO_ROUTE);
		return FOUND_DROP;
	}
	take_entry(x, e, &x->key);
	take_outcome(x, e);
	return FOUND_LIVE;
}

/* Walks the reply direction of the connection just entered, in the hope that
 * the other side will answer by the way that it was asked. Where it does not,
 * its first packet is walked like any that enters otherwise. Not under a
 * trace, which is to see that walk. */
inline_fn void expect_reply(struct work *x)
{
	struct walk *w = &x->w;
	struct flow *e;
	struct device *d;

	if (x->config.trace)
		return;
	d = device_get(&x->fresh.out, x->slot);
	e = bpf_map_lookup_elem(&weft_flows, &x->peer);
	if (!d || !e || (d->kind == DEVICE_PORT && !is_bound(d, &x->peer.t.src, x->fresh.dmac, x->slot)))
		return;
	ask_reply(x, &x->peer, &x->key, &x->fresh, d, x->fresh.hops > 0);
	walk(w);
	if (w->outcome != OUTCOME_FORWARD || w->out_zone != x->key.zone || !addr_eq(&w->dst, &x->key.t.src))
		return;
	e->in = x->fresh.out;
	if (d->kind == DEVICE_PORT) {
		e->flags |= x->fresh.hops ? FLOW_FROM_PORT | FLOW_ROUTED : FLOW_FROM_PORT;
		mac_copy(e->smac, x->fresh.dmac);
	}
	take_outcome(x, e);
}

inline_fn bool reuses(const struct work *x, const struct flow *e)
{
	return x->p.t.proto == IPPROTO_TCP && !x->p.later_fragment && e->state == STATE_CLOSING &&
	       (x->p.tcp & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
}

/* Gives up the pair of x->key and x->peer: the entries are let go in
 * connect_flow, which may write the new connection over them, or by bury(). */
static __noinline void give_up(struct work *x, bool expired)
{
	struct flow *e = bpf_map_lookup_elem(&weft_flows, &x->key);
	struct flow *p = bpf_map_lookup_elem(&weft_flows, &x->peer);

	x->dead = 1;
	if (!e || !p)
		return;
	if (e->flags & FLOW_REPLY)
		let_go(p, e, x->key.t.proto, expired);
	else
		let_go(e, p, x->key.t.proto, expired);
}

/* Steps 1 and 2: the live entry for x->key, brought up to date. */
__noinline int flow_find(struct work *x)
{
	if (!x)
		return FOUND_NONE;
	struct flow *e = bpf_map_lookup_elem(&weft_flows, &x->key), *p;
	__u32 reply, found;

	if (!e)
		return FOUND_NONE;
	p = peer_of(&x->key, e, &x->peer);
	if (!p) {
		forget(&x->key);
		return FOUND_NONE;
	}
	if ((!half_alive(x, e) && !half_alive(x, p)) || reuses(x, e)) {
		give_up(x, !half_alive(x, e) && !half_alive(x, p));
		return FOUND_NONE;
	}
	x->w.src = e->t.src;
	x->w.dst = e->t.dst;
	step(&x->w, STAGE_FLOW, zone_id(x), 0);
	reply = e->flags & FLOW_REPLY;
	if ((reply ? p : e)->generation != x->config.generation || (!reply && enters_otherwise(x, e))) {
		found = again_original(x, !reply);
		if (found == FOUND_NONE)
			give_up(x, false);
		if (found != FOUND_LIVE)
			return found;
	}
	if (reply && (e->generation != x->config.generation || enters_otherwise(x, e)))
		return again_reply(x, WALK_NO_TTL);
	return FOUND_LIVE;
}

/* The state after a packet of e; flags are TCP's. */
inline_fn __u8 next_state(const struct flow *e, __u8 proto, __u8 flags)
{
	bool reply = e->flags & FLOW_REPLY;

	if (proto != IPPROTO_TCP)
		return reply && e->state == STATE_NEW ? STATE_ESTABLISHED : e->state;
	if (flags & (TCP_RST | TCP_FIN))
		return STATE_CLOSING;
	if (reply && e->state == STATE_NEW && (flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
		return STATE_REPLIED;
	if (!reply && e->state == STATE_REPLIED && (flags & TCP_ACK) && !(flags & TCP_SYN))
		return STATE_ESTABLISHED;
	return e->state;
}

/* Step 4. */
inline_fn void track(struct work *x, struct flow *e)
{
	struct flow *p;
	__u8 state;

	if (x->p.later_fragment)
		return;
	e->seen = x->now;
	state = next_state(e, x->key.t.proto, x->p.tcp);
	if (state == e->state)
		return;
	p = bpf_map_lookup_elem(&weft_flows, &x->peer);
	if (e->server && p)
		load_changes(e, p, e->state, state, x->p.tcp);
	e->state = state;
	e->closed = x->now;
	e->timeout = timeout_of(x->key.t.proto, state);
	if (p) {
		p->state = state;
		p->closed = x->now;
		p->timeout = e->timeout;
	}
}
