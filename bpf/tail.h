/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Later fragments that come before their first one (docs/pipeline.md section 4, held). */
#pragma once

#include "flow.h"

enum call {
	CALL_SLOW,
	CALL_FOLLOWERS,
	CALLS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, CALLS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__array(values, int(struct __sk_buff *));
} weft_calls SEC(".maps");

/* Where a frame is put together; the stack is too small. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct held);
	__uint(max_entries, 1);
} weft_frame SEC(".maps");

/* The key of this packet's datagram, in x->held.f. */
static __noinline void fragment_key_of(struct work *x)
{
	struct fragment_key *k = &x->held.f;

	k->src = x->p.t.src;
	k->dst = x->p.t.dst;
	k->zone = x->key.zone;
	k->id = x->p.id;
	k->proto = x->p.t.proto;
	k->pad = 0;
}

inline_fn struct held *held_get(struct work *x, __u32 n)
{
	x->held.n = n;
	return bpf_map_lookup_elem(&weft_held, &x->held);
}

/* Counts a held fragment that is dropped. */
static __noinline void drop_held(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&weft_drops, &reason);

	if (n)
		__sync_fetch_and_add(n, 1); /* a packet may interrupt a sweep on this CPU */
}

/* Deletes a fragment, if it is there, that nobody will send any more. */
inline_fn void give_up_held(const struct held_key *k)
{
	if (!bpf_map_delete_elem(&weft_held, k))
		drop_held(REASON_FRAGMENT);
}

/* Whether fragments of x's datagram, x->held.f, are held. */
inline_fn bool is_awaited(struct work *x)
{
	for (int i = 0; i < MAX_HELD; i++) {
		struct held *h = held_get(x, i);

		if (h && age(x->now, h->seen) <= HELD_TICKS)
			return true;
	}
	return false;
}

/* Keeps this fragment in the first free place of x->held.f; false: it can not. */
inline_fn bool keep_fragment(struct __sk_buff *skb, struct work *x)
{
	__u32 zero = 0, len = skb->len, n;
	struct held *h, *v = bpf_map_lookup_elem(&weft_frame, &zero);

	if (!v || len < ETH_LEN + IP_LEN || len > HELD_BYTES)
		return false;
	for (n = 0; n < MAX_HELD; n++) {
		h = held_get(x, n);
		if (!h || age(x->now, h->seen) > HELD_TICKS)
			break;
	}
	if (n == MAX_HELD)
		return false;
	v->seen = x->now;
	v->len = len;
	if (bpf_skb_load_bytes(skb, 0, v->data, len))
		return false;
	return !bpf_map_update_elem(&weft_held, &x->held, v, BPF_ANY);
}

/* Writes into skb, which is x's packet, what entry x->fresh makes of it. */
inline_fn bool write_packet(struct __sk_buff *skb, struct work *x, bool l4)
{
	struct flow *f = &x->fresh;

	if ((f->flags & FLOW_NAT) && !rewrite_tuple(skb, &x->key.t, &f->t, l4))
		return false;
	return lower_ttl(skb, f->hops);
}

/* What MACs x->fresh sends with, and where to. False: a neighbour that only
 * the kernel can resolve. */
inline_fn bool find_output(struct work *x)
{
	struct flow *f = &x->fresh;
	struct neighbour_key k = { .ifindex = f->out, .addr = f->nexthop };
	struct neighbour *n;

	x->to = f->out;
	if (!(f->flags & FLOW_UPLINK)) {
		mac_copy(x->macs, f->dmac);
		return true;
	}
	n = bpf_map_lookup_elem(&weft_neighbours, &k);
	if (!n || age(x->now, n->seen) > NEIGHBOUR_TICKS)
		return false;
	mac_copy(x->macs, n->mac);
	mac_copy(x->macs + MAC_LEN, n->own);
	return true;
}

/* Sends a copy of skb with the MACs of find_output. */
inline_fn bool send_copy(struct __sk_buff *skb, struct work *x)
{
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (data + ETH_LEN > end)
		return false;
	mac_copy(data, x->macs);
	if (x->fresh.flags & FLOW_UPLINK)
		mac_copy(data + MAC_LEN, x->macs + MAC_LEN);
	else if (x->fresh.hops)
		mac_set_router(data + MAC_LEN);
	bpf_clone_redirect(skb, x->to, 0); /* a device that takes nothing is no reason to stop */
	return true;
}

struct following {
	struct __sk_buff *skb;
	struct work *x;
};

/* Sends the fragment in place n, if there is one. */
static long send_follower(__u64 n, struct following *c)
{
	struct __sk_buff *skb = c->skb;
	struct work *x = c->x;
	struct held *h = held_get(x, n);
	struct flow *e;
	__u32 len, reason;
	__u16 total;
	__u8 ttl;

	if (!h)
		return 0;
	len = h->len;
	ttl = h->data[ETH_LEN + 8];
	total = be16(h->data + ETH_LEN + 2);
	reason = REASON_FRAGMENT;
	if (age(x->now, h->seen) > HELD_TICKS || len < ETH_LEN + IP_LEN || len > HELD_BYTES)
		goto out;
	reason = REASON_TTL_EXCEEDED;
	if (x->fresh.hops && ttl <= x->fresh.hops)
		goto out;
	reason = REASON_TOO_BIG;
	if (x->fresh.hops && x->fresh.mtu && total > x->fresh.mtu)
		goto out;
	reason = REASON_INTERNAL;
	if (bpf_skb_change_tail(skb, len, 0) || bpf_skb_store_bytes(skb, 0, h->data, len, 0) ||
	    bpf_skb_pull_data(skb, ETH_LEN + IP_LEN) || !write_packet(skb, x, false) || !send_copy(skb, x))
		goto out;
	e = bpf_map_lookup_elem(&weft_flows, &x->key);
	if (e) {
		e->packets++;
		e->bytes += total;
	}
	reason = REASON_NONE;
out:
	if (reason)
		drop_held(reason);
	bpf_map_delete_elem(&weft_held, &x->held);
	return 0;
}

/* Sends the first fragment skb, then what waited for it. */
inline_fn int send_followers(struct __sk_buff *skb, struct work *x)
{
	struct following c = { .skb = skb, .x = x };

	if (bpf_skb_pull_data(skb, x->p.head))
		return internal();
	if (!find_output(x)) { /* the kernel resolves it for this packet only */
		for (int i = 0; i < MAX_HELD; i++) {
			x->held.n = i;
			give_up_held(&x->held);
		}
		return flow_apply(skb, &x->fresh, &x->key.t, true, x->now);
	}
	if (!write_packet(skb, x, true) || !send_copy(skb, x))
		return internal();
	bpf_loop(MAX_HELD, send_follower, &c, 0);
	return ACT_DROP; /* copies of it are on their way */
}
