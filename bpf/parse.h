/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* From bytes to struct packet (docs/pipeline.md sections 2, 4 and 5). */
#pragma once

#include "loads.h"

/* Ethernet 14, IPv4 20, ICMP 8, quoted 28; TCP needs 54. */
#define HEAD 96
#define ETH_LEN 14
#define IP_LEN 20
#define L4_OFF (ETH_LEN + IP_LEN)
#define QUOTED_OFF (L4_OFF + 8)
#define QUOTED_LEN 28

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

enum icmp_class {
	ICMP_OTHER,
	ICMP_REQUEST,
	ICMP_REPLY,
	ICMP_ERROR,
};

struct packet {
	struct tuple t;
	__u32 len;  /* frame */
	__u32 head; /* bytes of it in data */
	__u16 total; /* IP total length */
	__u16 svc;
	__u16 id; /* network order */
	__u8 ttl;
	__u8 tcp;
	__u8 icmp; /* enum icmp_class */
	__u8 first_fragment;
	__u8 later_fragment;
	__u8 arp;
	__u8 pad[2];
	__u8 data[HEAD];
};

inline_fn __u16 be16(const __u8 *p)
{
	return (__u16)p[0] << 8 | p[1];
}

inline_fn __be32 raw32(const __u8 *p)
{
	return *(const __be32 *)p;
}

/* Ports of a tuple from the first 8 bytes of a header; false if unknown. */
inline_fn bool ports(struct tuple *t, const __u8 *l4)
{
	t->sport = 0;
	t->dport = 0;
	switch (t->proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		t->sport = *(__be16 *)l4;
		t->dport = *(__be16 *)(l4 + 2);
		return true;
	case IPPROTO_ICMP:
		if (l4[0] == 8 && l4[1] == 0)
			t->sport = *(__be16 *)(l4 + 4);
		else if (l4[0] == 0 && l4[1] == 0)
			t->dport = *(__be16 *)(l4 + 4);
		else
			return false;
	}
	return true;
}

inline_fn __u8 parse_icmp(struct packet *p, const __u8 *l4)
{
	p->svc = be16(l4);
	if (l4[0] == 8 && l4[1] == 0)
		p->icmp = ICMP_REQUEST;
	else if (l4[0] == 0 && l4[1] == 0)
		p->icmp = ICMP_REPLY;
	else if (l4[0] == 3 || l4[0] == 11 || l4[0] == 12)
		p->icmp = ICMP_ERROR;
	else
		return REASON_ICMP_TYPE;
	ports(&p->t, l4);
	return REASON_NONE;
}

inline_fn __u8 parse_l4(struct packet *p)
{
	const __u8 *l4 = p->data + L4_OFF;
	__u32 n = p->total - IP_LEN;

	switch (p->t.proto) {
	case IPPROTO_TCP:
		if (n < 20 || (l4[12] >> 4) < 5 || (l4[12] >> 4) * 4 > n)
			return REASON_MALFORMED;
		p->tcp = l4[13];
		break;
	case IPPROTO_UDP:
		if (n < 8 || be16(l4 + 4) < 8)
			return REASON_MALFORMED;
		break;
	case IPPROTO_SCTP:
		if (n < 12)
			return REASON_MALFORMED;
		break;
	case IPPROTO_ICMP:
		if (n < 8)
			return REASON_MALFORMED;
		return parse_icmp(p, l4);
	default:
		return REASON_NONE;
	}
	ports(&p->t, l4);
	p->svc = bpf_ntohs(p->t.dport);
	return REASON_NONE;
}

inline_fn __u8 parse_addresses(struct packet *p, const __u8 *ip)
{
	__u8 s = ip[12], d = ip[16];

	if (s == 0 || s == 127 || s >= 224 || d == 0 || d == 127 || raw32(ip + 12) == raw32(ip + 16))
		return REASON_MARTIAN;
	if (d >= 224)
		return REASON_MULTICAST;
	addr_v4(&p->t.src, raw32(ip + 12));
	addr_v4(&p->t.dst, raw32(ip + 16));
	return REASON_NONE;
}

/* Reads p->data. Returns the reason to drop the packet, or REASON_NONE. */
__noinline int parse(struct packet *p)
{
	if (!p)
		return REASON_MALFORMED;
	const __u8 *ip = p->data + ETH_LEN;
	__u16 proto, frag;
	__u8 reason;

	if (p->head < ETH_LEN)
		return REASON_MALFORMED;
	proto = be16(p->data + 12);
	if (proto == 0x8100 || proto == 0x88a8)
		return REASON_VLAN;
	if (proto == 0x86dd)
		return REASON_IPV6;
	if (proto == 0x0806) {
		p->arp = 1;
		return REASON_NONE;
	}
	if (proto != 0x0800)
		return REASON_NOT_IP;
	if (p->head < ETH_LEN + IP_LEN)
		return REASON_MALFORMED;
	p->total = be16(ip + 2);
	if (ip[0] >> 4 != 4 || (ip[0] & 15) < 5 || p->total < IP_LEN || p->total > p->len - ETH_LEN)
		return REASON_MALFORMED;
	if (ip[0] != 0x45)
		return REASON_IP_OPTIONS;
	reason = parse_addresses(p, ip);
	if (reason)
		return reason;
	p->t.proto = ip[9];
	p->ttl = ip[8];
	p->id = *(__u16 *)(ip + 4);
	frag = be16(ip + 6);
	if (frag & 0x1fff) {
		if (p->t.proto == IPPROTO_TCP && (frag & 0x1fff) == 1)
			return REASON_FRAGMENT;
		p->later_fragment = 1;
		return REASON_NONE;
	}
	p->first_fragment = !!(frag & 0x2000);
	return parse_l4(p);
}

/* The tuple of the packet that an ICMP error quotes; false if unusable. */
inline_fn bool quoted_tuple(const struct packet *p, struct tuple *t)
{
	const __u8 *q = p->data + QUOTED_OFF;

	if (p->total < IP_LEN + 8 + QUOTED_LEN || q[0] != 0x45 || (be16(q + 6) & 0x1fff))
		return false;
	addr_v4(&t->src, raw32(q + 12));
	addr_v4(&t->dst, raw32(q + 16));
	t->proto = q[9];
	t->pad[0] = t->pad[1] = t->pad[2] = 0;
	return ports(t, q + IP_LEN);
}
