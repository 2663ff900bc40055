/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The walk: what the routers, the firewall and NAT make of a tuple
 * (docs/pipeline.md section 7). It reads tables and changes only its struct
 * walk, never a packet: a flow entry keeps the outcome.
 *
 * Each stage is a global function, so that the verifier looks at it once.
 */
#pragma once

#include "context.h"

#include "balance.h"

/* ---- stages ---- */

inline_fn bool gateway_of(const struct segment *s, const struct addr *src, struct addr *gw)
{
	if (!s->gateways)
		return false;
	*gw = s->gateway[0].addr;
	for (int i = 0; i < MAX_GATEWAYS; i++) {
		if (i < s->gateways && addr_in(src, &s->gateway[i].addr, s->gateway[i].plen)) {
			*gw = s->gateway[i].addr;
			break;
		}
	}
	return true;
}

/* Whether TCP or UDP is asked of a virtual server: else the VIP is only an
 * address of whoever has it. */
inline_fn bool served(const struct walk *w, const struct vip *v)
{
	return v->server && (w->t.proto == IPPROTO_TCP || w->t.proto == IPPROTO_UDP);
}

/* An address of a router or load balancer, at which nothing listens but echo. */
static __noinline int walk_local(struct walk *w, __u32 id)
{
	if (w->mode == MODE_NEW && w->echo_request) {
		step(w, STAGE_LOCAL, id, 0);
		w->outcome = OUTCOME_LOCAL;
		w->next = NEXT_DONE;
		return 0;
	}
	drop_at(w, STAGE_LOCAL, id, 0, REASON_NO_LISTENER);
	if (w->t.proto == IPPROTO_UDP)
		answer_icmp(w, 3, 3, &w->dst);
	return 0;
}

/* Distributed virtual servers; false if the packet stops here. */
inline_fn bool distribute(struct walk *w, const struct endpoint *e, const struct segment *s)
{
	struct vip *v = vip_find(w, VIP_DLB, e->dlb);

	if (!v)
		return true;
	w->realm = s->realm;
	if (served(w, v))
		return balance(w, STAGE_DLB);
	walk_local(w, w->port);
	return false;
}

/* Judges what leaves w->port for its segment; false: it stops here. */
inline_fn bool leave_port(struct walk *w, const struct segment *s)
{
	struct endpoint_key k = { .segment = w->segment, .addr = w->src };
	struct endpoint *e = endpoint_get(&k, w->slot);

	if (!e || e->port != w->port) {
		drop_at(w, STAGE_SPOOFGUARD, w->port, 0, REASON_SPOOFGUARD);
		return false;
	}
	if (!w->guarded)
		step(w, STAGE_SPOOFGUARD, w->port, 0);
	w->guarded = 0;
	if (e->dlb && w->routed && !distribute(w, e, s))
		return false;
	if (s->monitor)
		w->by_server = 1;
	if (e->unfiltered || addr_eq(&w->dst, &k.addr)) /* or its own traffic */
		return true;
	__builtin_memcpy(w->ruleset, e->out, sizeof(w->ruleset));
	w->remote = w->dst;
	w->realm = s->realm;
	return firewall(w, STAGE_DFW_OUT, e->port);
}

/* Mode reply: takes back that a distributed virtual server made its VIP the
 * source, because the client had become its own member. */
static __noinline void undo_distributed(struct walk *w)
{
	struct endpoint_key k = { .segment = w->segment, .addr = w->src };
	struct endpoint *e = endpoint_get(&k, w->slot);

	if (!e || !e->dlb || !vip_find(w, VIP_DLB, e->dlb))
		return;
	for (int i = 0; i < 2; i++) {
		if (addr_zero(&w->undo_from[i]) || !addr_eq(&w->dst, &w->undo_from[i]))
			continue;
		w->dst = w->undo_to[i];
		return;
	}
}

