/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Virtual servers (docs/pipeline.md section 8). A walk only chooses; what the
 * choice changes in the pool's state is written when the connection is made.
 */
#pragma once

#include "nat.h"

/* The row for what w asks of w->dst, or NULL if that is no VIP of this scope. */
inline_fn struct vip *vip_find(struct walk *w, __u32 kind, __u32 scope)
{
	struct vip_key *k = &w->vip_key;

	k->plen = 64 + 128 + 8 + 16;
	k->kind = kind;
	k->scope = scope;
	k->addr = w->dst;
	k->proto = w->t.proto;
	*(__be16 *)k->port = w->dport;
	k->pad = 0;
	return vip_get(k, w->slot);
}

/* The gauge of kind and id, made if there is none; NULL if there is no room. */
static __noinline struct gauge *gauge_of(__u32 kind, __u32 id)
{
	struct gauge_key k = { .kind = kind, .id = id };
	struct gauge none = {};
	struct gauge *g = bpf_map_lookup_elem(&weft_gauges, &k);

	if (g)
		return g;
	bpf_map_update_elem(&weft_gauges, &k, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&weft_gauges, &k);
}

inline_fn struct gauge *gauge_get(struct walk *w, __u32 kind, __u32 id)
{
	w->gauge_key.kind = kind;
	w->gauge_key.id = id;
	return bpf_map_lookup_elem(&weft_gauges, &w->gauge_key);
}

inline_fn __u32 open_connections(struct walk *w, __u32 kind, __u32 id)
{
	struct gauge *g = gauge_get(w, kind, id);

	return g && (__s32)g->open > 0 ? g->open : 0; /* two CPUs may have taken the last one away */
}

/* Whether one more connection is within a limit. What can not be counted is
 * beyond it. */
inline_fn bool within(__u32 kind, __u32 id, __u32 max)
{
	struct gauge *g;

	if (!max)
		return true;
	g = gauge_of(kind, id);
	return g && ((__s32)g->open < 0 || g->open < max);
}

inline_fn struct member *member_find(struct walk *w, __u32 id)
{
	w->member_key.pool = w->pool;
	w->member_key.member = id;
	return member_get(&w->member_key, w->slot);
}

/* Whether a member may have one connection more. */
inline_fn bool has_room(const struct member *m, __u32 id)
{
	return within(GAUGE_MEMBER, id, m->max);
}

/* Who is in a slot of w->pool; 0: nobody. */
inline_fn __u32 slot_member(struct walk *w, __u32 slot)
{
	struct slots *s;

	w->slots_key.pool = w->pool;
	w->slots_key.row = slot / SLOTS_A_ROW;
	s = slots_get(&w->slots_key, w->slot);
	return s ? s->member[slot % SLOTS_A_ROW] : 0;
}

/* A search through the slots of a pool. */
struct search {
	struct walk *w;
	__u32 at; /* first slot */
	__u32 slots;
	__u32 least; /* least connections: compare */
	__u32 open;  /* of the best so far */
	__u32 weight;
	__u32 found;
};

static long search_slot(__u64 i, struct search *s)
{
	struct walk *w = s->w;
	__u32 id = slot_member(w, (s->at + (__u32)i) % (s->slots ?: 1));
	struct member *m = id ? member_find(w, id) : NULL;
	__u32 open;

	if (!m)
		return 0;
	if (!s->least) {
		if (!has_room(m, id))
			return 0;
		s->found = id;
		return 1;
	}
	open = open_connections(w, GAUGE_MEMBER, id);
	if ((m->max && open >= m->max) || (s->found && (__u64)open * s->weight >= (__u64)s->open * m->weight))
		return 0;
	s->found = id;
	s->open = open;
	s->weight = m->weight;
	return 0;
}

/* Chooses a member by the pool's algorithm: sets w->member, or drops. */
inline_fn int choose(struct walk *w, const struct pool *p, __u32 stage, __u32 id, __u32 server)
{
	struct search s = { .w = w, .slots = p->slots };
	struct gauge *g;

	if (!s.slots) {
		drop_at(w, stage, id, server, REASON_LB_NO_MEMBER);
		w->answer = ANSWER_REJECT;
		return 0;
	}
	if (p->algorithm == IP_HASH) {
		s.at = hash_end(hash_addr(HASH_SEED, &w->src)) % s.slots;
		w->why = WHY_IP_HASH;
	} else {
		g = gauge_get(w, GAUGE_POOL, w->pool);
		s.at = g ? g->turn % s.slots : 0;
		s.least = p->algorithm == LEAST_CONNECTIONS;
		w->why = s.least ? WHY_LEAST_CONNECTIONS : WHY_ROUND_ROBIN;
		w->in_turn = 1;
	}
	if (s.least)
		bpf_loop(s.slots < MAX_COMPARED ? s.slots : MAX_COMPARED, search_slot, &s, 0);
	else
		bpf_loop(MAX_TURNS, search_slot, &s, 0);
	w->member = s.found;
	if (s.found)
		return 1;
	drop_at(w, stage, id, server, REASON_LB_LIMIT);
	return 0;
}

