/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Types that the programs and the loader share. Go's mirror of each of them is
 * generated (bpf2go -type), so a layout is written down once, here.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

/* docs/pipeline.md section 10 */
enum bound {
	MAX_ROUTERS = 8,
	MAX_RULESETS = 3,
	MAX_GATEWAYS = 4,
	MAX_NEXTHOPS = 8,
	MAX_NAT_ROWS = 256,
	MAX_PORT_TRIES = 64,
	MAX_STEPS = 32,
	MAX_TRANSLATIONS = 2,
	MAX_FLOW_RULES = 6,
	MAX_FLOW_NATS = 4,
	MAX_SNAT_ADDRS = 8,
	SLOTS_A_ROW = 256,
	MAX_TURNS = 64,      /* slots that are tried for a member */
	MAX_COMPARED = 256,  /* slots that least connections looks at */
};

#define MAC_LEN 6

/* 128 bit in network order; IPv4 is mapped into ::ffff:0:0/96. */
struct addr {
	__u32 w[4];
};

struct tuple {
	struct addr src;
	struct addr dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
};

/* What package table calls these; bpf/constants.go holds both to the same numbers. */
enum vrf_kind {
	VRF_TIER0 = 1,
	VRF_TIER1,
	VRF_NODE,
};

enum route_kind {
	ROUTE_CONNECTED = 1,
	ROUTE_LOCAL,
	ROUTE_NAT,
	ROUTE_UP,
	ROUTE_DOWN,
	ROUTE_NODE,
	ROUTE_UPLINK,
	ROUTE_VIA,
	ROUTE_DISCARD,
	ROUTE_VIP,
};

enum nat_dir {
	NAT_OUT = 1,
	NAT_IN,
};

enum nat_action {
	NAT_TRANSLATE = 1,
	NAT_EXEMPT,
};

enum rule_action {
	RULE_ALLOW = 1,
	RULE_DROP,
	RULE_REJECT,
	RULE_CONTINUE,
};

enum firewall_match {
	MATCH_INTERNAL,
	MATCH_EXTERNAL,
	MATCH_BYPASS,
};

enum algorithm {
	ROUND_ROBIN = 1,
	LEAST_CONNECTIONS,
	IP_HASH,
};

enum admin_state {
	MEMBER_ENABLED = 1,
	MEMBER_DRAINING,
	MEMBER_DISABLED,
};

enum lb_snat {
	LB_SNAT_DISABLED,
	LB_SNAT_AUTO_MAP,
	LB_SNAT_POOL,
};

/* Why a member was chosen: pipeline.Why. */
enum why {
	WHY_NONE,
	WHY_KEPT,
	WHY_PERSISTENCE,
	WHY_ROUND_ROBIN,
	WHY_LEAST_CONNECTIONS,
	WHY_IP_HASH,
};

/* ---- tables: every value has two slots, see struct config ---- */

/* What slot the current generation reads: present or, in a trie, a copy of
 * the next shorter match, so that the row hides nothing that it must not. */
enum presence {
	ABSENT,
	PRESENT,
	COVER,
};

enum timeout_class {
	TIMEOUT_TCP_OPENING,
	TIMEOUT_TCP_ESTABLISHED,
	TIMEOUT_TCP_CLOSING,
	TIMEOUT_UDP_SINGLE,
	TIMEOUT_UDP_MULTIPLE,
	TIMEOUT_ICMP,
	TIMEOUT_OTHER,
	TIMEOUTS = 8, /* a power of two, so that the verifier sees the bound */
};

/* One row. Writing it is what makes a new Set current: generation and the
 * slot that look-ups read (generation & 1) change at once. */
struct config {
	__u32 generation;
	__u32 trace;          /* enum trace_mode */
	__u32 clock;          /* the tick that it is, for tests of time-outs; 0: by the kernel's clock */
	__u32 trace_ifindex;  /* TRACE_ONE: packets of this device ... */
	struct tuple trace_tuple; /* ... with this tuple */
	__u32 log_rate;           /* lines a second and CPU; 0: none */
	__u32 timeout[2][TIMEOUTS]; /* ticks */
};

enum trace_mode {
	TRACE_OFF,
	TRACE_ONE,
	TRACE_ALL,
};