/* Enters w->segment from w->port. */
__noinline int walk_segment(struct walk *w)
{
	if (!w)
		return 0;
	struct segment *s = segment_get(&w->segment, w->slot);
	struct addr src = w->src;

	if (!s) {
		drop_at(w, STAGE_L2, w->segment, 0, REASON_NO_GATEWAY);
		return 0;
	}
	if (w->mode == MODE_REPLY) {
		if (w->routed && w->kept_server)
			undo_distributed(w);
	} else if (!leave_port(w, s)) {
		return 0;
	}
	if (!w->routed) {
		w->l2 = 1;
		w->endpoint = w->dst;
		w->next = NEXT_ENDPOINT;
		return 0;
	}
	w->check_mac = 0;
	if (!s->vrf || !gateway_of(s, &src, &w->in_addr)) {
		drop_at(w, STAGE_L2, w->segment, 0, REASON_NO_GATEWAY);
		return 0;
	}
	w->vrf = s->vrf;
	w->above = 0;
	w->from_vrf = 0;
	w->next = NEXT_ROUTER;
	return 0;
}

/* uRPF; true if the source may come this way. */
inline_fn bool reverse_path(struct walk *w, const struct vrf *v)
{
	struct route *r;

	if (w->vouched)
		return true;
	if (w->above) {
		r = route_lookup(w, &w->src);
		if (!r)
			return true;
		if (r->kind == ROUTE_DOWN)
			return v->kind != VRF_TIER0;
		return r->kind != ROUTE_CONNECTED && r->kind != ROUTE_LOCAL && r->kind != ROUTE_NAT &&
		       r->kind != ROUTE_VIA && r->kind != ROUTE_VIP;
	}
	if (v->kind != VRF_TIER0 || !w->from_vrf)
		return true;
	r = route_lookup(w, &w->src);
	return r && r->kind == ROUTE_DOWN && r->to == w->from_vrf;
}

/* Mode reply: takes back what SNAT or a virtual server did here. */
inline_fn void undo_snat(struct walk *w)
{
	for (int i = 0; i < 2; i++) {
		if (addr_zero(&w->undo_from[i]) || !addr_eq(&w->dst, &w->undo_from[i]))
			continue;
		struct route *r = route_lookup(w, &w->dst);

		if (r && (r->kind == ROUTE_NAT || r->kind == ROUTE_LOCAL || r->kind == ROUTE_VIP)) {
			w->dst = w->undo_to[i];
			if (w->kept_server)
				w->above = 0;
		}
		return;
	}
}

/* What a packet meets that leaves w->vrf upwards; false: it stops here. */
inline_fn bool leave_router(struct walk *w, const struct vrf *v, __u32 iface, const struct ruleset_ref *rules)
{
	if (w->mode == MODE_REPLY || w->server_vrf == w->vrf)
		return true;
	w->gateway.id = rules ? rules->id : 0;
	w->gateway.flags = rules ? rules->flags : 0;
	if (!w->gateway.id && !(v->flags & VRF_NAT_OUT))
		return true;
	w->realm = v->realm;
	w->nat_iface = iface;
	return outwards(w, v->flags & VRF_NAT_OUT);
}

inline_fn void walk_out(struct walk *w, const struct nexthop *n)
{
	w->outcome = OUTCOME_FORWARD;
	w->next = NEXT_DONE;
	w->out = n->ifindex;
	w->out_port = n->uplink;
	w->out_uplink = 1;
	w->out_zone = w->vrf | ZONE_UPLINK;
	w->mtu = n->mtu;
	w->nexthop = addr_zero(&n->addr) ? w->dst : n->addr;
}

inline_fn void walk_uplink(struct walk *w, const struct route *r, const struct vrf *v)
{
	__u32 n = r->nexthops;
	struct nexthop *nh;
	__u32 id;

	if (n == 0 || n > MAX_NEXTHOPS) {
		drop_at(w, STAGE_ROUTE, w->vrf, 0, REASON_NO_ROUTE);
		return;
	}
	id = hash_tuple(&w->t0) % n;
	barrier_var(id); /* or the mask, which the verifier wants, is optimised away */
	id = r->nexthop[id & (MAX_NEXTHOPS - 1)];
	nh = nexthop_get(&id, w->slot);
	if (!nh || !nh->ifindex) {
		drop_at(w, STAGE_ROUTE, w->vrf, 0, REASON_NO_ROUTE);
		return;
	}
	if (leave_router(w, v, nh->uplink, &nh->out))
		walk_out(w, nh);
}

