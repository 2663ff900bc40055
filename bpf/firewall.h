/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The firewalls' classifier. Rules with a remote side are looked
 * up by the remote's identity (the set of groups that its address is in), so
 * the cost of a look-up does not grow with the number of rules: one trie for
 * the identity (two where tenants overlap), at most two for its rules, one for the
 * rules that ask for no remote. The loader resolves rule order inside each of these, and the smaller
 * order of the candidates wins. A gateway's rules look at two addresses: see
 * struct class_key.
 */
#pragma once

#include "log.h"

static __noinline __u32 identity_of(struct walk *w, const struct addr *a)
{
	struct identity_key k = { .plen = 32 + 128, .realm = w->realm, .addr = *a };
	struct identity *i;

	if (w->realm) {
		i = identity_get(&k, w->slot);
		if (i)
			return i->id;
		k.realm = 0;
	}
	i = identity_get(&k, w->slot);
	return i ? i->id : IDENTITY_NONE;
}

inline_fn struct rule *rule_first(struct walk *w, __u32 ruleset, __u32 identity, __u16 svc)
{
	struct rule_key k = {
		.plen = 64 + 8 + 16,
		.ruleset = ruleset,
		.identity = identity,
		.proto = w->t.proto,
		.svc = { svc >> 8, svc & 0xff },
	};
	struct rule *r = rule_get(&k, w->slot);

	/* order 0: no rule here, the row only says that the identity is known */
	return r;
}

inline_fn struct rule *first_of(struct rule *a, struct rule *b)
{
	if (b && b->order && (!a || b->order < a->order))
		return b;
	return a;
}

/* The first rule of a ruleset that matches, or NULL. */
inline_fn struct rule *rule_match(struct walk *w, const struct ruleset_ref *ref, __u32 identity)
{
	struct rule *any = NULL, *own = NULL;

	if (ref->flags & RULESET_HAS_ANY)
		any = rule_first(w, ref->id, IDENTITY_ANY, w->svc);
	if (identity != IDENTITY_NONE && (ref->flags & RULESET_HAS_ID))
		own = rule_first(w, ref->id, identity, w->svc);
	if (!own && (ref->flags & RULESET_HAS_NONE))
		own = rule_first(w, ref->id, IDENTITY_NONE, w->svc);
	any = first_of(any, own);
	if (w->by_server && (ref->flags & RULESET_HAS_VIP))
		any = first_of(any, rule_first(w, ref->id, IDENTITY_VIP, w->svc));
	return any;
}

/* Notes the rule that decided and returns its action. */
inline_fn __u8 decided(struct walk *w, const struct rule *r)
{
	w->hit = r->id;
	w->hit_strict = r->strict;
	w->hit_logged = r->logged;
	return r->action;
}

/* What w->ruleset says of w->remote; 0: no rule matches. */
__noinline int judge(struct walk *w)
{
	__u32 identity = IDENTITY_NONE;

	if (!w)
		return 0;
	w->hit = 0;
	w->hit_logged = 0;
	if ((w->ruleset[0].flags | w->ruleset[1].flags | w->ruleset[2].flags) & (RULESET_HAS_ID | RULESET_HAS_NONE))
		identity = identity_of(w, &w->remote);
	for (int i = 0; i < MAX_RULESETS; i++) {
		if (!w->ruleset[i].id)
			break;
		struct rule *r = rule_match(w, &w->ruleset[i], identity);

		if (r && r->action != RULE_CONTINUE)
			return decided(w, r);
	}
	return 0;
}

/* Lets the packet pass by w->hit, or drops it. */
inline_fn int pass_or_drop(struct walk *w, __u8 action, __u32 stage, __u32 id, __u16 reasons)
{
	__u32 n = w->nrules;

	if (w->hit_logged && (w->mode == MODE_NEW || action != RULE_ALLOW))
		log_rule(w, stage, id, action);
	if (action == RULE_ALLOW) {
		w->strict |= w->hit_strict;
		if (n < MAX_FLOW_RULES) {
			w->rules[n & 7] = w->hit;
			w->nrules = n + 1;
		}
		step(w, stage, id, w->hit);
		return 1;
	}
	drop_at(w, stage, id, w->hit, action ? reasons >> 8 : reasons & 0xff);
	if (action == RULE_REJECT)
		w->answer = ANSWER_REJECT;
	return 0;
}

/* Judges w->remote by w->ruleset; false if the packet stops here. */
__noinline int firewall(struct walk *w, __u32 stage, __u32 port)
{
	if (!w)
		return 0;
	return pass_or_drop(w, judge(w), stage, port, REASON_DFW_RULE << 8 | REASON_DFW_DEFAULT_DENY);
}

inline_fn __u32 class_of(struct walk *w, const struct addr *a, __u32 dst)
{
	struct class_key k = { .ruleset = w->gateway.id, .dst = dst, .identity = identity_of(w, a) };
	struct class *c;

	if (k.identity == IDENTITY_NONE)
		return 0;
	c = class_get(&k, w->slot);
	return c ? c->id : 0;
}

/* Judges w->gw_src and w->gw_dst by w->gateway; false if the packet stops. */
__noinline int gateway_firewall(struct walk *w, __u32 stage)
{
	struct pair_key k = {};
	struct pair *p;
	struct rule *r = NULL;
	__u8 action = 0;

	if (!w)
		return 0;
	w->hit = 0;
	w->hit_logged = 0;
	k.ruleset = w->gateway.id;
	if (w->gateway.flags & RULESET_HAS_SRC)
		k.src = class_of(w, &w->gw_src, 0);
	if (w->gateway.flags & RULESET_HAS_DST)
		k.dst = class_of(w, &w->gw_dst, 1);
	p = pair_get(&k, w->slot);
	if (p)
		r = rule_first(w, w->gateway.id, p->list, w->gw_svc);
	if (r)
		action = decided(w, r);
	return pass_or_drop(w, action, stage, w->vrf, REASON_GATEWAY_RULE << 8 | REASON_GATEWAY_DEFAULT_DENY);
}
