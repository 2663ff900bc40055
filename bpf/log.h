/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Lines for people about rules that ask for them. Bounded: a CPU writes
 * LOG_BURST lines at once and config.log_rate a second; the rest is counted. */
#pragma once

#include "context.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct log_bucket);
	__uint(max_entries, 1);
} weft_log_bucket SEC(".maps");

/* Whether this CPU may write a line now. */
inline_fn bool log_allowed(__u64 now, __u32 rate)
{
	__u32 zero = 0;
	struct log_bucket *b = bpf_map_lookup_elem(&weft_log_bucket, &zero);
	__u64 earned;

	if (!b || !rate)
		return false;
	earned = (now - b->since) / (1000000000ull / rate);
	if (earned) {
		b->since = earned > LOG_BURST ? now : b->since + earned * (1000000000ull / rate);
		b->lines = b->lines + earned > LOG_BURST ? LOG_BURST : b->lines + earned;
	}
	if (!b->lines)
		return false;
	b->lines--;
	return true;
}

/* Writes the line of the rule that decided; action: enum rule_action. A
 * gateway's rule has seen w->gw_*, others the addresses as they are. */
__noinline int log_rule(struct walk *w, __u32 stage, __u32 id, __u32 action)
{
	struct config *c = config();
	bool gateway = stage == STAGE_GATEWAY_IN || stage == STAGE_GATEWAY_OUT;
	struct log_line *l;
	__u64 now;

	if (!w || !c)
		return 0;
	now = bpf_ktime_get_boot_ns();
	if (!log_allowed(now, c->log_rate)) {
		count(COUNTER_LOGS_LOST);
		return 0;
	}
	l = bpf_ringbuf_reserve(&weft_log, sizeof(*l), 0);
	if (!l) {
		count(COUNTER_LOGS_LOST);
		return 0;
	}
	l->time = now;
	l->generation = c->generation;
	l->rule = w->hit;
	l->id = id;
	l->stage = stage;
	l->action = action;
	l->again = w->mode == MODE_AGAIN;
	l->pad = 0;
	l->asked = w->t;
	l->src = gateway ? w->gw_src : w->src;
	l->dst = gateway ? w->gw_dst : w->dst;
	l->dport = gateway ? bpf_htons(w->gw_svc) : w->dport;
	l->pad2[0] = l->pad2[1] = l->pad2[2] = 0;
	bpf_ringbuf_submit(l, 0);
	return 0;
}