/* Leaves a Node router by its port. */
inline_fn void walk_node(struct walk *w, const struct route *r, const struct vrf *v)
{
	if (!leave_router(w, v, 0, NULL))
		return;
	w->segment = v->node_segment;
	w->port = v->node_port;
	w->routed = !addr_zero(&r->via);
	w->check_mac = 0;
	w->next = NEXT_SEGMENT;
}

inline_fn void walk_up(struct walk *w, const struct route *r, const struct vrf *v)
{
	if (!leave_router(w, v, 0, &v->out))
		return;
	w->from_vrf = w->vrf;
	w->vrf = r->to;
	w->in_addr = r->via;
	w->above = 0;
}

/* What a packet meets that enters w->vrf; false: it stops here. */
inline_fn bool enter_router(struct walk *w, const struct vrf *v)
{
	bool uplink = w->from_uplink && v->kind == VRF_TIER0;
	const struct ruleset_ref *rules = uplink ? &w->uplink_in : &v->in;

	if (w->mode == MODE_REPLY) {
		undo_snat(w);
		return true;
	}
	if (!reverse_path(w, v)) {
		drop_at(w, STAGE_URPF, w->vrf, 0, REASON_URPF);
		return false;
	}
	w->gateway = *rules;
	if (!w->above || (!w->gateway.id && !(v->flags & VRF_NAT_IN)))
		return true;
	w->realm = v->realm;
	w->nat_iface = uplink ? w->port : 0;
	return inwards(w, v->flags & VRF_NAT_IN);
}

/* A VIP of w->vrf: the route on to the member, or NULL if the walk is over. */
inline_fn struct route *walk_vip(struct walk *w, const struct vrf *v)
{
	struct addr asked = w->dst, client = w->src;
	struct route *r;
	struct vip *s = w->mode == MODE_REPLY ? NULL : vip_find(w, VIP_VRF, w->vrf);

	if (!s || !served(w, s)) {
		walk_local(w, w->vrf);
		return NULL;
	}
	w->realm = v->realm;
	if (!balance(w, STAGE_LB))
		return NULL;
	w->by_server = 1;
	w->vouched = w->tier0 && addr_eq(&client, &w->src);
	w->server_vrf = w->vrf;
	w->in_addr = asked;
	w->above = 0;
	r = route_lookup(w, &w->dst);
	if (r)
		step(w, STAGE_ROUTE, w->vrf, 0);
	if (r && (r->kind == ROUTE_LOCAL || r->kind == ROUTE_NAT || r->kind == ROUTE_VIP)) {
		drop_at(w, STAGE_LOCAL, w->vrf, 0, REASON_NO_LISTENER);
		return NULL;
	}
	return r;
}

/* One router. */
__noinline int walk_router(struct walk *w)
{
	if (!w)
		return 0;
	struct vrf *v = vrf_get(&w->vrf, w->slot);
	struct route *r;

	if (!v) {
		drop_at(w, STAGE_ROUTE, w->vrf, 0, REASON_NO_ROUTE);
		return 0;
	}
	if (!enter_router(w, v))
		return 0;
	if (v->kind == VRF_TIER0)
		w->tier0 = 1;
	r = route_lookup(w, &w->dst);
	if (r)
		step(w, STAGE_ROUTE, w->vrf, 0);
	if (r && r->kind == ROUTE_LOCAL) {
		walk_local(w, w->vrf);
		return 0;
	}
	if (r && r->kind == ROUTE_VIP) {
		r = walk_vip(w, v);
		if (w->next == NEXT_DONE)
			return 0;
	}
	if (r && r->kind == ROUTE_NAT) {
		drop_at(w, STAGE_LOCAL, w->vrf, 0, REASON_NO_LISTENER);
		return 0;
	}
	if (w->ttl <= 1) {
		drop_at(w, STAGE_TTL, w->vrf, 0, REASON_TTL_EXCEEDED);
		answer_icmp(w, 11, 0, &w->in_addr);
		return 0;
	}
	if (w->ttl != WALK_NO_TTL)
		w->ttl--;
	w->hops++;
	step(w, STAGE_TTL, w->vrf, 0);
	if (!r || r->kind == ROUTE_DISCARD ||
	    (w->above && (r->kind == ROUTE_UP || r->kind == ROUTE_UPLINK || r->kind == ROUTE_NODE))) {
		drop_at(w, STAGE_ROUTE, w->vrf, 0, REASON_NO_ROUTE);
		answer_icmp(w, 3, 0, &w->in_addr);
		return 0;
	}
	switch (r->kind) {
	case ROUTE_CONNECTED:
	case ROUTE_VIA:
		w->segment = r->segment;
		w->endpoint = r->kind == ROUTE_VIA ? r->via : w->dst;
		w->l2 = 0;
		w->next = NEXT_ENDPOINT;
		break;
	case ROUTE_UP:
		walk_up(w, r, v);
		break;
	case ROUTE_DOWN:
		w->vrf = r->to;
		w->in_addr = r->via;
		w->above = 1;
		break;
	case ROUTE_UPLINK:
		walk_uplink(w, r, v);
		break;
	case ROUTE_NODE:
		walk_node(w, r, v);
		break;
	default:
		drop_at(w, STAGE_ROUTE, w->vrf, 0, REASON_NO_ROUTE);
	}
	return 0;
}

