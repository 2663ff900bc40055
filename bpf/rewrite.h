/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Writes to packets: what a flow entry says, and answers (docs/pipeline.md sections 6 and 9). */
#pragma once

#include "parse.h"

#include <linux/ip.h>

#define ACT_DROP TC_ACT_SHOT
#define ACT_PASS TC_ACT_OK
#define NEIGHBOUR_TICKS 120

#define OFF_IP_SUM (ETH_LEN + 10)
#define OFF_IP_SRC (ETH_LEN + 12)

inline_fn __u32 l4_sum_offset(__u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return L4_OFF + 16;
	case IPPROTO_UDP:
		return L4_OFF + 6;
	case IPPROTO_ICMP:
		return L4_OFF + 2;
	}
	return 0;
}

/* RFC 1624 equation 3 for one 16 bit word. */
inline_fn __u16 sum_replace(__u16 sum, __u16 from, __u16 to)
{
	__u32 s = (__u16)~sum + (__u32)(__u16)~from + to;

	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return ~s;
}

inline_fn __u16 sum_replace4(__u16 sum, __be32 from, __be32 to)
{
	return sum_replace(sum_replace(sum, from & 0xffff, to & 0xffff), from >> 16, to >> 16);
}

/* The transport checksum after an address changed. A helper does it, because
 * the kernel may have left the sum for the device to finish. */
inline_fn void sum_address(struct __sk_buff *skb, __u8 proto, __be32 from, __be32 to)
{
	if (from == to)
		return;
	if (proto == IPPROTO_TCP)
		bpf_l4_csum_replace(skb, l4_sum_offset(proto), from, to, BPF_F_PSEUDO_HDR | 4);
	if (proto == IPPROTO_UDP)
		bpf_l4_csum_replace(skb, l4_sum_offset(proto), from, to, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0 | 4);
}

inline_fn void sum_port(struct __sk_buff *skb, __u8 proto, __be16 from, __be16 to)
{
	if (from != to)
		bpf_l4_csum_replace(skb, l4_sum_offset(proto), from, to, proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 | 2 : 2);
}

/* Writes the addresses and their part of the IP checksum. */
inline_fn bool write_addresses(struct __sk_buff *skb, __be32 src, __be32 dst)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_LEN;

	if (data + ETH_LEN + IP_LEN > end)
		return false;
	ip->check = sum_replace4(sum_replace4(ip->check, ip->saddr, src), ip->daddr, dst);
	ip->saddr = src;
	ip->daddr = dst;
	return true;
}

inline_fn bool write_ports(struct __sk_buff *skb, const struct tuple *from, const struct tuple *to)
{
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (from->sport == to->sport && from->dport == to->dport)
		return true;
	if (data + L4_OFF + 8 > end)
		return false;
	if (from->proto == IPPROTO_ICMP) { /* the identifier, whichever side it stands for */
		*(__be16 *)(data + L4_OFF + 4) = from->sport == to->sport ? to->dport : to->sport;
		return true;
	}
	*(__be16 *)(data + L4_OFF) = to->sport;
	*(__be16 *)(data + L4_OFF + 2) = to->dport;
	return true;
}

/* Gives the packet, whose tuple is from, the tuple to. */
inline_fn bool rewrite_tuple(struct __sk_buff *skb, const struct tuple *from, const struct tuple *to, bool l4)
{
	if (l4) {
		sum_address(skb, from->proto, from->src.w[3], to->src.w[3]);
		sum_address(skb, from->proto, from->dst.w[3], to->dst.w[3]);
		sum_port(skb, from->proto, from->sport, to->sport);
		sum_port(skb, from->proto, from->dport, to->dport);
	}
	return write_addresses(skb, to->src.w[3], to->dst.w[3]) && (!l4 || write_ports(skb, from, to));
}

/* What can not happen, counted all the same. */
inline_fn int internal(void)
{
	__u32 reason = REASON_INTERNAL;
	__u64 *n = bpf_map_lookup_elem(&weft_drops, &reason);

	if (n)
		*n += 1;
	return ACT_DROP;
}

/* Leaves by an uplink. The neighbour is known from ARP heard on the uplink,
 * or the kernel resolves it and keeps the packet meanwhile. */
