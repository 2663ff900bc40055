package intent

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// red is a tenant as people write it.
const red = `
resource_type: Infra
children:
- resource_type: ChildTier0
  Tier0:
    resource_type: Tier0
    id: provider
    children:
    - resource_type: ChildLocaleServices
      LocaleServices:
        id: default
        resource_type: LocaleServices
        edge_cluster_path: /infra/sites/default/enforcement-points/default/edge-clusters/ec1
        route_redistribution_config: {redistribution_rules: [{name: all, route_redistribution_types: [TIER1_NAT, TIER1_CONNECTED]}]}
        children:
        - resource_type: ChildTier0Interface
          Tier0Interface: {id: uplink1, subnets: [{ip_addresses: [192.168.100.2], prefix_len: 24}]}
    - resource_type: ChildStaticRoutes
      StaticRoutes: {id: default, network: 0.0.0.0/0, next_hops: [{ip_address: 192.168.100.1}]}
- resource_type: ChildTier1
  Tier1:
    id: red
    tier0_path: /infra/tier-0s/provider
    route_advertisement_types: [TIER1_CONNECTED, TIER1_NAT]
    tags: [{scope: ncp/project, tag: red}]
    children:
    - resource_type: ChildLocaleServices
      LocaleServices: {id: default, edge_cluster_path: /infra/sites/default/enforcement-points/default/edge-clusters/ec1}
    - resource_type: ChildPolicyNat
      PolicyNat:
        id: USER
        children:
        - resource_type: ChildPolicyNatRule
          PolicyNatRule: {id: egress, action: SNAT, translated_network: 172.16.1.1, sequence_number: 20}
        - resource_type: ChildPolicyNatRule
          PolicyNatRule: {id: inside, action: NO_SNAT, source_network: 10.1.0.0/16, destination_network: 10.1.0.0/16, sequence_number: 10}
    - resource_type: ChildSegment
      Segment: {id: db, subnets: [{gateway_address: 10.1.1.1/24}], overlay_id: 5001}
- resource_type: ChildSegment
  Segment:
    id: web
    connectivity_path: /infra/tier-1s/red
    subnets: [{gateway_address: 10.1.0.1/24, network: 10.1.0.0/24}]
    overlay_id: 5000
    children:
    - resource_type: ChildSegmentPort
      SegmentPort:
        id: vm1
        tags: [{scope: app, tag: web}]
        attachment: {id: vif-1}
        address_bindings: [{ip_address: 10.1.0.5, mac_address: "02:00:00:00:00:05"}]
    - resource_type: ChildSegmentPort
      SegmentPort:
        id: node1
        address_bindings: [{ip_address: 10.1.0.6, mac_address: "02:00:00:00:00:06"}]
---
resource_type: Infra
children:
- resource_type: ChildNode
  Node: {id: node1, port_path: /infra/segments/web/ports/node1}
- resource_type: ChildService
  Service:
    id: http
    service_entries:
    - {id: tcp, resource_type: L4PortSetServiceEntry, l4_protocol: TCP, destination_ports: [80, 8000-8080]}
- resource_type: ChildResourceReference
  target_type: Domain
  id: default
  children:
  - resource_type: ChildGroup
    Group:
      id: web
      expression:
      - {resource_type: Condition, member_type: SegmentPort, key: Tag, operator: EQUALS, value: app|web}
      - {resource_type: ConjunctionOperator, conjunction_operator: OR}
      - {resource_type: IPAddressExpression, ip_addresses: [10.9.0.1-10.9.0.4]}
  - resource_type: ChildSecurityPolicy
    SecurityPolicy:
      id: shop
      category: Application
      sequence_number: 10
      rules:
      - {id: web, action: ALLOW, source_groups: [ANY], destination_groups: [/infra/domains/default/groups/web], services: [/infra/services/http]}
`

const redRule = "/infra/domains/default/security-policies/shop/rules/web"

// parse returns the changes of a text that has no errors.
func parse(t testing.TB, text string) []Change {
	t.Helper()
	changes, problems := Parse("", []byte(text))
	if HasErrors(problems) {
		t.Fatalf("problems: %v", problems)
	}
	return changes
}

