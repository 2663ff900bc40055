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
	maxNATRows  = int(WeftBoundMAX_NAT_ROWS)
	noIdentity  = uint32(WeftReservedIdentityIDENTITY_NONE)
	anyIdentity = uint32(WeftReservedIdentityIDENTITY_ANY)
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
	{WeftNatDirNAT_OUT - WeftNatDir(table.NATOut): {}},
	{WeftNatDirNAT_IN - WeftNatDir(table.NATIn): {}},
	{WeftNatActionNAT_TRANSLATE - WeftNatAction(table.NATTranslate): {}},
	{WeftNatActionNAT_EXEMPT - WeftNatAction(table.NATExempt): {}},
	{WeftRuleActionRULE_ALLOW - WeftRuleAction(table.Allow): {}},
	{WeftRuleActionRULE_DROP - WeftRuleAction(table.Drop): {}},
	{WeftRuleActionRULE_REJECT - WeftRuleAction(table.Reject): {}},
	{WeftRuleActionRULE_CONTINUE - WeftRuleAction(table.Continue): {}},
}
