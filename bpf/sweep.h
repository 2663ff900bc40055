/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The sweep: lets go of what is over (docs/pipeline.md section 6, loads). */
#pragma once

#include "tail.h"

#define CLOSING_TICKS 2 /* in which honest ends fall silent */

struct sweep {
	struct config config;
	__u32 now;
	__u32 slot;
	struct flow_key peer;
	struct flow_key key;
	__u32 live;    /* connections */
	__u32 deleted; /* entries */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct sweep);
	__uint(max_entries, 1);
} weft_sweep_state SEC(".maps");

/* The kernel wants a callback's context to be on the stack. */
struct sweeping {
	struct sweep *s;
};

inline_fn bool swept_alive(const struct sweep *s, const struct flow *f)
{
	return age(s->now, f->seen) <= s->config.timeout[s->slot & 1][f->timeout & (TIMEOUTS - 1)];
}

/* Whether a live pair counts as open: a FIN that only one side believes in does
 * not close it. */
inline_fn bool is_open(const struct flow *f, const struct flow *p)
{
	return f->state != STATE_CLOSING || age(f->seen, f->closed) > CLOSING_TICKS || age(p->seen, f->closed) > CLOSING_TICKS;
}

inline_fn void count_open(__u32 kind, __u32 id)
{
	struct gauge *g = gauge_of(kind, id);

	if (g)
		g->counted++;
}

static long sweep_flow(void *map, struct flow_key *k, struct flow *f, struct sweeping *c)
{
	struct sweep *s = c->s;
	struct flow *p;

	s->key = *k;
	p = peer_of(&s->key, f, &s->peer);
	if (!p) {
		/* another CPU may be about to enter the other half */
		if (age(s->now, f->seen) > 1) {
			forget(&s->key);
			s->deleted++;
		}
		return 0;
	}
	if (f->flags & FLOW_REPLY)
		return 0;
	if (swept_alive(s, f) || swept_alive(s, p)) {
		s->live++;
		tally_traffic(f, p);
		if (f->server && is_open(f, p)) {
			count_open(GAUGE_SERVER, f->server);
			count_open(GAUGE_MEMBER, f->member);
		}
		return 0;
	}
	let_go(f, p, s->key.t.proto, true);
	forget(&s->peer);
	forget(&s->key);
	s->deleted += 2;
	return 0;
}

static long sweep_gauge(void *map, struct gauge_key *k, struct gauge *g, void *unused)
{
	struct gauge_key key = *k;

	if (k->kind == GAUGE_POOL)
		return 0;
	g->open = g->counted;
	g->counted = 0;
	if (!g->open && !g->fails)
		bpf_map_delete_elem(&weft_gauges, &key);
	return 0;
}

static long sweep_held(void *map, struct held_key *k, struct held *h, struct sweeping *c)
{
	struct sweep *s = c->s;
	struct held_key key = *k;

	if (age(s->now, h->seen) > HELD_TICKS)
		give_up_held(&key);
	return 0;
}

static long sweep_fragment(void *map, struct fragment_key *k, struct fragment *f, struct sweeping *c)
{
	struct sweep *s = c->s;
	struct fragment_key key = *k;

	if (age(s->now, f->seen) > FRAGMENT_TICKS)
		bpf_map_delete_elem(&weft_fragments, &key);
	return 0;
}
