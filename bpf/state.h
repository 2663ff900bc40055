/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Types of what packets leave behind: connections, loads, counts, fragments,
 * neighbours; and of the records that people read. Shared with the loader as
 * those of types.h are. */
#pragma once

#include "types.h"

#define FRAGMENT_TICKS 28 /* 30 s, rounded up */
#define HELD_TICKS 2      /* 2 s, rounded up */
#define MAX_HELD 16       /* later fragments of one datagram that came too early */
#define HELD_BYTES 2048

/* A zone is the ifindex of a port, or a Tier-0's id with this bit. */
#define ZONE_UPLINK (1u << 31)

enum gauge_kind {
	GAUGE_SERVER = 1,
	GAUGE_MEMBER,
	GAUGE_POOL,
};

struct gauge_key {
	__u32 kind;
	__u32 id;
};

/* What is counted up and down; see docs/pipeline.md section 6, loads. */
struct gauge {
	__u32 open;    /* connections */
	__u32 fails;   /* in a row */
	__u32 turn;    /* pools: connections that took their turn */
	__u32 counted; /* by a sweep under way */
};

struct client_key {
	__u32 persist;
	struct addr addr;
};

struct client {
	__u32 member;
	__u32 seen; /* tick */
};

enum tally_kind {
	TALLY_RULE = 1,
	TALLY_NAT,
	TALLY_SERVER,
};

struct tally_key {
	__u32 kind;
	__u32 id;
};

struct tally {
	__u64 hits;
	__u64 packets;
	__u64 bytes;
};

struct drop_key {
	__u32 port; /* table.PortID; 0: no port */
	__u32 reason;
};

enum flow_state {
	STATE_NEW = 1,
	STATE_REPLIED,
	STATE_ESTABLISHED,
	STATE_CLOSING,
};

#define FLOW_REPLY 1u
#define FLOW_ROUTED 2u
#define FLOW_NAT 4u
#define FLOW_UPLINK 8u    /* leaves by an uplink */
#define FLOW_FROM_PORT 16u /* enters by a port: smac is valid */
#define FLOW_UNBOUND 32u   /* smac is no binding of the port any more: spoofguard must see its packets */

struct flow_key {
	struct tuple t;
	__u32 zone;
};

struct flow {
	__u32 generation;
	__u32 seen; /* tick */
	__u32 out;  /* ifindex */
	__u8 state;
	__u8 timeout; /* enum timeout_class of proto and state */
	__u8 hops;
	__u8 flags;
	__u8 smac[MAC_LEN]; /* expected */
	__u8 dmac[MAC_LEN]; /* of the output */
	__u32 out_port;     /* table.PortID */
	struct tuple t;     /* translated */
	__u32 peer_zone;
	__u32 in;            /* ifindex it entered by */
	struct addr nexthop; /* uplink output */
	__u64 packets;
	__u64 bytes;  /* IP total lengths */
	__u32 server; /* virtual server that took it; 0: none. Both halves. */
	__u32 member; /* valid iff server */
	__u16 mtu;    /* of the uplink; 0: no limit */
	__u16 pad;
	__u32 loaded; /* original: 1 while its server and member count it as open */
	/* the rest is the original's only */
	struct addr mid_src; /* the source after the first of two translations */
	__u32 rules[MAX_FLOW_RULES]; /* firewall rules that let it pass, in order; 0: none */
	__u32 nats[MAX_FLOW_NATS];
	__u64 tallied_packets; /* of both halves: what the tallies have already */
	__u64 tallied_bytes;
	__u32 born; /* tick */
	__u32 closed; /* both halves: tick of the last change of state */
};

struct fragment_key {
	struct addr src;
	struct addr dst;
	__u32 zone;
	__u16 id;
	__u8 proto;
	__u8 pad;
};

struct fragment {
	__be16 sport;
	__be16 dport;
	__u32 seen; /* tick */
};

/* A fragment that came before its first one. */
struct held_key {
	struct fragment_key f;
	__u32 n;
};

struct held {
	__u32 seen; /* tick */
	__u32 len;
	__u8 data[HELD_BYTES];
};

struct neighbour_key {
	__u32 ifindex;
	struct addr addr;
};

struct neighbour {
	__u8 mac[MAC_LEN];
	__u8 own[MAC_LEN];
	__u32 seen; /* tick */
};

/* ---- log ---- */

#define LOG_BURST 256

struct log_bucket {
	__u64 since; /* ns */
	__u64 lines;
};

/* One line about a rule that is logged. */
struct log_line {
	__u64 time; /* ns since boot */
	__u32 generation;
	__u32 rule;
	__u32 id;    /* where: table.PortID or VRFID, as in a step */
	__u8 stage;
	__u8 action; /* enum rule_action; 0: default deny */
	__u8 again;  /* a live connection, judged by new tables */
	__u8 pad;
	struct tuple asked; /* as the connection's first packet has it */
	struct addr src;    /* as the rule saw them */
	struct addr dst;
	__be16 dport;
	__u16 pad2[3];
};

/* ---- trace ---- */

struct step {
	__u32 id;
	__u32 rule;
	struct addr src;
	struct addr dst;
	__u8 stage;
	__u8 reason;
	__u8 why; /* enum why */
	__u8 pad;
};

enum verdict {
	VERDICT_FORWARD = 1,
	VERDICT_DROP,
	VERDICT_ANSWER,
	VERDICT_PASS,
	VERDICT_HOLD,
};

struct event {
	__u32 verdict;
	__u32 reason;
	__u32 rule;
	__u32 out; /* table.PortID */
	__u32 hops;
	__u32 steps;
	__u32 pad;
	struct step step[MAX_STEPS];
};
