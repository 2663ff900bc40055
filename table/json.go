package table

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// document is the JSON form of a Set: lists instead of maps, each sorted by
// key, and rules by number, because rulesets share them.
type document struct {
	Node      string
	Ports     []*Port
	Uplinks   []*Uplink
	Segments  []*Segment
	Endpoints []*Endpoint
	VRFs      []*VRF
	Routes    []*Route
	NextHops  []*NextHop
	NAT       []*NATList
	Realms    []*Realm
	AddrSets  []*AddrSet
	Rules     []json.RawMessage // each once
	Rulesets  []rulesetDocument
	Services  []*LBService
	VIPs      []*VIP
	Pools     []*Pool
	Timeouts  Timeouts
}

type rulesetDocument struct {
	ID      RulesetID
	Name    string
	Gateway bool
	Rules   []int // indexes of document.Rules
}

// Encode returns the Set as JSON, without Health, which is not the compiler's
// to say. Equal Sets give equal bytes.
// Errors: none for a Set without nil objects.
func Encode(s *Set) ([]byte, error) {
	d := document{
		Node:      s.Node,
		Ports:     sortedValues(s.Ports, cmp.Compare),
		Uplinks:   sortedValues(s.Uplinks, cmp.Compare),
		Segments:  sortedValues(s.Segments, cmp.Compare),
		Endpoints: sortedValues(s.Endpoints, EndpointKey.Compare),
		VRFs:      sortedValues(s.VRFs, cmp.Compare),
		Routes:    sortedValues(s.Routes, RouteKey.Compare),
		NextHops:  sortedValues(s.NextHops, cmp.Compare),
		NAT:       sortedValues(s.NAT, NATKey.Compare),
		Realms:    sortedValues(s.Realms, cmp.Compare),
		AddrSets:  sortedValues(s.AddrSets, cmp.Compare),
		Services:  sortedValues(s.Services, cmp.Compare),
		VIPs:      sortedValues(s.VIPs, VIPKey.Compare),
		Pools:     sortedValues(s.Pools, cmp.Compare),
		Timeouts:  s.Timeouts,
	}
	known := map[string]int{}
	for _, set := range sortedValues(s.Rulesets, cmp.Compare) {
		r := rulesetDocument{ID: set.ID, Name: set.Name, Gateway: set.Gateway}
		for _, rule := range set.Rules {
			raw, err := json.Marshal(rule)
			if err != nil {
				return nil, fmt.Errorf("rule %s: %w", rule.Path, err)
			}
			at, ok := known[string(raw)]
			if !ok {
				at = len(d.Rules)
				known[string(raw)] = at
				d.Rules = append(d.Rules, raw)
			}
			r.Rules = append(r.Rules, at)
		}
		d.Rulesets = append(d.Rulesets, r)
	}
	return json.Marshal(&d)
}

// Decode reads what Encode wrote. Rules that several rulesets have are shared
// by pointer again.
// Errors: not JSON, an unknown field, two objects with one key, a null where an
// object belongs, or a rule number without a rule.
func Decode(data []byte) (*Set, error) {
	var d document
	if err := strict(data, &d); err != nil {
		return nil, fmt.Errorf("table set: %w", err)
	}
	s := NewSet(d.Node)
	s.Timeouts = d.Timeouts
	sets, err := d.rulesets()
	for _, e := range []error{
		err,
		index("ports", s.Ports, d.Ports, func(v *Port) PortID { return v.ID }),
		index("uplinks", s.Uplinks, d.Uplinks, func(v *Uplink) PortID { return v.ID }),
		index("segments", s.Segments, d.Segments, func(v *Segment) SegmentID { return v.ID }),
		index("endpoints", s.Endpoints, d.Endpoints, func(v *Endpoint) EndpointKey { return EndpointKey{v.Segment, v.Addr} }),
		index("vrfs", s.VRFs, d.VRFs, func(v *VRF) VRFID { return v.ID }),
		index("routes", s.Routes, d.Routes, func(v *Route) RouteKey { return RouteKey{v.VRF, v.Prefix} }),
		index("next hops", s.NextHops, d.NextHops, func(v *NextHop) NextHopID { return v.ID }),
		index("nat", s.NAT, d.NAT, func(v *NATList) NATKey { return v.Key }),
		index("realms", s.Realms, d.Realms, func(v *Realm) RealmID { return v.ID }),
		index("address sets", s.AddrSets, d.AddrSets, func(v *AddrSet) AddrSetID { return v.ID }),
		index("rulesets", s.Rulesets, sets, func(v *Ruleset) RulesetID { return v.ID }),
		index("services", s.Services, d.Services, func(v *LBService) LBServiceID { return v.ID }),
		index("vips", s.VIPs, d.VIPs, func(v *VIP) VIPKey { return v.Key }),
		index("pools", s.Pools, d.Pools, func(v *Pool) PoolID { return v.ID }),
		d.complete(),
	} {
		if e != nil {
			return nil, fmt.Errorf("table set: %w", e)
		}
	}
	return s, nil
}

func strict(data []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		return err
	}
	if dec.More() {
		return fmt.Errorf("has text after its end")
	}
	return nil
}

func (d *document) rulesets() ([]*Ruleset, error) {
	rules := make([]*Rule, len(d.Rules))
	for i, raw := range d.Rules {
		if err := strict(raw, &rules[i]); err != nil {
			return nil, fmt.Errorf("rules[%d]: %w", i, err)
		}
		if rules[i] == nil {
			return nil, fmt.Errorf("rules[%d]: is null", i)
		}
	}
	var out []*Ruleset
	for _, r := range d.Rulesets {
		set := &Ruleset{ID: r.ID, Name: r.Name, Gateway: r.Gateway}
		for _, at := range r.Rules {
			if at < 0 || at >= len(rules) {
				return nil, fmt.Errorf("ruleset %d: rule %d: does not exist (0 to %d)", r.ID, at, len(rules)-1)
			}
			set.Rules = append(set.Rules, rules[at])
		}
		out = append(out, set)
	}
	return out, nil
}

// complete finds nulls in the lists of virtual servers and monitors.
func (d *document) complete() error {
	for i, v := range d.VIPs {
		if v != nil && slices.Contains(v.Servers, nil) {
			return fmt.Errorf("vips[%d]: a server is null", i)
		}
	}
	for i, p := range d.Pools {
		if p != nil && slices.Contains(p.Monitors, nil) {
			return fmt.Errorf("pools[%d]: a monitor is null", i)
		}
	}
	return nil
}

func index[K comparable, V any](name string, to map[K]*V, list []*V, key func(*V) K) error {
	for i, v := range list {
		if v == nil {
			return fmt.Errorf("%s[%d]: is null", name, i)
		}
		k := key(v)
		if _, twice := to[k]; twice {
			return fmt.Errorf("%s[%d]: %v: is given twice", name, i, k)
		}
		to[k] = v
	}
	return nil
}

// MarshalText returns what String does.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (m *MAC) UnmarshalText(text []byte) error {
	var out MAC
	if n, err := fmt.Sscanf(string(text), "%02x:%02x:%02x:%02x:%02x:%02x", &out[0], &out[1], &out[2], &out[3], &out[4], &out[5]); n != len(out) || err != nil || out.String() != string(text) {
		return fmt.Errorf("mac %q: is not six octets (such as 02:50:56:56:44:52)", text)
	}
	*m = out
	return nil
}