enum device_kind {
	DEVICE_PORT = 1,
	DEVICE_UPLINK,
};

enum ruleset_flag {
	RULESET_HAS_ANY = 1,  /* rules for any remote */
	RULESET_HAS_ID = 2,   /* rules for remotes of an identity */
	RULESET_HAS_NONE = 4, /* negated rules, for remotes without identity */
	RULESET_HAS_VIP = 8,  /* rules for what came by a virtual server */
	RULESET_HAS_SRC = 16, /* gateway firewall: rules tell sources apart */
	RULESET_HAS_DST = 32, /* gateway firewall: rules tell destinations apart */
};

struct ruleset_ref {
	__u32 id;
	__u32 flags;
};

/* devices: ifindex -> what is bound to it */
struct device {
	__u32 present;
	__u32 kind;
	__u32 id;      /* table.PortID */
	__u32 segment; /* ports */
	__u32 vrf;     /* uplinks */
	struct addr address; /* uplinks: the router's own */
	__u32 plen;          /* of its subnet, as 128 bit */
	__u8 mac[MAC_LEN];   /* ports: the vNIC's; uplinks: the device's */
	__u8 pad[2];
	struct ruleset_ref in; /* uplinks: gateway firewall */
};

struct device_row {
	struct device slot[2];
};

struct endpoint_key {
	__u32 segment;
	struct addr addr;
};

struct endpoint {
	__u32 present;
	__u32 port;
	__u32 ifindex; /* 0: a Node router's port, or not bound */
	__u32 node;    /* VRF of the Node router behind the port */
	__u8 mac[MAC_LEN];
	__u8 unfiltered;
	__u8 pad;
	__u32 dlb; /* table.LBServiceID; 0: none */
	struct ruleset_ref out[MAX_RULESETS];
	struct ruleset_ref in[MAX_RULESETS];
};

struct endpoint_row {
	struct endpoint slot[2];
};

struct gateway {
	struct addr addr;
	__u32 plen; /* as 128 bit */
};

struct segment {
	__u32 present;
	__u32 vrf;
	__u32 realm;
	__u32 monitor; /* what leaves its port comes from a load balancer */
	__u32 gateways;
	struct gateway gateway[MAX_GATEWAYS];
};

struct segment_row {
	struct segment slot[2];
};

enum vrf_flag {
	VRF_NAT_OUT = 1, /* has rows outwards */
	VRF_NAT_IN = 2,  /* has rows inwards */
};

struct vrf {
	__u32 present;
	__u32 kind; /* table.VRFKind */
	__u32 flags;
	__u32 node_port;
	__u32 node_segment;
	__u32 realm;
	struct ruleset_ref in; /* gateway firewall at a Tier-1's upper link */
	struct ruleset_ref out;
};

struct vrf_row {
	struct vrf slot[2];
};

struct route_key {
	__u32 plen; /* 32 + bits of addr */
	__u32 vrf;
	struct addr addr;
};

struct route {
	__u32 present;
	__u32 kind; /* table.RouteKind */
	__u32 segment;
	__u32 to;
	struct addr via; /* zero: none */
	__u32 nexthops;
	__u32 nexthop[MAX_NEXTHOPS];
};

struct route_row {
	struct route slot[2];
};

struct nexthop {
	__u32 present;
	__u32 ifindex;
	__u32 uplink; /* table.PortID */
	struct addr addr; /* zero: the destination itself */
	__u32 mtu;        /* of the uplink, IP packet; 0: no limit */
	struct ruleset_ref out; /* gateway firewall of the uplink */
};

struct nexthop_row {
	struct nexthop slot[2];
};

/* Which NAT rows cover an address: source outwards, destination inwards. */
struct nat_index_key {
	__u32 plen; /* 64 + bits of addr */
	__u32 vrf;
	__u32 dir; /* table.NATDir */
	struct addr addr;
};

struct nat_index {
	__u32 present;
	__u32 list;
	__u32 count;
};

struct nat_index_row {
	struct nat_index slot[2];
};

struct nat_key {
	__u32 list;
	__u32 index;
};