/* The member that the client had before, if it still may: sets w->member. */
inline_fn bool persistent(struct walk *w, const struct vip *v, __u32 now)
{
	struct client *c;
	struct member *m;

	w->client_key.persist = v->persist;
	w->client_key.addr = w->src;
	c = bpf_map_lookup_elem(&weft_clients, &w->client_key);
	if (!c || ((__s32)(now - c->seen) > 0 && now - c->seen > v->persist_ticks))
		return false;
	m = member_find(w, c->member);
	if (!m || m->admin == MEMBER_DISABLED || !m->up || !has_room(m, c->member))
		return false;
	w->member = c->member;
	w->why = WHY_PERSISTENCE;
	return true;
}

/* Step 1: whether the access list lets the client in; else it is told. */
inline_fn bool admitted(struct walk *w, const struct vip *v, __u32 stage, __u32 id)
{
	if (!v->access.id)
		return true;
	w->ruleset[0] = v->access;
	w->ruleset[1].id = 0;
	w->ruleset[1].flags = 0;
	w->ruleset[2].id = 0;
	w->ruleset[2].flags = 0;
	w->remote = w->src;
	if (judge(w) == RULE_ALLOW)
		return true;
	drop_at(w, stage, id, v->server, REASON_LB_ACCESS);
	w->answer = ANSWER_REJECT;
	return false;
}

/* Step 2: whether the connection stays with its member; else it is gone. */
inline_fn bool keep(struct walk *w, const struct vip *v)
{
	struct member *m = w->kept_server == v->server ? member_find(w, w->kept_member) : NULL;

	if (!m || m->admin == MEMBER_DISABLED || (w->kept_new && !m->up)) {
		w->gone = 1;
		w->next = NEXT_DONE;
		return false;
	}
	w->member = w->kept_member;
	w->why = WHY_KEPT;
	return true;
}

/* Steps 3 to 5: who gets a new connection. False if nobody does. */
inline_fn int elect(struct walk *w, const struct vip *v, __u32 stage, __u32 id)
{
	struct pool *p;

	if (w->midstream) {
		drop_at(w, stage, id, v->server, REASON_TCP_STATE);
		w->answer = ANSWER_REJECT;
		return 0;
	}
	if (!within(GAUGE_SERVER, v->server, v->max)) {
		drop_at(w, stage, id, v->server, REASON_LB_LIMIT);
		return 0;
	}
	if (v->persist && persistent(w, v, w->now))
		return 1;
	p = pool_get(&w->pool, w->slot);
	if (!p) {
		drop_at(w, stage, id, v->server, REASON_LB_NO_MEMBER);
		w->answer = ANSWER_REJECT;
		return 0;
	}
	return choose(w, p, stage, id, v->server);
}

/* The source that a pool wants its members to see; false: the client's. */
inline_fn bool lb_source(struct walk *w, const struct member *m, const struct addr *vip, struct addr *to)
{
	struct pool *p = w->vip_key.kind == VIP_VRF ? pool_get(&w->pool, w->slot) : NULL;
	__u32 n;

	*to = *vip;
	if (p && p->snat == LB_SNAT_AUTO_MAP)
		return true;
	if (!p || p->snat == LB_SNAT_DISABLED)
		return addr_eq(&w->src, &m->addr);
	n = p->snat_addrs;
	if (!n)
		return true;
	n = hash_end(hash_addr(HASH_SEED, &w->src)) % n;
	barrier_var(n);
	*to = p->snat_addr[n & (MAX_SNAT_ADDRS - 1)];
	return true;
}

/* Sends what w asks of the virtual server of w->vip_key to a member. The
 * caller has set the realm. False if the packet stops. */
__noinline int balance(struct walk *w, __u32 stage)
{
	struct addr vip, source;
	struct member *m;
	struct vip *v;
	__u32 id;

	if (!w)
		return 0;
	id = stage == STAGE_DLB ? w->port : w->vrf;
	v = vip_get(&w->vip_key, w->slot);
	if (!v)
		return 0;
	if (w->server || w->dst_translations >= MAX_TRANSLATIONS) {
		drop_at(w, stage, id, v->server, REASON_NAT_DEPTH);
		return 0;
	}
	w->pool = v->pool;
	if (!admitted(w, v, stage, id))
		return 0;
	if (w->mode == MODE_AGAIN ? !keep(w, v) : !elect(w, v, stage, id))
		return 0;
	m = member_find(w, w->member);
	if (!m)
		return 0;
	vip = w->dst;
	if (lb_source(w, m, &vip, &source)) {
		if (w->src_translations >= MAX_TRANSLATIONS) {
			drop_at(w, stage, id, v->server, REASON_NAT_DEPTH);
			return 0;
		}
		if (w->src_translations == 1)
			w->mid_src = w->src;
		w->src = source;
		w->src_translations++;
		w->snat = SNAT_BLOCK;
		w->port_first = 1024;
		w->port_last = 65535;
	}
	w->dst = m->addr;
	w->dst_translations++;
	if (m->port || v->member_port) {
		w->svc = m->port ?: v->member_port;
		w->dport = bpf_htons(w->svc);
	}
	w->server = v->server;
	w->persist = v->persist;
	if (w->trace)
		write_step(w, stage, id, v->server, REASON_NONE, w->why);
	return 1;
}