inline_fn int send_uplink(struct __sk_buff *skb, const struct flow *f, __u32 now)
{
	struct neighbour_key k = { .ifindex = f->out, .addr = f->nexthop };
	struct neighbour *n = bpf_map_lookup_elem(&weft_neighbours, &k);
	void *data, *end;

	if (!n || (__s32)(now - n->seen) > NEIGHBOUR_TICKS) {
		struct bpf_redir_neigh nh = { .nh_family = 2 /* AF_INET */, .ipv4_nh = f->nexthop.w[3] };

		return bpf_redirect_neigh(f->out, &nh, sizeof(nh), 0);
	}
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + ETH_LEN > end)
		return internal();
	mac_copy(data, n->mac);
	mac_copy(data + MAC_LEN, n->own);
	return bpf_redirect(f->out, 0);
}

inline_fn bool lower_ttl(struct __sk_buff *skb, __u8 hops)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + ETH_LEN;
	__u32 sum;

	if (data + ETH_LEN + IP_LEN > end)
		return false;
	if (!hops)
		return true;
	ip->ttl -= hops;
	sum = (__u32)(__u16)~ip->check + (__u16)~bpf_htons((__u16)hops << 8) ;
	/* ~(~HC + ~m + m'): the change is -hops in the high byte of the word */
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~sum;
	return true;
}

/* Sends the packet where f says; from is the tuple that it has now. */
inline_fn int flow_apply(struct __sk_buff *skb, const struct flow *f, const struct tuple *from, bool l4, __u32 now)
{
	void *data, *end;

	if ((f->flags & FLOW_NAT) && !rewrite_tuple(skb, from, &f->t, l4))
		return internal();
	if (!lower_ttl(skb, f->hops))
		return internal();
	if (f->flags & FLOW_UPLINK)
		return send_uplink(skb, f, now);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + ETH_LEN > end)
		return internal();
	mac_copy(data, f->dmac);
	if (f->hops)
		mac_set_router(data + MAC_LEN);
	if (skb->pkt_type != 0 /* PACKET_HOST */)
		bpf_skb_change_type(skb, 0);
	return bpf_redirect_peer(f->out, 0);
}

/* ---- answers ---- */

/* Sends the packet back out of the device that it came from. */
inline_fn int send_back(struct __sk_buff *skb, bool uplink)
{
	count(COUNTER_ANSWERS);
	if (uplink)
		return bpf_redirect(skb->ifindex, 0);
	if (skb->pkt_type != 0)
		bpf_skb_change_type(skb, 0);
	return bpf_redirect_peer(skb->ifindex, 0);
}

inline_fn __u16 fold(__s64 sum)
{
	__u32 s = sum;

	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return ~s;
}

struct answer_head {
	__u8 dmac[MAC_LEN];
	__u8 smac[MAC_LEN];
	__be16 proto;
	/* IPv4 */
	__u8 version;
	__u8 tos;
	__be16 total;
	__be16 id;
	__be16 frag;
	__u8 ttl;
	__u8 ip_proto;
	__u16 sum;
	__be32 src;
	__be32 dst;
} __attribute__((packed));

inline_fn void answer_ip(struct answer_head *h, const struct packet *p, __be32 from, __u8 proto, __u16 total)
{
	__builtin_memset(h, 0, sizeof(*h));
	mac_copy(h->dmac, p->data + MAC_LEN);
	mac_copy(h->smac, p->data);
	h->proto = bpf_htons(0x0800);
	h->version = 0x45;
	h->total = bpf_htons(total);
	h->ttl = 64;
	h->ip_proto = proto;
	h->src = from;
	h->dst = p->t.src.w[3];
}

#define ICMP_ANSWER_IP (IP_LEN + 8 + QUOTED_LEN)

struct icmp_answer {
	struct answer_head head;
	__u8 type;
	__u8 code;
	__u16 sum;
	__be32 mtu; /* of "fragmentation needed" (RFC 1191), else 0 */
	__u8 quoted[QUOTED_LEN];
} __attribute__((packed));

/* Turns the packet into an ICMP error about itself; what: mtu<<16|type<<8|code. */
__noinline int make_icmp(struct __sk_buff *skb, struct packet *p, __u32 what, __be32 from)
{
	struct icmp_answer a;

	if (!p)
		return -1;
	answer_ip(&a.head, p, from, IPPROTO_ICMP, ICMP_ANSWER_IP);
	a.head.tos = 0xc0;
	a.head.sum = fold(bpf_csum_diff(0, 0, (void *)&a.head.version, IP_LEN, 0));
	a.type = what >> 8;
	a.code = what;
	a.sum = 0;
	a.mtu = bpf_htonl(what >> 16);
	__builtin_memcpy(a.quoted, p->data + ETH_LEN, QUOTED_LEN);
	for (int i = IP_LEN; i < QUOTED_LEN; i++)
		if (i >= p->total) /* padding is not part of the packet */
			a.quoted[i] = 0;
	a.sum = fold(bpf_csum_diff(0, 0, (void *)&a.type, 8 + QUOTED_LEN, 0));
	if (bpf_skb_change_tail(skb, ETH_LEN + ICMP_ANSWER_IP, 0))
		return -1;
	return bpf_skb_store_bytes(skb, 0, &a, sizeof(a), 0);
}