inline_fn void endpoint_missing(struct walk *w)
{
	if (w->l2) {
		drop_at(w, STAGE_L2, w->segment, 0, REASON_MAC_UNKNOWN);
		return;
	}
	drop_at(w, STAGE_ENDPOINT, w->segment, 0, REASON_NO_ENDPOINT);
	answer_icmp(w, 3, 1, &w->in_addr);
}

/* Delivers to w->endpoint on w->segment. */
__noinline int walk_endpoint(struct walk *w)
{
	if (!w)
		return 0;
	struct endpoint_key k = { .segment = w->segment, .addr = w->endpoint };
	struct endpoint *e = endpoint_get(&k, w->slot);
	struct segment *s = segment_get(&w->segment, w->slot);

	if (!e || !s || (w->l2 && w->check_mac && !mac_eq(e->mac, w->dmac))) {
		endpoint_missing(w);
		return 0;
	}
	w->check_mac = 0;
	step(w, w->l2 ? STAGE_L2 : STAGE_ENDPOINT, w->segment, 0);
	if (s->monitor && w->mode != MODE_REPLY) {
		drop_at(w, STAGE_ENDPOINT, w->segment, 0, REASON_NO_ENDPOINT);
		return 0;
	}
	if (!e->node && !e->ifindex) {
		w->l2 = 0;
		endpoint_missing(w);
		return 0;
	}
	if (w->mode != MODE_REPLY && !e->unfiltered && e->port != w->from) {
		__builtin_memcpy(w->ruleset, e->in, sizeof(w->ruleset));
		w->remote = w->src;
		w->realm = s->realm;
		if (!firewall(w, STAGE_DFW_IN, e->port))
			return 0;
	}
	if (e->node) {
		w->vrf = e->node;
		w->in_addr = k.addr;
		w->above = 1;
		w->from_vrf = 0;
		w->next = NEXT_ROUTER;
		return 0;
	}
	w->outcome = OUTCOME_FORWARD;
	w->next = NEXT_DONE;
	w->out = e->ifindex;
	w->out_port = e->port;
	w->out_zone = e->ifindex;
	w->out_uplink = 0;
	mac_copy(w->out_mac, e->mac);
	return 0;
}

/* Walks until the outcome is known. The caller has filled in the question. */
__noinline int walk(struct walk *w)
{
	int routers = 0;

	if (!w)
		return 0;
	/* every router is followed by at most two other stages */
	for (int i = 0; i < 3 * MAX_ROUTERS + 2; i++) {
		if (w->next == NEXT_DONE)
			return 0;
		if (w->next == NEXT_SEGMENT) {
			walk_segment(w);
		} else if (w->next == NEXT_ENDPOINT) {
			walk_endpoint(w);
		} else if (routers++ < MAX_ROUTERS) {
			walk_router(w);
		} else {
			break;
		}
	}
	if (w->next != NEXT_DONE)
		drop_at(w, STAGE_ROUTE, w->vrf, 0, REASON_ROUTER_LOOP);
	return 0;
}
