/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Address translation within a walk. Rows are found by the address that they
 * rewrite (source outwards, destination inwards): a trie gives the list of
 * rows that cover it, in order, and the first that matches decides.
 */
#pragma once

#include "firewall.h"

inline_fn bool nat_matches(struct walk *w, const struct nat *n)
{
	if (n->proto && n->proto != w->t.proto)
		return false;
	if (w->svc < n->first || w->svc > n->last)
		return false;
	if (n->iface && n->iface != w->nat_iface)
		return false;
	return addr_in(&w->src, &n->src, n->src_plen) && addr_in(&w->dst, &n->dst, n->dst_plen);
}

/* Makes of a what n says. The pool varies the bits of host_mask. */
inline_fn void nat_address(const struct nat *n, struct addr *a)
{
	__u32 host = 0;

	if (n->one_to_one)
		host = bpf_ntohl(a->w[3]);
	else if (n->host_mask)
		host = hash_end(hash_addr(HASH_SEED, a));
	*a = n->to;
	a->w[3] |= bpf_htonl(host & n->host_mask);
}

inline_fn void nat_source(struct walk *w, const struct nat *n)
{
	if (w->src_translations == 1)
		w->mid_src = w->src;
	nat_address(n, &w->src);
	w->src_translations++;
	w->snat = n->one_to_one ? SNAT_ONE_TO_ONE : n->port_last ? SNAT_BLOCK : SNAT_NONE;
	w->port_first = n->port_first;
	w->port_last = n->port_last;
}

inline_fn void nat_destination(struct walk *w, const struct nat *n)
{
	nat_address(n, &w->dst);
	w->dst_translations++;
	if (n->to_port && (w->t.proto == IPPROTO_TCP || w->t.proto == IPPROTO_UDP)) {
		w->dport = bpf_htons(n->to_port);
		w->svc = n->to_port;
	}
}

/* The first row of w->vrf that matches, or NULL. */
inline_fn struct nat *nat_row(struct walk *w)
{
	struct nat_index_key ik = {
		.plen = 64 + 128,
		.vrf = w->vrf,
		.dir = w->nat_dir,
		.addr = w->nat_dir == NAT_OUT ? w->src : w->dst,
	};
	struct nat_index *ix = nat_index_get(&ik, w->slot);
	struct nat_key k = {};
	__u32 count;

	if (!ix)
		return NULL;
	k.list = ix->list;
	count = ix->count;
	for (int i = 0; i < MAX_NAT_ROWS && i < count; i++) {
		k.index = i;
		struct nat *n = nat_get(&k, w->slot);

		if (!n)
			break;
		if (nat_matches(w, n))
			return n;
	}
	return NULL;
}

/* Does what a row says; false if the packet stops. */
inline_fn bool nat_apply(struct walk *w, const struct nat *n, __u32 stage)
{
	__u32 i = w->nnats;

	if (n->action == NAT_TRANSLATE) {
		if ((w->nat_dir == NAT_OUT ? w->src_translations : w->dst_translations) >= MAX_TRANSLATIONS) {
			drop_at(w, stage, w->vrf, n->id, REASON_NAT_DEPTH);
			return false;
		}
		if (w->nat_dir == NAT_OUT)
			nat_source(w, n);
		else
			nat_destination(w, n);
	}
	if (i < MAX_FLOW_NATS) {
		w->nats[i & (MAX_FLOW_NATS - 1)] = n->id;
		w->nnats = i + 1;
	}
	step(w, stage, w->vrf, n->id);
	return true;
}

/* Translates the destination of what came from above by the first row of
 * w->vrf that matches, and asks the gateway's firewall, if there is one, about
 * the addresses that the row wants it to see. False if the packet stops. */
__noinline int inwards(struct walk *w, __u32 has_rows)
{
	struct nat *n = NULL;
	__u8 match = MATCH_INTERNAL;

	if (!w)
		return 0;
	w->nat_dir = NAT_IN;
	w->gw_dst = w->dst;
	w->gw_svc = w->svc;
	if (has_rows)
		n = nat_row(w);
	if (n) {
		match = n->match;
		if (!nat_apply(w, n, STAGE_DNAT))
			return 0;
	}
	if (!w->gateway.id || match == MATCH_BYPASS)
		return 1;
	if (match == MATCH_INTERNAL) {
		w->gw_dst = w->dst;
		w->gw_svc = w->svc;
	}
	w->gw_src = w->src;
	return gateway_firewall(w, STAGE_GATEWAY_IN);
}

/* The same for the source of what leaves upwards; the firewall is first. */
__noinline int outwards(struct walk *w, __u32 has_rows)
{
	struct nat *n = NULL;
	__u8 match = MATCH_INTERNAL;

	if (!w)
		return 0;
	w->nat_dir = NAT_OUT;
	if (has_rows)
		n = nat_row(w);
	if (n)
		match = n->match;
	if (w->gateway.id && match != MATCH_BYPASS) {
		w->gw_src = w->src;
		if (n && match == MATCH_EXTERNAL && n->action == NAT_TRANSLATE)
			nat_address(n, &w->gw_src);
		w->gw_dst = w->dst;
		w->gw_svc = w->svc;
		if (!gateway_firewall(w, STAGE_GATEWAY_OUT))
			return 0;
	}
	return !n || nat_apply(w, n, STAGE_SNAT);
}