struct reset_answer {
	struct answer_head head;
	__be16 sport;
	__be16 dport;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__u16 window;
	__u16 sum;
	__u16 urgent;
} __attribute__((packed));

/* Turns a TCP segment into the reset that answers it. */
__noinline int make_reset(struct __sk_buff *skb, struct packet *p)
{
	struct reset_answer a;
	__u32 len, pseudo[3];

	if (!p)
		return -1;
	const __u8 *tcp = p->data + L4_OFF;

	answer_ip(&a.head, p, p->t.dst.w[3], IPPROTO_TCP, IP_LEN + 20);
	a.head.frag = bpf_htons(0x4000);
	a.head.sum = fold(bpf_csum_diff(0, 0, (void *)&a.head.version, IP_LEN, 0));
	a.sport = p->t.dport;
	a.dport = p->t.sport;
	a.offset = 5 << 4;
	a.window = 0;
	a.sum = 0;
	a.urgent = 0;
	if (p->tcp & TCP_ACK) {
		a.seq = raw32(tcp + 8);
		a.ack = 0;
		a.flags = TCP_RST;
	} else {
		len = p->total - IP_LEN - (tcp[12] >> 4) * 4;
		len += !!(p->tcp & TCP_SYN) + !!(p->tcp & TCP_FIN);
		a.seq = 0;
		a.ack = bpf_htonl(bpf_ntohl(raw32(tcp + 4)) + len);
		a.flags = TCP_RST | TCP_ACK;
	}
	pseudo[0] = a.head.src;
	pseudo[1] = a.head.dst;
	pseudo[2] = bpf_htonl(IPPROTO_TCP << 16 | 20);
	a.sum = fold(bpf_csum_diff(0, 0, (void *)&a.sport, 20, bpf_csum_diff(0, 0, pseudo, 12, 0)));
	if (bpf_skb_change_tail(skb, ETH_LEN + IP_LEN + 20, 0))
		return -1;
	return bpf_skb_store_bytes(skb, 0, &a, sizeof(a), 0);
}

/* Turns an echo request into its reply. */
__noinline int make_echo_reply(struct __sk_buff *skb, struct packet *p)
{
	__u8 macs[2 * MAC_LEN];
	__be32 ips[2];
	__u8 ttl = 64, zero = 0;

	if (!p)
		return -1;
	mac_copy(macs, p->data + MAC_LEN);
	mac_copy(macs + MAC_LEN, p->data);
	ips[0] = p->t.dst.w[3];
	ips[1] = p->t.src.w[3];
	bpf_l3_csum_replace(skb, OFF_IP_SUM, bpf_htons((__u16)p->ttl << 8), bpf_htons(64 << 8), 2);
	bpf_l4_csum_replace(skb, L4_OFF + 2, bpf_htons(0x0800), 0, 2);
	if (bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0) ||
	    bpf_skb_store_bytes(skb, OFF_IP_SRC, ips, sizeof(ips), 0) ||
	    bpf_skb_store_bytes(skb, ETH_LEN + 8, &ttl, 1, 0))
		return -1;
	return bpf_skb_store_bytes(skb, L4_OFF, &zero, 1, 0);
}

/* Turns an ARP request into the answer "target is at w->out_mac". */
__noinline int make_arp_reply(struct __sk_buff *skb, struct packet *p, const struct walk *w)
{
	__u8 b[42];

	if (!p || !w)
		return -1;
	__builtin_memcpy(b, p->data, 42);
	mac_copy(b, p->data + 22); /* to the sender */
	mac_copy(b + 6, w->out_mac);
	b[21] = 2; /* reply */
	mac_copy(b + 22, w->out_mac);
	__builtin_memcpy(b + 28, p->data + 38, 4);
	mac_copy(b + 32, p->data + 22);
	__builtin_memcpy(b + 38, p->data + 28, 4);
	return bpf_skb_store_bytes(skb, 0, b, sizeof(b), 0);
}
