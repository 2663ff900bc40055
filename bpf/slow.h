/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The slow way: every packet, by docs/pipeline.md in full. */
#pragma once

#include "connect.h"
#include "tail.h"

/* The program is long and runs rarely, so it must not be longer than it has
 * to: what is called in several places is out of line. */

__noinline int emit_event(struct work *x, __u32 verdict, __u32 out)
{
	if (!x)
		return 0;
	struct event *e = &x->w.event;
	__u32 n = e->steps;

	e->verdict = verdict;
	e->reason = verdict == VERDICT_DROP || verdict == VERDICT_ANSWER ? x->w.reason : 0;
	e->rule = verdict == VERDICT_DROP || verdict == VERDICT_ANSWER ? x->w.rule : 0;
	e->out = out;
	e->hops = x->w.hops;
	if (n > MAX_STEPS)
		n = MAX_STEPS;
	if (bpf_ringbuf_output(&weft_events, e, __builtin_offsetof(struct event, step) + n * sizeof(struct step), 0))
		count(COUNTER_EVENTS_LOST);
	return 0;
}

inline_fn void emit(struct work *x, __u32 verdict, __u32 out)
{
	if (x->w.trace)
		emit_event(x, verdict, out);
}

/* Counts a dropped packet: in all, at its port, and for who dropped it. */
__noinline int count_drop(struct work *x)
{
	if (!x)
		return 0;
	struct drop_key k = { .port = x->device.id, .reason = x->w.reason };
	__u64 *n = bpf_map_lookup_elem(&weft_drops, &k.reason);
	__u64 one = 1;

	if (n)
		*n += 1;
	n = bpf_map_lookup_elem(&weft_port_drops, &k);
	if (!n && bpf_map_update_elem(&weft_port_drops, &k, &one, BPF_NOEXIST)) /* another CPU may have made it */
		n = bpf_map_lookup_elem(&weft_port_drops, &k);
	if (n)
		*n += 1;
	switch (k.reason) {
	case REASON_DFW_RULE:
	case REASON_GATEWAY_RULE:
		tally_add(TALLY_RULE, x->w.rule, 1, 0, 0);
		break;
	case REASON_LB_ACCESS:
	case REASON_LB_LIMIT:
	case REASON_LB_NO_MEMBER:
		tally_add(TALLY_SERVER, x->w.rule, 1, 0, 0);
	}
	return 0;
}

__noinline int drop(struct work *x)
{
	if (!x)
		return ACT_DROP;
	count_drop(x);
	emit(x, VERDICT_DROP, 0);
	return ACT_DROP;
}

__noinline int drop_for(struct work *x, __u32 stage, __u32 reason)
{
	if (!x)
		return ACT_DROP;
	drop_at(&x->w, stage, stage == STAGE_FLOW ? zone_id(x) : x->device.id, 0, reason);
	return drop(x);
}

/* Drops for x->w.reason and answers the sender if the walk asks for it. */
__noinline int drop_answer(struct __sk_buff *skb, struct work *x)
{
	if (!x)
		return ACT_DROP;
	struct walk *w = &x->w;
	__u32 mtu = w->reason == REASON_TOO_BIG ? w->mtu : 0;
	int err;

	if (w->answer == ANSWER_NONE || x->p.icmp == ICMP_ERROR || x->p.later_fragment || (x->p.tcp & TCP_RST))
		return drop(x);
	if (w->answer == ANSWER_REJECT && x->p.t.proto == IPPROTO_TCP) {
		err = make_reset(skb, &x->p);
	} else if (w->answer == ANSWER_REJECT) {
		err = make_icmp(skb, &x->p, 3 << 8 | 13, x->p.t.dst.w[3]);
	} else {
		err = make_icmp(skb, &x->p, mtu << 16 | w->icmp_type << 8 | w->icmp_code, w->answer_addr.w[3]);
	}
	count_drop(x);
	if (err)
		return drop_for(x, STAGE_DELIVER, REASON_INTERNAL);
	emit(x, VERDICT_ANSWER, x->device.id);
	return send_back(skb, x->device.kind == DEVICE_UPLINK);
}

