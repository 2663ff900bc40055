//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The data plane: three programs on tcx ingress. weft_port and weft_uplink
 * forward TCP and UDP of known connections with one look-up in the flow table and hand
 * everything else to weft_slow, which implements docs/pipeline.md in full.
 */
#include "slow.h"
#include "sweep.h"

#include <linux/tcp.h>
#include <linux/udp.h>

char LICENSE[] SEC("license") = "GPL";

/* Types that only Go uses would not reach it otherwise. */
const enum counter *keep_counter __attribute__((unused));
const enum timeout_class *keep_timeout_class __attribute__((unused));
const enum flow_state *keep_flow_state __attribute__((unused));
const enum verdict *keep_verdict __attribute__((unused));
const enum ruleset_flag *keep_ruleset_flag __attribute__((unused));
const enum vrf_flag *keep_vrf_flag __attribute__((unused));
const enum reserved_identity *keep_reserved_identity __attribute__((unused));
const enum bound *keep_bound __attribute__((unused));
const enum vrf_kind *keep_vrf_kind __attribute__((unused));
const enum route_kind *keep_route_kind __attribute__((unused));
const enum nat_dir *keep_nat_dir __attribute__((unused));
const enum nat_action *keep_nat_action __attribute__((unused));
const enum rule_action *keep_rule_action __attribute__((unused));
const enum firewall_match *keep_firewall_match __attribute__((unused));
const enum algorithm *keep_algorithm __attribute__((unused));
const enum admin_state *keep_admin_state __attribute__((unused));
const enum lb_snat *keep_lb_snat __attribute__((unused));
const enum why *keep_why __attribute__((unused));
const enum vip_scope *keep_vip_scope __attribute__((unused));
const enum gauge_kind *keep_gauge_kind __attribute__((unused));
const enum call *keep_call __attribute__((unused));
const enum tally_kind *keep_tally_kind __attribute__((unused));
const struct log_line *keep_log_line __attribute__((unused));
const enum presence *keep_presence __attribute__((unused));
const enum device_kind *keep_device_kind __attribute__((unused));
const enum trace_mode *keep_trace_mode __attribute__((unused));
const struct event *keep_event __attribute__((unused));
const struct step *keep_step __attribute__((unused));

SEC("tc")
int weft_slow(struct __sk_buff *skb)
{
	__u32 zero = 0, head = skb->len;
	struct work *x = bpf_map_lookup_elem(&weft_work, &zero);
	struct config *c = config();
	struct device *d;
	__u8 reason;

	if (!x || !c)
		return internal();
	__builtin_memset(&x->p, 0, sizeof(x->p));
	x->config = *c;
	x->slot = c->generation & 1;
	x->now = clock_tick(c);
	x->ifindex = skb->ifindex;
	x->dead = 0;
	x->w.event.steps = 0;
	x->w.trace = c->trace == TRACE_ALL;
	x->w.hops = 0;
	x->w.reason = 0;
	x->w.rule = 0;
	x->w.answer = ANSWER_NONE;
	__builtin_memset(&x->w.src, 0, sizeof(x->w.src));
	__builtin_memset(&x->w.dst, 0, sizeof(x->w.dst));
	d = device_get(&x->ifindex, x->slot);
	if (!d) {
		__builtin_memset(&x->device, 0, sizeof(x->device));
		return drop_for(x, STAGE_PARSE, REASON_NO_PORT);
	}
	x->device = *d;
	if (skb->vlan_present) /* the kernel has taken the tag out of the frame */
		return drop_for(x, STAGE_PARSE, REASON_VLAN);
	x->p.len = skb->len;
	if (head > HEAD)
		head = HEAD;
	if (head < ETH_LEN || bpf_skb_load_bytes(skb, 0, x->p.data, head))
		return drop_for(x, STAGE_PARSE, REASON_MALFORMED);
	x->p.head = head;
	reason = parse(&x->p);
	if (reason)
		return drop_for(x, STAGE_PARSE, reason);
	if (bpf_skb_pull_data(skb, head))
		return drop_for(x, STAGE_PARSE, REASON_MALFORMED);
	if (!x->p.arp)
		return ip_packet(skb, x);
	return d->kind == DEVICE_UPLINK ? uplink_arp(x) : port_arp(skb, x);
}

/* Sends a first fragment and those of its datagram that came before it. The
 * slow way has left all about it in this CPU's struct work. */
SEC("tc")
int weft_followers(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct work *x = bpf_map_lookup_elem(&weft_work, &zero);

	if (!x)
		return internal();
	return send_followers(skb, x);
}

/* ---- the fast way: TCP and UDP of connections that both sides know ---- */

/* What the fast way reads of a packet. */
struct plain {
	__u8 ttl;
	__u8 tcp; /* flags; 0 for UDP */
	__u16 total;
	__u16 head; /* bytes of IP and transport header */
};

