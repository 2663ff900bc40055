package compile

import (
	"net/netip"
	"slices"

	"github.com/weft-net/weft/intent"
)

// told is a route of a Tier-0 that it could tell its neighbours.
type told struct {
	prefix netip.Prefix
	origin string // the narrowest redistribution type that it is of
}

// wider is the redistribution types that stand for several. Source: NSX Policy
// API, schema Tier0RouteRedistributionRule.
var wider = map[string]string{
	"TIER0_EXTERNAL_INTERFACE": "TIER0_CONNECTED",
	"TIER0_SEGMENT":            "TIER0_CONNECTED",
	"TIER0_ROUTER_LINK":        "TIER0_CONNECTED",
	"TIER1_SEGMENT":            "TIER1_CONNECTED",
}

// Redistributed returns the prefixes of the last Update that the Tier-0 tells
// its BGP neighbours, by the redistribution rules of its locale services;
// sorted, each once. Cost O(routes of the Tier-0).
func (c *Compiler) Redistributed(tier0 string) []netip.Prefix {
	rel := c.g.facts.get(ref{relTold, tier0, ""})
	if rel == nil {
		return nil
	}
	services := c.tree.LocaleServicesOf(tier0)
	tells := func(kind string) bool {
		return kind != "" && slices.ContainsFunc(services, func(l *intent.LocaleServices) bool { return l.Redistributes(kind) })
	}
	var out []netip.Prefix
	for m := range rel.members.all() {
		if t := m.(told); tells(t.origin) || tells(wider[t.origin]) {
			out = append(out, t.prefix)
		}
	}
	slices.SortFunc(out, comparePrefixes)
	return slices.Compact(out)
}