// tree returns a Tree of texts that have no problems.
func tree(t testing.TB, texts ...string) *Tree {
	t.Helper()
	out := NewTree()
	for _, text := range texts {
		if _, problems := out.Apply(parse(t, text)); len(problems) > 0 {
			t.Fatalf("problems: %v", problems)
		}
	}
	return out
}

func TestParseTenant(t *testing.T) {
	var got []string
	for _, c := range parse(t, red) {
		got = append(got, c.Path+" "+c.Object.Meta().ResourceType)
	}
	want := []string{
		"/infra/tier-0s/provider Tier0",
		"/infra/tier-0s/provider/locale-services/default LocaleServices",
		"/infra/tier-0s/provider/locale-services/default/interfaces/uplink1 Tier0Interface",
		"/infra/tier-0s/provider/static-routes/default StaticRoutes",
		"/infra/tier-1s/red Tier1",
		"/infra/tier-1s/red/locale-services/default LocaleServices",
		"/infra/tier-1s/red/nat/USER PolicyNat",
		"/infra/tier-1s/red/nat/USER/nat-rules/egress PolicyNatRule",
		"/infra/tier-1s/red/nat/USER/nat-rules/inside PolicyNatRule",
		"/infra/tier-1s/red/segments/db Segment",
		"/infra/segments/web Segment",
		"/infra/segments/web/ports/vm1 SegmentPort",
		"/infra/segments/web/ports/node1 SegmentPort",
		"/infra/nodes/node1 Node",
		"/infra/services/http Service",
		"/infra/services/http/service-entries/tcp L4PortSetServiceEntry",
		"/infra/domains/default/groups/web Group",
		"/infra/domains/default/security-policies/shop SecurityPolicy",
		redRule + " Rule",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestEncodeRoundTrip(t *testing.T) {
	before := tree(t, red, balanced)
	data, err := Encode(before.All()...)
	if err != nil {
		t.Fatal(err)
	}
	after := tree(t, string(data))
	if d := cmp.Diff(before.objects, after.objects, cmp.Exporter(func(reflect.Type) bool { return true })); d != "" {
		t.Error(d)
	}
}

// TestUnknownSurvives: what the package does not know comes back as it was,
// at every depth, and without an error.
func TestUnknownSurvives(t *testing.T) {
	const body = `{"resource_type":"Infra","children":[
	 {"resource_type":"ChildSegment","Segment":{"id":"web","resource_type":"Segment","multi_homing":{"a":[1,2.50,null]},
	  "subnets":[{"gateway_address":"10.1.0.1/24","dhcp_config":{"lease_time":86400}}],
	  "advanced_config":{"hybrid":false},"tags":[{"scope":"s","tag":"t","origin":"x"}]}},
	 {"resource_type":"ChildIpAddressPool","IpAddressPool":{"id":"p","resource_type":"IpAddressPool","check":12345678901234567890,
	  "children":[{"resource_type":"ChildIpAddressPoolBlockSubnet","IpAddressPoolBlockSubnet":
	   {"id":"s","resource_type":"IpAddressPoolBlockSubnet","path":"/infra/ip-pools/p/ip-subnets/s","size":16}}]}},
	 {"resource_type":"ChildResourceReference","id":"default","target_type":"Domain","children":[
	  {"resource_type":"ChildGroup","Group":{"id":"g","resource_type":"Group","expression":[
	   {"resource_type":"IPAddressExpression","ip_addresses":["10.0.0.1"],"note":"n"}]}},
	  {"resource_type":"ChildForwardingPolicy","ForwardingPolicy":{"id":"gp","resource_type":"ForwardingPolicy","children":[
	   {"resource_type":"ChildRule","Rule":{"id":"r","resource_type":"Rule","action":"DROP"}}]}}]}]}`
	changes, problems := Parse("", []byte(body))
	var objects []Object
	for _, c := range changes {
		objects = append(objects, c.Object)
	}
	for _, p := range problems {
		if p.Severity == Error || p.Kind != UnknownType {
			t.Errorf("problem %v", p)
		}
	}
	data, err := Encode(objects...)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(leaves(t, []byte(body)), leaves(t, data)); d != "" {
		t.Error(d)
	}
	if _, problems := NewTree().Apply(changes); len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
}

// leaves returns every scalar of a JSON text; the order of children is free.
func leaves(t *testing.T, data []byte) []string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var out []string
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			id, _ := v["id"].(string)
			for k, e := range v {
				walk(at+"/"+id+"."+k, e)
			}
		case []any:
			for _, e := range v {
				walk(at, e)
			}
		case bool:
			out = append(out, at+"="+strconv.FormatBool(v))
		case json.Number:
			out = append(out, at+"="+v.String())
		case string:
			out = append(out, at+"="+v)
		}
	}
	walk("", v)
	slices.Sort(out)
	return out
}