__noinline int forward(struct __sk_buff *skb, struct work *x, const struct flow *f)
{
	struct fragment v = {};

	if (!x || !f)
		return ACT_DROP;

	if (x->p.first_fragment) {
		fragment_key_of(x);
		v.sport = x->key.t.sport;
		v.dport = x->key.t.dport;
		v.seen = x->now;
		bpf_map_update_elem(&weft_fragments, &x->held.f, &v, BPF_ANY);
	}
	x->w.src = f->t.src;
	x->w.dst = f->t.dst;
	step(&x->w, STAGE_DELIVER, f->out_port, 0);
	x->w.hops = f->hops;
	emit(x, VERDICT_FORWARD, f->out_port);
	if (x->p.first_fragment && is_awaited(x)) {
		x->fresh = *f;
		bpf_tail_call(skb, &weft_calls, CALL_FOLLOWERS);
	}
	return flow_apply(skb, f, &x->key.t, !x->p.later_fragment, x->now);
}

/* A neighbour of an uplink says who it is; the kernel's stack hears it too. */
inline_fn int uplink_arp(struct work *x)
{
	const __u8 *a = x->p.data;
	struct neighbour_key k = { .ifindex = x->ifindex };
	struct neighbour v = { .seen = x->now };

	addr_v4(&k.addr, raw32(a + 28));
	if (x->p.head >= 42 && be16(a + 14) == 1 && be16(a + 16) == 0x0800 && be16(a + 18) == 0x0604 &&
	    mac_eq(a + 6, a + 22) && !(a[22] & 1) && raw32(a + 28) && addr_in(&k.addr, &x->device.address, x->device.plen)) {
		mac_copy(v.mac, a + 22);
		mac_copy(v.own, x->device.mac);
		bpf_map_update_elem(&weft_neighbours, &k, &v, BPF_ANY);
	}
	emit(x, VERDICT_PASS, 0);
	return ACT_PASS;
}

/* Finds the MAC that answers for an address on the segment; false: nobody. */
inline_fn bool arp_owner(struct work *x, const struct addr *target)
{
	struct endpoint_key k = { .segment = x->device.segment, .addr = *target };
	struct segment *s = segment_get(&k.segment, x->slot);
	struct endpoint *e;

	if (!s)
		return false;
	for (int i = 0; i < MAX_GATEWAYS; i++) {
		if (i < s->gateways && addr_eq(&s->gateway[i].addr, target)) {
			mac_set_router(x->w.out_mac);
			return true;
		}
	}
	e = endpoint_get(&k, x->slot);
	if (!e || e->port == x->device.id)
		return false;
	mac_copy(x->w.out_mac, e->mac);
	return true;
}

inline_fn bool arp_sender_ok(struct work *x)
{
	const __u8 *a = x->p.data;
	struct addr sender;

	if (!mac_eq(a + 6, a + 22))
		return false;
	if (!raw32(a + 28))
		return mac_eq(a + 22, x->device.mac);
	addr_v4(&sender, raw32(a + 28));
	return is_bound(&x->device, &sender, a + 22, x->slot);
}

inline_fn int port_arp(struct __sk_buff *skb, struct work *x)
{
	const __u8 *a = x->p.data;
	struct addr target;

	if (x->p.head < 42 || be16(a + 14) != 1 || be16(a + 16) != 0x0800 || be16(a + 18) != 0x0604)
		return drop_for(x, STAGE_NEIGHBOUR, REASON_MALFORMED);
	addr_v4(&x->w.src, raw32(a + 28));
	addr_v4(&target, raw32(a + 38));
	x->w.dst = target;
	if (!arp_sender_ok(x))
		return drop_for(x, STAGE_NEIGHBOUR, REASON_SPOOFGUARD);
	if (be16(a + 20) != 1 || !arp_owner(x, &target) || make_arp_reply(skb, &x->p, &x->w))
		return drop_for(x, STAGE_NEIGHBOUR, REASON_ARP_UNKNOWN);
	step(&x->w, STAGE_NEIGHBOUR, x->device.id, 0);
	emit(x, VERDICT_ANSWER, x->device.id);
	return send_back(skb, false);
}

