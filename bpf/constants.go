package bpf

import "github.com/weft-net/weft/table"

// Short names for what types.h says.
const (
	present     = uint32(WeftPresencePRESENT)
	vrfNATOut   = uint32(WeftVrfFlagVRF_NAT_OUT)
	vrfNATIn    = uint32(WeftVrfFlagVRF_NAT_IN)
	hasAny      = uint32(WeftRulesetFlagRULESET_HAS_ANY)
	hasID       = uint32(WeftRulesetFlagRULESET_HAS_ID)
	hasNone     = uint32(WeftRulesetFlagRULESET_HAS_NONE)
	hasVIP      = uint32(WeftRulesetFlagRULESET_HAS_VIP)
	hasSrc      = uint32(WeftRulesetFlagRULESET_HAS_SRC)
	hasDst      = uint32(WeftRulesetFlagRULESET_HAS_DST)
	maxNATRows  = int(WeftBoundMAX_NAT_ROWS)
	noIdentity  = uint32(WeftReservedIdentityIDENTITY_NONE)
	anyIdentity = uint32(WeftReservedIdentityIDENTITY_ANY)
	vipIdentity = uint32(WeftReservedIdentityIDENTITY_VIP)
)

// The numbers that the programs and package table share: an index other than 0
// does not compile.
var _ = [...][1]struct{}{
	{WeftVrfKindVRF_TIER0 - WeftVrfKind(table.Tier0): {}},
	{WeftVrfKindVRF_TIER1 - WeftVrfKind(table.Tier1): {}},
	{WeftVrfKindVRF_NODE - WeftVrfKind(table.Node): {}},
	{WeftRouteKindROUTE_CONNECTED - WeftRouteKind(table.RouteConnected): {}},
	{WeftRouteKindROUTE_LOCAL - WeftRouteKind(table.RouteLocal): {}},
	{WeftRouteKindROUTE_NAT - WeftRouteKind(table.RouteNAT): {}},
	{WeftRouteKindROUTE_UP - WeftRouteKind(table.RouteUp): {}},
	{WeftRouteKindROUTE_DOWN - WeftRouteKind(table.RouteDown): {}},
	{WeftRouteKindROUTE_NODE - WeftRouteKind(table.RouteNode): {}},
	{WeftRouteKindROUTE_UPLINK - WeftRouteKind(table.RouteUplink): {}},
	{WeftRouteKindROUTE_VIA - WeftRouteKind(table.RouteVia): {}},
	{WeftRouteKindROUTE_DISCARD - WeftRouteKind(table.RouteDiscard): {}},
	{WeftRouteKindROUTE_VIP - WeftRouteKind(table.RouteVIP): {}},
	{WeftFirewallMatchMATCH_INTERNAL - WeftFirewallMatch(table.MatchInternal): {}},
	{WeftFirewallMatchMATCH_EXTERNAL - WeftFirewallMatch(table.MatchExternal): {}},
	{WeftFirewallMatchMATCH_BYPASS - WeftFirewallMatch(table.MatchBypass): {}},
	{WeftAlgorithmROUND_ROBIN - WeftAlgorithm(table.RoundRobin): {}},
	{WeftAlgorithmLEAST_CONNECTIONS - WeftAlgorithm(table.LeastConnections): {}},
	{WeftAlgorithmIP_HASH - WeftAlgorithm(table.IPHash): {}},
	{WeftAdminStateMEMBER_ENABLED - WeftAdminState(table.MemberEnabled): {}},
	{WeftAdminStateMEMBER_DRAINING - WeftAdminState(table.MemberDraining): {}},
	{WeftAdminStateMEMBER_DISABLED - WeftAdminState(table.MemberDisabled): {}},
	{WeftLbSnatLB_SNAT_DISABLED - WeftLbSnat(table.SNATDisabled): {}},
	{WeftLbSnatLB_SNAT_AUTO_MAP - WeftLbSnat(table.SNATAutoMap): {}},
	{WeftLbSnatLB_SNAT_POOL - WeftLbSnat(table.SNATPool): {}},
	{WeftNatDirNAT_OUT - WeftNatDir(table.NATOut): {}},
	{WeftNatDirNAT_IN - WeftNatDir(table.NATIn): {}},
	{WeftNatActionNAT_TRANSLATE - WeftNatAction(table.NATTranslate): {}},
	{WeftNatActionNAT_EXEMPT - WeftNatAction(table.NATExempt): {}},
	{WeftRuleActionRULE_ALLOW - WeftRuleAction(table.Allow): {}},
	{WeftRuleActionRULE_DROP - WeftRuleAction(table.Drop): {}},
	{WeftRuleActionRULE_REJECT - WeftRuleAction(table.Reject): {}},
	{WeftRuleActionRULE_CONTINUE - WeftRuleAction(table.Continue): {}},
}
