/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Address translation within a walk. Rows are found by the address that they
 * rewrite (source outwards, destination inwards): a trie gives the list of
 * rows that cover it, in order, and the first that matches decides.
 */
#pragma once

#include "context.h"

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

/* Applies the first row of w->vrf that matches; false if the packet stops. */
__noinline int translate(struct walk *w, __u32 stage)
{
	if (!w)
		return 0;
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
		return 1;
	k.list = ix->list;
	count = ix->count;
	for (int i = 0; i < MAX_NAT_ROWS && i < count; i++) {
		k.index = i;
		struct nat *n = nat_get(&k, w->slot);

		if (!n)
			break;
		if (!nat_matches(w, n))
			continue;
		if (n->action == NAT_TRANSLATE) {
			if ((w->nat_dir == NAT_OUT ? w->src_translations : w->dst_translations) >= MAX_TRANSLATIONS) {
				drop_at(w, stage, w->vrf, n->id, REASON_NAT_DEPTH);
				return 0;
			}
			if (w->nat_dir == NAT_OUT)
				nat_source(w, n);
			else
				nat_destination(w, n);
		}
		step(w, stage, w->vrf, n->id);
		return 1;
	}
	return 1;
}
