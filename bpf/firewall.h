/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The distributed firewall's classifier. Rules with a remote side are looked
 * up by the remote's identity (the set of groups that its address is in), so
 * the cost of a look-up does not grow with the number of rules: one trie for
 * the identity (two where tenants overlap), at most two for its rules, one for the
 * rules that ask for no remote. The loader resolves rule order inside each of these, and the smaller
 * order of the candidates wins.
 */
#pragma once

#include "context.h"

inline_fn __u32 identity_of(struct walk *w)
{
	struct identity_key k = { .plen = 32 + 128, .realm = w->realm, .addr = w->remote };
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

inline_fn struct rule *rule_first(struct walk *w, __u32 ruleset, __u32 identity)
{
	struct rule_key k = {
		.plen = 64 + 8 + 16,
		.ruleset = ruleset,
		.identity = identity,
		.proto = w->t.proto,
		.svc = { w->svc >> 8, w->svc & 0xff },
	};
	struct rule *r = rule_get(&k, w->slot);

	/* order 0: no rule here, the row only says that the identity is known */
	return r;
}

/* The first rule of a ruleset that matches, or NULL. */
inline_fn struct rule *rule_match(struct walk *w, const struct ruleset_ref *ref, __u32 identity)
{
	struct rule *any = NULL, *own = NULL;

	if (ref->flags & RULESET_HAS_ANY)
		any = rule_first(w, ref->id, IDENTITY_ANY);
	if (identity != IDENTITY_NONE && (ref->flags & RULESET_HAS_ID))
		own = rule_first(w, ref->id, identity);
	if (!own && (ref->flags & RULESET_HAS_NONE))
		own = rule_first(w, ref->id, IDENTITY_NONE);
	if (own && own->order && (!any || own->order < any->order))
		return own;
	return any;
}

/* Judges w->remote by w->ruleset; false if the packet stops here. */
__noinline int firewall(struct walk *w, __u32 stage, __u32 port)
{
	__u32 identity = IDENTITY_NONE;

	if (!w)
		return 0;
	if ((w->ruleset[0].flags | w->ruleset[1].flags | w->ruleset[2].flags) & (RULESET_HAS_ID | RULESET_HAS_NONE))
		identity = identity_of(w);
	for (int i = 0; i < MAX_RULESETS; i++) {
		if (!w->ruleset[i].id)
			break;
		struct rule *r = rule_match(w, &w->ruleset[i], identity);

		if (!r || r->action == RULE_CONTINUE)
			continue;
		if (r->action == RULE_ALLOW) {
			w->strict |= r->strict;
			step(w, stage, port, r->id);
			return 1;
		}
		drop_at(w, stage, port, r->id, REASON_DFW_RULE);
		if (r->action == RULE_REJECT)
			w->answer = ANSWER_REJECT;
		return 0;
	}
	drop_at(w, stage, port, 0, REASON_DFW_DEFAULT_DENY);
	return 0;
}
