/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Small things every header needs: addresses, the clock, the hash. */
#pragma once

#include "maps.h"

#include <bpf/bpf_endian.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>

#define inline_fn static __always_inline

#ifndef barrier
#define barrier() asm volatile("" ::: "memory")
#endif
#ifndef barrier_var
#define barrier_var(v) asm volatile("" : "+r"(v))
#endif

inline_fn void addr_v4(struct addr *a, __be32 v4)
{
	a->w[0] = 0;
	a->w[1] = 0;
	a->w[2] = bpf_htonl(0xffff);
	a->w[3] = v4;
}

inline_fn bool addr_eq(const struct addr *a, const struct addr *b)
{
	return a->w[3] == b->w[3] && a->w[2] == b->w[2] && a->w[1] == b->w[1] && a->w[0] == b->w[0];
}

inline_fn bool addr_zero(const struct addr *a)
{
	return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

/* Whether the first plen bits of a and b are the same. */
inline_fn bool addr_in(const struct addr *a, const struct addr *b, __u32 plen)
{
	for (int i = 0; i < 4; i++) {
		__u32 bits = plen > 32 * i ? plen - 32 * i : 0;
		__u32 mask = bits >= 32 ? 0xffffffff : bits ? bpf_htonl(0xffffffffu << (32 - bits)) : 0;

		if ((a->w[i] ^ b->w[i]) & mask)
			return false;
	}
	return true;
}

inline_fn bool mac_eq(const __u8 *a, const __u8 *b)
{
	return *(__u16 *)a == *(__u16 *)b && *(__u16 *)(a + 2) == *(__u16 *)(b + 2) &&
	       *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

inline_fn void mac_copy(__u8 *to, const __u8 *from)
{
	*(__u16 *)to = *(__u16 *)from;
	*(__u16 *)(to + 2) = *(__u16 *)(from + 2);
	*(__u16 *)(to + 4) = *(__u16 *)(from + 4);
}

/* table.RouterMAC, 02:50:56:56:44:52 */
inline_fn bool mac_router(const __u8 *m)
{
	return *(__u16 *)m == bpf_htons(0x0250) && *(__u16 *)(m + 2) == bpf_htons(0x5656) &&
	       *(__u16 *)(m + 4) == bpf_htons(0x4452);
}

inline_fn void mac_set_router(__u8 *m)
{
	*(__u16 *)m = bpf_htons(0x0250);
	*(__u16 *)(m + 2) = bpf_htons(0x5656);
	*(__u16 *)(m + 4) = bpf_htons(0x4452);
}

inline_fn struct config *config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&weft_config, &zero);
}

inline_fn __u32 clock_tick(const struct config *c)
{
	return c->clock ? c->clock : (__u32)(bpf_ktime_get_coarse_ns() >> 30);
}

#define HASH_SEED 0x9e3779b9u

inline_fn __u32 hash_word(__u32 h, __u32 w)
{
	h ^= w;
	h *= 0x85ebca6bu;
	return h ^ (h >> 13);
}

inline_fn __u32 hash_addr(__u32 h, const struct addr *a)
{
	h = hash_word(h, bpf_ntohl(a->w[0]));
	h = hash_word(h, bpf_ntohl(a->w[1]));
	h = hash_word(h, bpf_ntohl(a->w[2]));
	return hash_word(h, bpf_ntohl(a->w[3]));
}

inline_fn __u32 hash_end(__u32 h)
{
	return h ^ (h >> 16);
}

/* docs/pipeline.md section 6 */
inline_fn __u32 hash_tuple(const struct tuple *t)
{
	__u32 h = hash_addr(hash_addr(HASH_SEED, &t->src), &t->dst);

	h = hash_word(h, (__u32)bpf_ntohs(t->sport) << 16 | bpf_ntohs(t->dport));
	return hash_end(hash_word(h, t->proto));
}

inline_fn void tuple_exchange(struct tuple *to, const struct tuple *t)
{
	to->src = t->dst;
	to->dst = t->src;
	to->sport = t->dport;
	to->dport = t->sport;
	to->proto = t->proto;
	to->pad[0] = to->pad[1] = to->pad[2] = 0;
}

inline_fn bool tuple_eq(const struct tuple *a, const struct tuple *b)
{
	return addr_eq(&a->src, &b->src) && addr_eq(&a->dst, &b->dst) && a->sport == b->sport &&
	       a->dport == b->dport && a->proto == b->proto;
}