struct nat {
	__u32 present;
	__u32 id; /* rule id */
	__u8 action; /* table.NATAction */
	__u8 proto;
	__u8 one_to_one;
	__u8 src_plen; /* as 128 bit */
	__u8 dst_plen;
	__u8 match; /* enum firewall_match */
	__u8 pad[2];
	__u16 first; /* service number */
	__u16 last;
	__u16 to_port;
	__u16 port_first;
	__u16 port_last;
	__u16 pad2;
	__u32 iface; /* table.PortID; 0: any */
	__u32 host_mask; /* one-to-one and pool: bits of the last word that the pool varies */
	struct addr src;
	struct addr dst;
	struct addr to;
};

struct nat_row {
	struct nat slot[2];
};

struct identity_key {
	__u32 plen; /* 32 + bits of addr */
	__u32 realm;
	struct addr addr;
};

struct identity {
	__u32 present;
	__u32 id;
};

struct identity_row {
	struct identity slot[2];
};

enum reserved_identity {
	IDENTITY_NONE = 0,
	IDENTITY_ANY = 0xffffffff,
	IDENTITY_VIP = 0xfffffffe, /* what came by a virtual server */
};

struct rule_key {
	__u32 plen; /* 64, or 72 + bits of svc */
	__u32 ruleset;
	__u32 identity;
	__u8 proto;
	__u8 svc[2]; /* network order */
	__u8 pad;
};

struct rule {
	__u32 present;
	__u32 order; /* place in the ruleset: smaller wins */
	__u32 id;
	__u8 action; /* table.RuleAction */
	__u8 strict;
	__u8 logged;
	__u8 pad;
};

struct rule_row {
	struct rule slot[2];
};

/*
 * A gateway's firewall looks at two addresses. Each side's identities fall
 * into classes by the rules that they match; a pair of classes has a list of
 * rules, whose number takes the place of the identity in rule_key.
 */
struct class_key {
	__u32 ruleset;
	__u32 identity;
	__u32 dst; /* 1: the destination's side */
};

struct class {
	__u32 present;
	__u32 id; /* not 0: that is the class of addresses that no rule tells apart */
};

struct class_row {
	struct class slot[2];
};

struct pair_key {
	__u32 ruleset;
	__u32 src;
	__u32 dst;
};

struct pair {
	__u32 present;
	__u32 list;
};

struct pair_row {
	struct pair slot[2];
};

/* ---- load balancers ---- */

enum vip_scope {
	VIP_VRF = 1,
	VIP_DLB,
};

/* A row without protocol says that the address is a VIP, no more. */
struct vip_key {
	__u32 plen; /* 64 + 128, or 64 + 128 + 8 + bits of port */
	__u32 kind; /* enum vip_scope */
	__u32 scope; /* table.VRFID or LBServiceID */
	struct addr addr;
	__u8 proto;
	__u8 port[2]; /* network order */
	__u8 pad;
};

struct vip {
	__u32 present;
	__u32 server; /* table.VirtualServerID; 0: none takes this */
	__u32 pool;
	__u32 max;     /* open connections; 0: no limit */
	__u32 persist; /* whose table of clients; 0: none */
	__u32 persist_ticks;
	struct ruleset_ref access;
	__u16 member_port;
	__u16 pad;
};

struct vip_row {
	struct vip slot[2];
};

struct pool {
	__u32 present;
	__u32 slots;
	__u8 algorithm;
	__u8 snat; /* enum lb_snat */
	__u8 snat_addrs;
	__u8 pad;
	struct addr snat_addr[MAX_SNAT_ADDRS];
};

struct pool_row {
	struct pool slot[2];
};

/* The slots of a pool, SLOTS_A_ROW a row. */
struct slots_key {
	__u32 pool;
	__u32 row;
};

struct slots {
	__u32 present;
	__u32 member[SLOTS_A_ROW];
};

struct slots_row {
	struct slots slot[2];
};

struct member_key {
	__u32 pool;
	__u32 member;
};

struct member {
	__u32 present;
	__u32 max; /* open connections; 0: no limit */
	struct addr addr;
	__u16 port; /* 0: the virtual server's */
	__u16 weight;
	__u8 admin; /* enum admin_state */
	__u8 up;
	__u8 pad[2];
};

struct member_row {
	struct member slot[2];
};