func TestInlineRulesReplace(t *testing.T) {
	tr := tree(t, red)
	const body = `{"resource_type":"Infra","children":[{"resource_type":"ChildResourceReference","id":"default","target_type":"Domain","children":[
	 {"resource_type":"ChildSecurityPolicy","SecurityPolicy":{"id":"shop","category":"Application","rules":[{"id":"new","action":"DROP"}]}}]}]}`
	changed, problems := tr.Apply(parse(t, body))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	shop := "/infra/domains/default/security-policies/shop"
	if d := cmp.Diff([]string{shop, shop + "/rules/new", redRule}, changed); d != "" {
		t.Error(d)
	}
	if tr.Get(redRule) != nil {
		t.Error("the rule that the list leaves out is still there")
	}
}

func TestDefaultSectionKeepsWhatIsNotGiven(t *testing.T) {
	tr := tree(t, `{"resource_type":"Infra","children":[{"resource_type":"ChildResourceReference","id":"default","target_type":"Domain","children":[
	 {"resource_type":"ChildResourceReference","id":"default-layer3-section","target_type":"SecurityPolicy","children":[
	 {"resource_type":"ChildRule","Rule":{"id":"default-layer3-rule","action":"DROP","logged":true}}]}]}]}`)
	r, ok := Find[*Rule](tr, DefaultRulePath)
	if !ok || r.RuleID != 2 || r.Action != "DROP" || !r.Logged || !r.IsDefault {
		t.Errorf("default rule is %+v", r)
	}
}

func TestDeleteWrapper(t *testing.T) {
	tr := tree(t, red)
	changed, problems := tr.Apply(parse(t, `
resource_type: Infra
children:
- {resource_type: ChildNode, marked_for_delete: true, Node: {id: node1}}
- {resource_type: ChildSegment, marked_for_delete: true, Segment: {id: web}}
- {resource_type: ChildTier1, marked_for_delete: true, Tier1: {id: red}}
- {resource_type: ChildTier0, Tier0: {id: provider, marked_for_delete: true}}
- {resource_type: ChildService, marked_for_delete: true, Service: {id: http}}
- resource_type: ChildResourceReference
  target_type: Domain
  id: default
  children:
  - {resource_type: ChildGroup, marked_for_delete: true, Group: {id: web}}
  - {resource_type: ChildSecurityPolicy, marked_for_delete: true, SecurityPolicy: {id: shop}}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if len(changed) != 19 {
		t.Errorf("changed %d objects, want 19: %v", len(changed), changed)
	}
	empty := NewTree()
	if d := cmp.Diff(empty, tr, cmp.Exporter(func(reflect.Type) bool { return true })); d != "" {
		t.Error("indexes are not those of an empty tree:", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(red))
	f.Add([]byte(balanced))
	f.Add([]byte(`{"resource_type":"Infra","children":[{"resource_type":"ChildFoo","Foo":{"id":"x","a":[1,{}]}}]}`))
	f.Add([]byte("resource_type: Infra\n---\nchildren: {"))
	f.Fuzz(func(t *testing.T, data []byte) {
		changes, problems := Parse("f", data)
		NewTree().Apply(changes)
		if HasErrors(problems) {
			return
		}
		want := map[string]Object{}
		for _, c := range changes {
			if c.Object != nil {
				want[c.Path] = c.Object
			}
		}
		body, err := Encode(slices.Collect(maps.Values(want))...)
		if err != nil {
			return
		}
		again, problems := Parse("f", body)
		if HasErrors(problems) {
			t.Fatalf("%v\n%s", problems, body)
		}
		got := map[string]Object{}
		for _, c := range again {
			got[c.Path] = c.Object
		}
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s\n%s", body, cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })))
		}
	})
}
