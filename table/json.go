package table

import (
	"bytes"
	"cmp"
	"crypto/sha256"
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
	var book ruleBook
	for _, set := range sortedValues(s.Rulesets, cmp.Compare) {
		rules, err := book.numbers(set.Rules)
		if err != nil {
			return nil, err
		}
		d.Rulesets = append(d.Rulesets, rulesetDocument{set.ID, set.Name, set.Gateway, rules})
	}
	d.Rules = book.pages
	return json.Marshal(&d)
}

// Digest names the content of a Set: what Encode returns, in 32 bytes.
// Errors: those of Encode.
func Digest(s *Set) ([sha256.Size]byte, error) {
	data, err := Encode(s)
	return sha256.Sum256(data), err
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
		index("ports", &s.Ports, d.Ports, portKey),
		index("uplinks", &s.Uplinks, d.Uplinks, uplinkKey),
		index("segments", &s.Segments, d.Segments, segmentKey),
		index("endpoints", &s.Endpoints, d.Endpoints, endpointKey),
		index("vrfs", &s.VRFs, d.VRFs, vrfKey),
		index("routes", &s.Routes, d.Routes, routeKey),
		index("next hops", &s.NextHops, d.NextHops, nextHopKey),
		index("nat", &s.NAT, d.NAT, natKey),
		index("realms", &s.Realms, d.Realms, realmKey),
		index("address sets", &s.AddrSets, d.AddrSets, addrSetKey),
		index("rulesets", &s.Rulesets, sets, rulesetKey),
		index("services", &s.Services, d.Services, serviceKey),
		index("vips", &s.VIPs, d.VIPs, vipKey),
		index("pools", &s.Pools, d.Pools, poolKey),
		complete(d.VIPs, d.Pools),
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

// ruleBook gives rules numbers, equal ones the same.
type ruleBook struct {
	pages []json.RawMessage // by number
	known map[string]int
}

func (b *ruleBook) numbers(rules []*Rule) (out []int, err error) {
	if b.known == nil {
		b.known = map[string]int{}
	}
	for _, rule := range rules {
		raw, err := json.Marshal(rule)
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", rule.Path, err)
		}
		at, ok := b.known[string(raw)]
		if !ok {
			at = len(b.pages)
			b.known[string(raw)] = at
			b.pages = append(b.pages, raw)
		}
		out = append(out, at)
	}
	return out, nil
}

// rulePages are the rules of a ruleBook again, by number.
type rulePages []*Rule

func readRules(pages []json.RawMessage) (rulePages, error) {
	out := make(rulePages, len(pages))
	for i, raw := range pages {
		if err := strict(raw, &out[i]); err != nil {
			return nil, fmt.Errorf("rules[%d]: %w", i, err)
		}
		if out[i] == nil {
			return nil, fmt.Errorf("rules[%d]: is null", i)
		}
	}
	return out, nil
}

// rules returns those with the numbers, which ruleset id has.
func (p rulePages) rules(id RulesetID, numbers []int) (out []*Rule, err error) {
	for _, at := range numbers {
		if at < 0 || at >= len(p) {
			return nil, fmt.Errorf("ruleset %d: rule %d: does not exist (0 to %d)", id, at, len(p)-1)
		}
		out = append(out, p[at])
	}
	return out, nil
}

func (d *document) rulesets() ([]*Ruleset, error) {
	pages, err := readRules(d.Rules)
	if err != nil {
		return nil, err
	}
	var out []*Ruleset
	for _, r := range d.Rulesets {
		rules, err := pages.rules(r.ID, r.Rules)
		if err != nil {
			return nil, err
		}
		out = append(out, &Ruleset{ID: r.ID, Name: r.Name, Gateway: r.Gateway, Rules: rules})
	}
	return out, nil
}

// complete finds nulls in the lists of virtual servers and monitors.
func complete(vips []*VIP, pools []*Pool) error {
	for i, v := range vips {
		if v != nil && slices.Contains(v.Servers, nil) {
			return fmt.Errorf("vips[%d]: a server is null", i)
		}
	}
	for i, p := range pools {
		if p != nil && slices.Contains(p.Monitors, nil) {
			return fmt.Errorf("pools[%d]: a monitor is null", i)
		}
	}
	return nil
}

func index[K comparable, V any](name string, to *Map[K, V], list []*V, key func(*V) K) error {
	all := to.Edit()
	for i, v := range list {
		if v == nil {
			return fmt.Errorf("%s[%d]: is null", name, i)
		}
		k := key(v)
		if all.Get(k) != nil {
			return fmt.Errorf("%s[%d]: %v: is given twice", name, i, k)
		}
		all.Put(k, v)
	}
	*to = all.Map()
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