inline_fn bool fragment_ports(struct work *x)
{
	struct fragment *v;

	fragment_key_of(x);
	v = bpf_map_lookup_elem(&weft_fragments, &x->held.f);

	if (!v || age(x->now, v->seen) > FRAGMENT_TICKS)
		return false;
	x->key.t.sport = v->sport;
	x->key.t.dport = v->dport;
	return true;
}

/* Walks with this packet's entry once more, to find who answers. */
__noinline int who_answers(struct work *x, __u32 ttl)
{
	if (!x)
		return 0;
	struct walk *w = &x->w;
	struct flow *e = bpf_map_lookup_elem(&weft_flows, &x->key);

	if (!e)
		return 0;
	if (e->flags & FLOW_REPLY)
		return again_reply(x, ttl);
	ask(x, &x->key.t, &x->device, MODE_AGAIN, x->routed);
	w->kept_server = e->server;
	w->kept_member = e->member;
	w->kept_new = e->state == STATE_NEW;
	w->ttl = ttl;
	w->check_mac = 1;
	mac_copy(w->dmac, x->dmac);
	return walk(w);
}

/* Keeps a fragment until its first one has come. */
static __noinline int hold(struct __sk_buff *skb, struct work *x)
{
	if (!keep_fragment(skb, x))
		return drop_for(x, STAGE_FLOW, REASON_FRAGMENT);
	count(COUNTER_FRAGMENTS_HELD);
	step(&x->w, STAGE_FLOW, zone_id(x), 0);
	emit(x, VERDICT_HOLD, 0);
	return ACT_DROP;
}

/* Step 3: the packet is larger than the uplink w came to. */
inline_fn int drop_too_big(struct __sk_buff *skb, struct work *x)
{
	struct walk *w = &x->w;

	drop_at(w, STAGE_DELIVER, w->out_port, 0, REASON_TOO_BIG);
	answer_icmp(w, 3, 4, &w->in_addr);
	return drop_answer(skb, x);
}

/* Whether the largest packet that the kernel makes of this one is too big. */
inline_fn bool too_big(struct __sk_buff *skb, const struct packet *p, __u32 mtu)
{
	__u32 len = p->total;

	if (!mtu)
		return false;
	if (skb->gso_size)
		len = skb->gso_size + IP_LEN + (p->t.proto == IPPROTO_TCP ? (p->data[L4_OFF + 12] >> 4) * 4 : 8);
	return len > mtu;
}

/* Step 3a: the hop limit ends on the way. */
inline_fn int ttl_ends(struct __sk_buff *skb, struct work *x)
{
	who_answers(x, x->p.ttl);
	if (x->w.outcome != OUTCOME_DROP)
		return drop_for(x, STAGE_FLOW, REASON_TTL_EXCEEDED);
	return drop_answer(skb, x);
}

struct quoted {
	__u8 b[QUOTED_LEN];
};

inline_fn void quoted_sum4(__u8 *sum, __be32 from, __be32 to)
{
	*(__u16 *)sum = sum_replace4(*(__u16 *)sum, from, to);
}

inline_fn void quoted_sum(__u8 *sum, __u16 from, __u16 to)
{
	*(__u16 *)sum = sum_replace(*(__u16 *)sum, from, to);
}

inline_fn void quoted_address(__u8 *q, __u32 off, __u8 proto, __be32 to)
{
	__be32 from = *(__be32 *)(q + off);

	quoted_sum4(q + 10, from, to);
	if (proto == IPPROTO_UDP && *(__u16 *)(q + 26))
		quoted_sum4(q + 26, from, to);
	*(__be32 *)(q + off) = to;
}

