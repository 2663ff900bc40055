package table

import (
	"encoding/json"
	"fmt"
	"slices"
)

// patchDocument is the JSON form of a Patch. What does not change is missing.
type patchDocument struct {
	Node      string                            `json:",omitempty"`
	Ports     edit[PortID, Port]                `json:",omitzero"`
	Uplinks   edit[PortID, Uplink]              `json:",omitzero"`
	Segments  edit[SegmentID, Segment]          `json:",omitzero"`
	Endpoints edit[EndpointKey, Endpoint]       `json:",omitzero"`
	VRFs      edit[VRFID, VRF]                  `json:",omitzero"`
	Routes    edit[RouteKey, Route]             `json:",omitzero"`
	NextHops  edit[NextHopID, NextHop]          `json:",omitzero"`
	NAT       edit[NATKey, NATList]             `json:",omitzero"`
	Realms    edit[RealmID, Realm]              `json:",omitzero"`
	AddrSets  edit[AddrSetID, AddrSet]          `json:",omitzero"`
	AddrRows  []respliced[AddrSet, RealmPrefix] `json:",omitempty"`
	Rules     []json.RawMessage                 `json:",omitempty"` // each once
	Rulesets  edit[RulesetID, rulesetDocument]  `json:",omitzero"`
	RuleRows  []respliced[rulesetDocument, int] `json:",omitempty"`
	Services  edit[LBServiceID, LBService]      `json:",omitzero"`
	VIPs      edit[VIPKey, VIP]                 `json:",omitzero"`
	Pools     edit[PoolID, Pool]                `json:",omitzero"`
	Timeouts  *Timeouts                         `json:",omitempty"`
}

// EncodePatch returns p as JSON.
// Errors: none for a Patch of Sets without nil objects.
func EncodePatch(p *Patch) ([]byte, error) {
	d := patchDocument{
		Node: p.node, Ports: p.ports, Uplinks: p.uplinks, Segments: p.segments, Endpoints: p.endpoints, VRFs: p.vrfs, Routes: p.routes,
		NextHops: p.nextHops, NAT: p.nat, Realms: p.realms, AddrSets: p.addrSets, AddrRows: p.addrRows,
		Services: p.services, VIPs: p.vips, Pools: p.pools, Timeouts: p.timeouts,
	}
	d.Rulesets.Gone = p.rulesets.Gone
	var book ruleBook
	for _, s := range p.rulesets.Put {
		rules, err := book.numbers(s.Rules)
		if err != nil {
			return nil, err
		}
		d.Rulesets.Put = append(d.Rulesets.Put, &rulesetDocument{s.ID, s.Name, s.Gateway, rules})
	}
	for _, r := range p.ruleRows {
		to := respliced[rulesetDocument, int]{To: &rulesetDocument{ID: r.To.ID, Name: r.To.Name, Gateway: r.To.Gateway}}
		for _, s := range r.Rows {
			rules, err := book.numbers(s.Add)
			if err != nil {
				return nil, err
			}
			to.Rows = append(to.Rows, splice[int]{s.At, s.Gone, rules})
		}
		d.RuleRows = append(d.RuleRows, to)
	}
	d.Rules = book.pages
	return json.Marshal(&d)
}

// DecodePatch reads what EncodePatch wrote.
// Errors: not JSON, an unknown field, an object that changes twice, a null
// where an object belongs, or a rule number without a rule. Whether it fits a
// Set is for Apply to say.
func DecodePatch(data []byte) (*Patch, error) {
	var d patchDocument
	if err := strict(data, &d); err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	p := &Patch{
		node: d.Node, ports: d.Ports, uplinks: d.Uplinks, segments: d.Segments, endpoints: d.Endpoints, vrfs: d.VRFs, routes: d.Routes,
		nextHops: d.NextHops, nat: d.NAT, realms: d.Realms, addrSets: d.AddrSets, addrRows: d.AddrRows,
		services: d.Services, vips: d.VIPs, pools: d.Pools, timeouts: d.Timeouts,
	}
	for _, err := range []error{d.rulesets(p), complete(d.VIPs.Put, d.Pools.Put), p.check()} {
		if err != nil {
			return nil, fmt.Errorf("patch: %w", err)
		}
	}
	return p, nil
}

// rulesets puts the rulesets of d, whose rules are numbers, into p.
func (d *patchDocument) rulesets(p *Patch) error {
	pages, err := readRules(d.Rules)
	if err != nil {
		return err
	}
	p.rulesets.Gone = d.Rulesets.Gone
	for i, r := range d.Rulesets.Put {
		if r == nil {
			return fmt.Errorf("rulesets[%d]: is null", i)
		}
		rules, err := pages.rules(r.ID, r.Rules)
		if err != nil {
			return err
		}
		p.rulesets.Put = append(p.rulesets.Put, &Ruleset{ID: r.ID, Name: r.Name, Gateway: r.Gateway, Rules: rules})
	}
	for i, r := range d.RuleRows {
		if r.To == nil || r.To.Rules != nil {
			return fmt.Errorf("rows of rulesets[%d]: want a ruleset without rules", i)
		}
		to := respliced[Ruleset, *Rule]{To: &Ruleset{ID: r.To.ID, Name: r.To.Name, Gateway: r.To.Gateway}}
		for _, s := range r.Rows {
			rules, err := pages.rules(r.To.ID, s.Add)
			if err != nil {
				return err
			}
			to.Rows = append(to.Rows, splice[*Rule]{s.At, s.Gone, rules})
		}
		p.ruleRows = append(p.ruleRows, to)
	}
	return nil
}

// check finds nulls and objects that change twice.
func (p *Patch) check() error {
	addrSets, rulesets := slices.Clone(p.addrSets.Put), slices.Clone(p.rulesets.Put)
	for i, r := range p.addrRows {
		if r.To == nil || r.To.Addrs != nil {
			return fmt.Errorf("rows of address sets[%d]: want an address set without addresses", i)
		}
		addrSets = append(addrSets, r.To)
	}
	for _, r := range p.ruleRows {
		rulesets = append(rulesets, r.To)
	}
	for _, err := range []error{
		index("ports", new(Map[PortID, Port]), p.ports.Put, portKey),
		index("uplinks", new(Map[PortID, Uplink]), p.uplinks.Put, uplinkKey),
		index("segments", new(Map[SegmentID, Segment]), p.segments.Put, segmentKey),
		index("endpoints", new(Map[EndpointKey, Endpoint]), p.endpoints.Put, endpointKey),
		index("vrfs", new(Map[VRFID, VRF]), p.vrfs.Put, vrfKey),
		index("routes", new(Map[RouteKey, Route]), p.routes.Put, routeKey),
		index("next hops", new(Map[NextHopID, NextHop]), p.nextHops.Put, nextHopKey),
		index("nat", new(Map[NATKey, NATList]), p.nat.Put, natKey),
		index("realms", new(Map[RealmID, Realm]), p.realms.Put, realmKey),
		index("address sets", new(Map[AddrSetID, AddrSet]), addrSets, addrSetKey),
		index("rulesets", new(Map[RulesetID, Ruleset]), rulesets, rulesetKey),
		index("services", new(Map[LBServiceID, LBService]), p.services.Put, serviceKey),
		index("vips", new(Map[VIPKey, VIP]), p.vips.Put, vipKey),
		index("pools", new(Map[PoolID, Pool]), p.pools.Put, poolKey),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}