/* Reads a whole TCP or UDP packet that opens nothing; false: not one. */
inline_fn bool plain_packet(struct __sk_buff *skb, struct tuple *t, struct plain *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_LEN;
	__u16 total;

	if (data + L4_OFF + 8 > end)
		return false;
	if (((struct ethhdr *)data)->h_proto != bpf_htons(ETH_P_IP) || *(__u8 *)ip != 0x45 ||
	    (ip->frag_off & bpf_htons(0x3fff)))
		return false;
	total = bpf_ntohs(ip->tot_len);
	if (total > skb->len - ETH_LEN)
		return false;
	if (ip->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = data + L4_OFF;

		if (data + L4_OFF + sizeof(*tcp) > end || (tcp->syn && !tcp->ack))
			return false;
		if (tcp->doff < 5 || total < IP_LEN + tcp->doff * 4)
			return false;
		p->tcp = *(__u8 *)(data + L4_OFF + 13);
		p->head = IP_LEN + tcp->doff * 4;
	} else if (ip->protocol == IPPROTO_UDP) {
		struct udphdr *udp = data + L4_OFF;

		if (total < IP_LEN + 8 || bpf_ntohs(udp->len) < 8)
			return false;
		p->tcp = 0;
		p->head = IP_LEN + 8;
	} else {
		return false;
	}
	addr_v4(&t->src, ip->saddr);
	addr_v4(&t->dst, ip->daddr);
	t->sport = *(__be16 *)(data + L4_OFF);
	t->dport = *(__be16 *)(data + L4_OFF + 2);
	t->proto = ip->protocol;
	t->pad[0] = t->pad[1] = t->pad[2] = 0;
	p->ttl = ip->ttl;
	p->total = total;
	return true;
}

inline_fn bool same_entry(struct __sk_buff *skb, const struct flow *f)
{
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (!(f->flags & FLOW_FROM_PORT))
		return true;
	if ((f->flags & FLOW_UNBOUND) || data + ETH_LEN > end)
		return false;
	return frame_of(f, data, data + MAC_LEN);
}

/* Tracks as track() does; false: the slow way must look at the connection. */
inline_fn bool settled(struct flow *f, const struct flow_key *k, __u8 tcp, __u32 now)
{
	struct flow_key peer;
	struct flow *p;
	__u8 state;

	state = next_state(f, k->t.proto, tcp);
	if (state == f->state)
		return true;
	p = peer_of(k, f, &peer);
	if (!p)
		return false;
	if (f->server)
		load_changes(f, p, f->state, state, tcp);
	f->state = p->state = state;
	f->closed = p->closed = now;
	f->timeout = p->timeout = timeout_of(k->t.proto, state);
	return true;
}

inline_fn int fast(struct __sk_buff *skb, __u32 zone)
{
	struct flow_key k;
	struct config *c = config();
	struct flow_key peer;
	struct plain p;
	struct flow *f;
	__u32 now;

	if (!c || c->trace || skb->vlan_present || !plain_packet(skb, &k.t, &p))
		goto slow;
	k.zone = zone;
	f = bpf_map_lookup_elem(&weft_flows, &k);
	if (!f || f->generation != c->generation || !same_entry(skb, f) || (f->hops && p.ttl <= f->hops))
		goto slow;
	if (f->mtu && f->hops && (skb->gso_size ? skb->gso_size + p.head : p.total) > f->mtu)
		goto slow;
	now = clock_tick(c);
	/* Once a tick: is it alive, and is the other half still there? To look
	 * keeps that from being replaced, too. */
	if (f->seen != now &&
	    (age(now, f->seen) > c->timeout[c->generation & 1][f->timeout & (TIMEOUTS - 1)] || !peer_of(&k, f, &peer)))
		goto slow;
	if (!settled(f, &k, p.tcp, now))
		goto slow;
	if (f->seen != now)
		f->seen = now;
	f->packets += skb->gso_segs ?: 1;
	f->bytes += p.total;
	return flow_apply(skb, f, &k.t, true, now);
slow:
	bpf_tail_call(skb, &weft_calls, CALL_SLOW);
	return internal();
}

SEC("tc")
int weft_port(struct __sk_buff *skb)
{
	return fast(skb, skb->ifindex);
}

SEC("tc")
int weft_uplink(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct config *c = config();
	struct device *d;

	if (!c)
		return internal();
	d = device_get(&ifindex, c->generation & 1);
	if (!d) {
		bpf_tail_call(skb, &weft_calls, CALL_SLOW);
		return internal();
	}
	return fast(skb, d->vrf | ZONE_UPLINK);
}

/* ---- the agent's programs, run by BPF_PROG_RUN ---- */

SEC("syscall")
int weft_sweep(void *ctx)
{
	__u32 zero = 0;
	struct sweep *s = bpf_map_lookup_elem(&weft_sweep_state, &zero);
	struct config *c = config();
	struct sweeping x = { .s = s };

	if (!s || !c)
		return -1;
	s->config = *c;
	s->slot = c->generation & 1;
	s->now = c->clock ? c->clock : (__u32)(bpf_ktime_get_ns() >> 30); /* the coarse clock is not for syscall programs */
	s->live = s->deleted = 0;
	bpf_for_each_map_elem(&weft_flows, sweep_flow, &x, 0);
	bpf_for_each_map_elem(&weft_gauges, sweep_gauge, NULL, 0);
	bpf_for_each_map_elem(&weft_fragments, sweep_fragment, &x, 0);
	bpf_for_each_map_elem(&weft_held, sweep_held, &x, 0);
	return 0;
}