inline_fn void quoted_port(__u8 *q, __u32 off, __u8 proto, __be16 from, __be16 to)
{
	if (from == to)
		return;
	if (proto == IPPROTO_ICMP) {
		quoted_sum(q + 22, from, to);
		off = 24;
	}
	if (proto == IPPROTO_UDP && *(__u16 *)(q + 26))
		quoted_sum(q + 26, from, to);
	*(__be16 *)(q + off) = to;
}

/* Rewrites what an ICMP error quotes, as section 5 says; t is its tuple. */
__noinline int rewrite_quoted(struct __sk_buff *skb, struct work *x, struct flow *f, struct tuple *t)
{
	struct quoted q, old;
	__u8 proto;
	__s64 diff;

	if (!x || !f || !t)
		return -1;
	proto = t->proto;
	__builtin_memcpy(&q, x->p.data + QUOTED_OFF, QUOTED_LEN);
	old = q;
	quoted_address(q.b, 12, proto, f->t.dst.w[3]);
	quoted_address(q.b, 16, proto, f->t.src.w[3]);
	quoted_port(q.b, IP_LEN, proto, t->sport, f->t.dport);
	quoted_port(q.b, IP_LEN + 2, proto, t->dport, f->t.sport);
	if (proto == IPPROTO_UDP && *(__u16 *)(old.b + 26) && !*(__u16 *)(q.b + 26))
		*(__u16 *)(q.b + 26) = 0xffff;
	diff = bpf_csum_diff((void *)&old, QUOTED_LEN, (void *)&q, QUOTED_LEN, 0);
	bpf_l4_csum_replace(skb, L4_OFF + 2, 0, diff, 0);
	return bpf_skb_store_bytes(skb, QUOTED_OFF, &q, sizeof(q), 0);
}

/* Section 5. */
inline_fn int icmp_error(struct __sk_buff *skb, struct work *x)
{
	struct tuple quoted = {};
	struct flow *e, *f = &x->fresh;
	int found;

	if (!quoted_tuple(&x->p, &quoted))
		return drop_for(x, STAGE_FLOW, REASON_ICMP_UNRELATED);
	tuple_exchange(&x->key.t, &quoted);
	found = flow_find(x);
	if (found == FOUND_DROP)
		return drop(x);
	if (x->dead) {
		x->old = x->peer;
		bury(x, true);
	}
	e = bpf_map_lookup_elem(&weft_flows, &x->key);
	if (found == FOUND_NONE || !e) {
		x->w.src = x->p.t.src;
		x->w.dst = x->p.t.dst;
		return drop_for(x, STAGE_FLOW, REASON_ICMP_UNRELATED);
	}
	if (e->hops && x->p.ttl <= e->hops)
		return ttl_ends(skb, x);
	*f = *e;
	x->w.src = addr_eq(&x->p.t.src, &x->key.t.src) ? f->t.src : x->p.t.src;
	x->w.dst = f->t.dst;
	step(&x->w, STAGE_DELIVER, f->out_port, 0);
	x->w.hops = f->hops;
	emit(x, VERDICT_FORWARD, f->out_port);
	if ((f->flags & FLOW_NAT) && rewrite_quoted(skb, x, f, &quoted))
		return internal();
	/* the outer addresses; ICMP's checksum does not cover them */
	if (!write_addresses(skb, x->w.src.w[3], x->w.dst.w[3]))
		return internal();
	f->flags &= ~FLOW_NAT;
	return flow_apply(skb, f, &x->key.t, false, x->now);
}

/* Why a packet may begin no connection, or REASON_NONE. */
inline_fn __u8 refused(const struct packet *p)
{
	if (p->later_fragment)
		return REASON_FRAGMENT;
	if (p->t.proto == IPPROTO_TCP && (p->tcp & TCP_RST))
		return REASON_TCP_STATE;
	return p->icmp == ICMP_REPLY ? REASON_NO_CONNECTION : REASON_NONE;
}

/* A packet without an entry. */
inline_fn int first_packet(struct __sk_buff *skb, struct work *x)
{
	__u8 reason = refused(&x->p);

	if (reason) {
		if (x->dead)
			bury(x, true);
		x->w.src = x->key.t.src;
		x->w.dst = x->key.t.dst;
		x->w.answer = ANSWER_NONE;
		return drop_for(x, STAGE_FLOW, reason);
	}
	ask(x, &x->key.t, &x->device, MODE_NEW, x->routed);
	x->w.midstream = x->p.t.proto == IPPROTO_TCP && (x->p.tcp & (TCP_SYN | TCP_ACK)) != TCP_SYN;
	x->w.ttl = x->p.ttl;
	x->w.check_mac = 1;
	mac_copy(x->w.dmac, x->dmac);
	walk(&x->w);
	if (x->w.outcome == OUTCOME_LOCAL) {
		if (x->dead)
			bury(x, true);
		if (make_echo_reply(skb, &x->p))
			return drop_for(x, STAGE_DELIVER, REASON_INTERNAL);
		emit(x, VERDICT_ANSWER, x->device.id);
		return send_back(skb, x->device.kind == DEVICE_UPLINK);
	}
	if (x->w.outcome != OUTCOME_FORWARD) {
		if (x->dead)
			bury(x, true);
		return drop_answer(skb, x);
	}
	if (x->w.hops && too_big(skb, &x->p, x->w.mtu)) {
		if (x->dead)
			bury(x, true);
		return drop_too_big(skb, x);
	}
	if (!connect_flow(x)) {
		if (x->dead)
			bury(x, true);
		return drop(x);
	}
	step(&x->w, STAGE_CONNECT, x->fresh.t.sport != x->key.t.sport ? bpf_ntohs(x->fresh.t.sport) : 0, 0);
	return forward(skb, x, &x->fresh);
}

inline_fn int known_packet(struct __sk_buff *skb, struct work *x)
{
	struct flow *e = bpf_map_lookup_elem(&weft_flows, &x->key);

	if (!e)
		return first_packet(skb, x);
	if (e->hops && too_big(skb, &x->p, e->mtu)) {
		who_answers(x, WALK_NO_TTL);
		return x->w.outcome == OUTCOME_FORWARD ? drop_too_big(skb, x) : drop_answer(skb, x);
	}
	if (e->hops && x->p.ttl <= e->hops)
		return ttl_ends(skb, x);
	track(x, e);
	e->packets += skb->gso_segs ?: 1;
	e->bytes += x->p.total;
	return forward(skb, x, e);
}

inline_fn bool traced(const struct work *x)
{
	if (x->config.trace == TRACE_ONE)
		return x->ifindex == x->config.trace_ifindex && tuple_eq(&x->p.t, &x->config.trace_tuple);
	return x->config.trace == TRACE_ALL;
}

inline_fn int ip_packet(struct __sk_buff *skb, struct work *x)
{
	int found;

	x->w.trace = traced(x);
	x->w.src = x->p.t.src;
	x->w.dst = x->p.t.dst;
	x->key.t = x->p.t;
	x->key.zone = x->ifindex;
	mac_copy(x->dmac, x->p.data);
	mac_copy(x->smac, x->p.data + MAC_LEN);
	x->routed = mac_router(x->dmac);
	if (x->device.kind == DEVICE_UPLINK) {
		x->key.zone = x->device.vrf | ZONE_UPLINK;
		x->routed = 1;
		if (!mac_eq(x->dmac, x->device.mac))
			return drop_for(x, STAGE_PARSE, REASON_MAC_UNKNOWN);
	} else if (!is_bound(&x->device, &x->p.t.src, x->smac, x->slot)) {
		return drop_for(x, STAGE_SPOOFGUARD, REASON_SPOOFGUARD);
	} else {
		step(&x->w, STAGE_SPOOFGUARD, x->device.id, 0);
	}
	if (x->p.icmp == ICMP_ERROR)
		return icmp_error(skb, x);
	if (x->p.later_fragment && !fragment_ports(x))
		return hold(skb, x);
	found = flow_find(x);
	if (found == FOUND_DROP)
		return drop_answer(skb, x);
	if (found == FOUND_LIVE)
		return known_packet(skb, x);
	x->old = x->peer;
	return first_packet(skb, x);
}

