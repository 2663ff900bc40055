package intent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// infra wraps children into a body.
func infra(children ...string) string {
	return "resource_type: Infra\nchildren:\n" + list(children)
}

// in wraps children into a reference to an existing parent.
func in(target, id string, children ...string) string {
	return "- {resource_type: ChildResourceReference, target_type: " + target + ", id: " + id + ", children: [" + flow(children) + "]}"
}

// child is one wrapper in flow style.
func child(kind, fields string) string {
	return "- {resource_type: Child" + kind + ", " + kind + ": {" + fields + "}}"
}

func list(children []string) string { return strings.Join(children, "\n") + "\n" }

func flow(children []string) string {
	var out []string
	for _, c := range children {
		out = append(out, strings.TrimPrefix(c, "- "))
	}
	return strings.Join(out, ", ")
}

// Short forms of what the rows change in the red tenant.
func segment(fields string) string { return infra(child("Segment", fields)) }
func tier1(fields string) string   { return infra(child("Tier1", fields)) }
func tier0(fields string) string   { return infra(child("Tier0", fields)) }
func domain(c ...string) string    { return infra(in("Domain", "default", c...)) }
func group(expr string) string {
	return domain(child("Group", "id: g, expression: ["+expr+"]"))
}
func rule(fields string) string {
	return domain(in("SecurityPolicy", "shop", child("Rule", "id: r, "+fields)))
}
func nat(fields string) string {
	return infra(in("Tier1", "red", in("PolicyNat", "USER", child("PolicyNatRule", "id: n1, "+fields))))
}
func port(fields string) string {
	return infra(in("Segment", "web", child("SegmentPort", "id: p, "+fields)))
}
func entry(fields string) string {
	return infra("- {resource_type: ChildService, Service: {id: s, service_entries: [{id: e, " + fields + "}]}}")
}
func binding(ip, mac string) string {
	return fmt.Sprintf("address_bindings: [{ip_address: %q, mac_address: %q}]", ip, mac)
}

// lb is a load balancer in the red tenant: a pool, an app profile, the
// service and what a row adds.
func lb(c ...string) string {
	return infra(append([]string{
		child("LBAppProfile", "resource_type: LBFastTcpProfile, id: tcp"), child("LBPool", "id: p"), child("LBService", "id: s, connectivity_path: /infra/tier-1s/red"),
	}, c...)...)
}
func server(fields string) string {
	return lb(child("LBVirtualServer", "id: v, lb_service_path: /infra/lb-services/s, "+fields))
}
func pool(fields string) string    { return infra(child("LBPool", "id: p, "+fields)) }
func monitor(fields string) string { return infra(child("LBMonitorProfile", "id: m, "+fields)) }
func gateway(policy, rule string) string {
	return domain(child("GatewayPolicy", "id: g, "+policy+"rules: [{id: r, "+rule+"}]"))
}

const (
	lbOK  = "ip_address: 172.16.1.1, ports: ['80'], application_profile_path: /infra/lb-app-profiles/tcp"
	lbVS  = "/infra/lb-virtual-servers/v"
	lbP   = "/infra/lb-pools/p"
	lbM   = "/infra/lb-monitor-profiles/m"
	gateP = "/infra/domains/default/gateway-policies/g"
	mac   = "02:00:00:00:00:99"
	cond  = "{resource_type: Condition, member_type: SegmentPort, key: Tag, operator: EQUALS, value: a|b}"
	andOp = "{resource_type: ConjunctionOperator, conjunction_operator: AND}"
	orOp  = "{resource_type: ConjunctionOperator, conjunction_operator: OR}"
	shopP = "/infra/domains/default/security-policies/shop"
	natP  = "/infra/tier-1s/red/nat/USER/nat-rules/n1"
)

// TestProblems applies each text to the red tenant and wants exactly these
// problems.
func TestProblems(t *testing.T) {
	rows := []struct {
		name string
		text string
		want []string // kind, then the text of the problem
	}{
		{"syntax JSON", "{\n\"a\" 1}", []string{"bad_syntax f:2: is not JSON: invalid character '1' after object key"}},
		{"syntax YAML", "a: b\nc: [", []string{"bad_syntax f:2: is not YAML: did not find expected node content"}},
		{"syntax in the second document", "resource_type: Infra\n---\nchildren: {\n", []string{"bad_syntax f:3: is not YAML: did not find expected node content"}},
		{"no body", "a: b", []string{`bad_syntax f:1: resource_type: "": is not a hierarchical body (want Infra)`}},
		{"a list", "[1]", []string{`bad_syntax f: is a list (want an object of resource_type Infra)`}},
		{"no child", infra("- {resource_type: Tier1}"), []string{"bad_value f: children[0].resource_type: Tier1: is no child (want Child and a resource type, such as ChildTier1)"}},
		{"no object", infra("- {resource_type: ChildTier1}"), []string{"required f: children[0].Tier1: is missing (want the object that ChildTier1 carries)"}},
		{"wrong object", infra("- {resource_type: ChildTier1, Tier1: {resource_type: Segment, id: a}}"), []string{"bad_value f: children[0].Tier1.resource_type: Segment: does not fit ChildTier1"}},
		{"wrong entry", entry("resource_type: ALGTypeServiceEntry"), []string{"bad_value f: /infra/services/s: service_entries[0].resource_type: ALGTypeServiceEntry: does not fit ChildServiceEntry (such as L4PortSetServiceEntry)"}},
		{"type", segment("id: a, overlay_id: many"), []string{"bad_type f: /infra/segments/a: overlay_id: is a string (want a whole number)"}},
		{"type list", segment("id: a, subnets: {}"), []string{"bad_type f: /infra/segments/a: subnets: is an object (want a list)"}},
		{"typo", segment("id: a, subnet: []"), []string{"unknown_field f: /infra/segments/a: subnet: is not a known field (did you mean subnets)"}},
		{"typo nested", segment("id: a, subnets: [{gateway_adress: 10.5.0.1/24, gateway_address: 10.5.0.1/24}]"), []string{"unknown_field f: /infra/segments/a: subnets[0].gateway_adress: is not a known field (did you mean gateway_address)"}},
		{"typo type", infra(child("Segmnt", "id: a")), []string{"unknown_type f: /infra/segmnts/a: resource_type: Segmnt: is not a known type (did you mean Segment)"}},
		{"unknown type", infra(child("IpAddressPool", "id: a")), []string{"unknown_type f: /infra/ip-pools/a: resource_type: IpAddressPool: has no effect yet, it is only kept"}},
		{"id empty", segment("display_name: a"), []string{"bad_id f: children[0].Segment.id: is empty (want 1 to 255 characters)"}},
		{"id slash", segment("id: a/b"), []string{"bad_id f: children[0].Segment.id: a/b: contains a slash or a control character"}},
		{"id long", segment("id: " + strings.Repeat("a", 256)), []string{"bad_id f: children[0].Segment.id: aaaaaaaaaaaaaaaa…: has 256 bytes (at most 255)"}},
		{"id not quoted", segment("id: no"), []string{"bad_id f: children[0].Segment.id: is true or false (want a string: put it in quotes)"}},
		{"word not quoted", segment("id: a, advanced_config: {connectivity: OFF}"), []string{"bad_type f: /infra/segments/a: advanced_config.connectivity: is true or false (want a string: put it in quotes)"}},
		{"path", segment("id: a, path: /infra/segments/b"), []string{"bad_id f: /infra/segments/a: path: /infra/segments/b: is not where the object is (want /infra/segments/a)"}},
		{"parent type", infra(child("SegmentPort", "id: a")), []string{"bad_parent f: children[0].SegmentPort: SegmentPort: cannot be a child of Infra (want Segment)"}},
		{"parent gone", infra(in("Segment", "gone", child("SegmentPort", "id: a"))), []string{"bad_parent /infra/segments/gone/ports/a: parent_path: /infra/segments/gone: does not exist"}},
		{"twice", infra(child("Tier1", "id: a"), child("Tier1", "id: a, type: ROUTED")), []string{"duplicate /infra/tier-1s/a: is given twice with different content"}},
		{"given and deleted", infra(child("Tier1", "id: a"), "- {resource_type: ChildTier1, marked_for_delete: true, Tier1: {id: a}}"), []string{"duplicate /infra/tier-1s/a: is given and deleted in one change"}},
		{"tags", segment("id: a, tags: [" + strings.Repeat("{},", 1025) + "]"), []string{"too_long /infra/segments/a: tags: has 1025 tags (at most 1024)"}},
		{"tag scope", segment("id: a, tags: [{scope: " + strings.Repeat("s", 318) + "}]"), []string{"too_long /infra/segments/a: tags[0].scope: has 318 bytes (at most 317)"}},
		{"tag", segment("id: a, tags: [{tag: " + strings.Repeat("s", 513) + "}]"), []string{"too_long /infra/segments/a: tags[0].tag: has 513 bytes (at most 512)"}},

		{"dangling", tier1("id: a, tier0_path: /infra/tier-0s/no"), []string{"dangling /infra/tier-1s/a: tier0_path: /infra/tier-0s/no: does not exist"}},
		{"wrong type", segment("id: a, connectivity_path: /infra/services/http"), []string{"wrong_type /infra/segments/a: connectivity_path: /infra/services/http: is a Service (want Tier0 or Tier1 or Node)"}},
		{"no path", segment("id: a, connectivity_path: red"), []string{"bad_value /infra/segments/a: connectivity_path: red: is not a policy path (such as /infra/tier-1s/red)"}},
		{"ha mode", tier0("id: a, ha_mode: BOTH"), []string{"bad_value /infra/tier-0s/a: ha_mode: BOTH: is not allowed (ACTIVE_ACTIVE, ACTIVE_STANDBY)"}},
		{"transit small", tier0("id: a, transit_subnets: [100.64.0.0/31]"), []string{"bad_value /infra/tier-0s/a: transit_subnets[0]: 100.64.0.0/31: is too small for a link per Tier-1 (at most /30)"}},
		{"transit host bits", tier0("id: a, transit_subnets: [100.64.0.1/16]"), []string{"bad_address /infra/tier-0s/a: transit_subnets[0]: 100.64.0.1/16: has host bits (want 100.64.0.0/16)"}},
		{"transit multicast", tier0("id: a, transit_subnets: [224.0.0.0/16]"), []string{"bad_address /infra/tier-0s/a: transit_subnets[0]: 224.0.0.0/16: is not a unicast subnet (such as 100.64.0.0/16)"}},
		{"advertisement", tier1("id: a, route_advertisement_types: [ALL], route_advertisement_rules: [{action: NAY, subnets: [x]}]"), []string{
			"bad_value /infra/tier-1s/a: route_advertisement_types[0]: ALL: is not allowed (TIER1_STATIC_ROUTES, TIER1_CONNECTED, TIER1_NAT, TIER1_LB_VIP, TIER1_LB_SNAT, TIER1_DNS_FORWARDER_IP, TIER1_IPSEC_LOCAL_ENDPOINT)",
			"bad_value /infra/tier-1s/a: route_advertisement_rules[0].action: NAY: is not allowed (PERMIT, DENY)",
			"bad_address /infra/tier-1s/a: route_advertisement_rules[0].subnets[0]: x: is no address and no CIDR (such as 10.1.0.5 or 10.1.0.0/24)"}},
		{"natted", tier1("id: a, type: NATTED, route_advertisement_types: [TIER1_NAT, TIER1_CONNECTED]"), []string{
			"conflict /infra/tier-1s/a: route_advertisement_types[1]: TIER1_CONNECTED: is given, and the type is NATTED (what no NAT rule translates would leave as it is)"}},
		{"interface", infra(in("Tier0", "provider", in("LocaleServices", "default", child("Tier0Interface", "id: u, type: LOOPBACK, subnets: [{ip_addresses: [10.0.0.0], prefix_len: 24}]")))), []string{
			"unsupported /infra/tier-0s/provider/locale-services/default/interfaces/u: type: LOOPBACK: is not supported yet (EXTERNAL)",
			"not_a_host /infra/tier-0s/provider/locale-services/default/interfaces/u: subnets[0].ip_addresses[0]: 10.0.0.0/24: is a network address (want a host address such as 10.0.0.1/24)"}},

		{"gateway network", segment("id: a, subnets: [{gateway_address: 10.1.0.0/24}]"), []string{"not_a_host /infra/segments/a: subnets[0].gateway_address: 10.1.0.0/24: is a network address (want a host address such as 10.1.0.1/24)"}},
		{"gateway broadcast", segment("id: a, subnets: [{gateway_address: 10.1.0.255/24}]"), []string{"not_a_host /infra/segments/a: subnets[0].gateway_address: 10.1.0.255/24: is a broadcast address (want a host address such as 10.1.0.1/24)"}},
		{"gateway text", segment("id: a, subnets: [{gateway_address: 10.1.0.1}]"), []string{"bad_address /infra/segments/a: subnets[0].gateway_address: 10.1.0.1: is no address with a prefix length (such as 10.1.0.1/24)"}},
		{"network", segment("id: a, subnets: [{gateway_address: 10.1.0.1/24, network: 10.2.0.0/24}]"), []string{"conflict /infra/segments/a: subnets[0].network: 10.2.0.0/24: is not the gateway's subnet (10.1.0.0/24)"}},
		{"overlap", segment("id: a, connectivity_path: /infra/tier-1s/red, subnets: [{gateway_address: 10.1.0.129/25}]"), []string{"overlap /infra/segments/a: subnets[0].gateway_address: 10.1.0.129/25: overlaps 10.1.0.1/24 of /infra/segments/web on /infra/tier-1s/red"}},
		{"vni", segment("id: a, overlay_id: 5000"), []string{"duplicate /infra/segments/a: overlay_id: 5000: is already used by /infra/segments/web"}},
		{"vni range", segment("id: a, overlay_id: 16777216"), []string{"bad_value /infra/segments/a: overlay_id: 16777216: is out of range (0 to 16777215)"}},
		{"vlan", segment("id: a, vlan_ids: [4095]"), []string{"bad_value /infra/segments/a: vlan_ids[0]: 4095: is not a VLAN or a range of VLANs (0 to 4094)"}},
		{"bindings move", segment("id: web, connectivity_path: /infra/tier-1s/red, overlay_id: 5000, subnets: [{gateway_address: 10.1.0.1/30}]"), []string{
			"outside_subnet /infra/segments/web/ports/node1: address_bindings[0].ip_address: 10.1.0.6: is outside the segment's subnets (10.1.0.0/30)",
			"outside_subnet /infra/segments/web/ports/vm1: address_bindings[0].ip_address: 10.1.0.5: is outside the segment's subnets (10.1.0.0/30)"}},

		{"binding", port(binding("10.1.0", "02:00")), []string{
			"bad_mac /infra/segments/web/ports/p: address_bindings[0].mac_address: 02:00: is not a MAC address (such as 02:00:00:00:00:01)",
			"bad_address /infra/segments/web/ports/p: address_bindings[0].ip_address: 10.1.0: is not an address (such as 10.1.0.5)"}},
		{"binding multicast MAC", port(binding("10.1.0.9", "03:00:00:00:00:01")), []string{"bad_mac /infra/segments/web/ports/p: address_bindings[0].mac_address: 03:00:00:00:00:01: is not a unicast MAC address (such as 02:00:00:00:00:01)"}},
		{"binding gateway", port(binding("10.1.0.1", mac)), []string{"is_gateway /infra/segments/web/ports/p: address_bindings[0].ip_address: 10.1.0.1: is the gateway of the segment"}},
		{"binding broadcast", port(binding("10.1.0.255", mac)), []string{"not_a_host /infra/segments/web/ports/p: address_bindings[0].ip_address: 10.1.0.255: is a broadcast address of 10.1.0.0/24"}},
		{"binding outside", port(binding("10.2.0.1", mac)), []string{"outside_subnet /infra/segments/web/ports/p: address_bindings[0].ip_address: 10.2.0.1: is outside the segment's subnets (10.1.0.0/24)"}},
		{"binding twice", port(binding("10.1.0.5", "02-00-00-00-00-05")), []string{
			"duplicate /infra/segments/web/ports/p: address_bindings[0].ip_address: 10.1.0.5: is already used by /infra/segments/web/ports/vm1",
			"duplicate /infra/segments/web/ports/p: address_bindings[0].mac_address: 02-00-00-00-00-05: is already used by /infra/segments/web/ports/vm1"}},
		{"binding router MAC", port(binding("10.1.0.9", "02:50:56:56:44:52")), []string{"conflict /infra/segments/web/ports/p: address_bindings[0].mac_address: 02:50:56:56:44:52: is the address of the routers"}},
		{"attachment", port("attachment: {id: vif-1}"), []string{"duplicate /infra/segments/web/ports/p: attachment.id: vif-1: is already used by /infra/segments/web/ports/vm1"}},

		{"group even", group(cond + "," + andOp), []string{"bad_expression /infra/domains/default/groups/g: expression: has 2 elements (want an odd number: operands joined by AND or OR)"}},
		{"group order", group(cond + "," + cond + "," + andOp), []string{
			"bad_expression /infra/domains/default/groups/g: expression[1]: is an operand (want a conjunction at odd indexes)",
			"bad_expression /infra/domains/default/groups/g: expression[2]: is a conjunction (want an operand at even indexes)"}},
		{"group nested or", group("{resource_type: NestedExpression, expressions: [" + cond + "," + orOp + "," + cond + "]}"), []string{"bad_value /infra/domains/default/groups/g: expression[0].expressions[1].conjunction_operator: OR: is not allowed (AND)"}},
		{"group address", group("{resource_type: IPAddressExpression, ip_addresses: [10.0.0.9-10.0.0.1, x]}"), []string{
			"bad_address /infra/domains/default/groups/g: expression[0].ip_addresses[0]: 10.0.0.9-10.0.0.1: is not a range (first and last address of one family, such as 10.1.0.5-10.1.0.9)",
			"bad_address /infra/domains/default/groups/g: expression[0].ip_addresses[1]: x: is no address, CIDR or range (such as 10.1.0.5, 10.1.0.0/24 or 10.1.0.5-10.1.0.9)"}},
		{"group itself", group("{resource_type: PathExpression, paths: [/infra/domains/default/groups/g]}"), []string{"cycle /infra/domains/default/groups/g: expression: contains itself: /infra/domains/default/groups/g"}},
		{"group kind", group("{resource_type: ExternalIDExpression}"), []string{"unsupported /infra/domains/default/groups/g: expression[0].resource_type: ExternalIDExpression: is not supported yet (Condition, NestedExpression, IPAddressExpression, MACAddressExpression, PathExpression)"}},
		{"group condition", group("{resource_type: Condition, member_type: VirtualMachine, key: OSName, operator: MATCHES, value: x}"), []string{
			"unsupported /infra/domains/default/groups/g: expression[0].member_type: VirtualMachine: is not supported yet (Segment, SegmentPort)",
			"unsupported /infra/domains/default/groups/g: expression[0].key: OSName: is not supported yet (Tag, Name, ALL)",
			"unsupported /infra/domains/default/groups/g: expression[0].operator: MATCHES: is not supported yet (EQUALS, CONTAINS, STARTSWITH, ENDSWITH, NOTEQUALS, NOTIN, IN)"}},

		{"ports", entry("resource_type: L4PortSetServiceEntry, l4_protocol: TCP, destination_ports: [90-80, http], source_ports: [53]"), []string{
			"unsupported /infra/services/s/service-entries/e: source_ports: 53: is not supported yet (want it empty)",
			"bad_port /infra/services/s/service-entries/e: destination_ports[0]: 90-80: is not a port or a port range (0 to 65535, such as 80 or 8000-8080)",
			"bad_port /infra/services/s/service-entries/e: destination_ports[1]: http: is not a port or a port range (0 to 65535, such as 80 or 8000-8080)"}},
		{"icmp", entry("resource_type: ICMPTypeServiceEntry, protocol: ICMPv4, icmp_type: 256"), []string{"bad_value /infra/services/s/service-entries/e: icmp_type: 256: is out of range (0 to 255)"}},
		{"icmp code", entry("resource_type: ICMPTypeServiceEntry, protocol: ICMPv4, icmp_code: 0"), []string{"conflict /infra/services/s/service-entries/e: icmp_code: is given without a type (give icmp_type too)"}},
		{"protocol", entry("resource_type: IPProtocolServiceEntry, protocol_number: 256"), []string{"bad_value /infra/services/s/service-entries/e: protocol_number: 256: is out of range (0 to 255)"}},
		{"service itself", entry("resource_type: NestedServiceServiceEntry, nested_service_path: /infra/services/s"), []string{
			"cycle /infra/services/s: service_entries: contains itself: /infra/services/s",
			"cycle /infra/services/s/service-entries/e: service_entries: contains itself: /infra/services/s"}},
		{"service emptied", infra("- {resource_type: ChildService, Service: {id: http, service_entries: []}}"), []string{"bad_value " + redRule + ": services[0]: /infra/services/http: has no service entries"}},

		{"category", domain(child("SecurityPolicy", "id: p, category: App, stateful: false")), []string{
			"bad_value /infra/domains/default/security-policies/p: category: App: is not allowed (Ethernet, Emergency, Infrastructure, Environment, Application)",
			"unsupported /infra/domains/default/security-policies/p: stateful: false: is not supported yet (true)"}},
		{"jump", rule("action: JUMP_TO_APPLICATION"), []string{"conflict " + shopP + "/rules/r: action: JUMP_TO_APPLICATION: is in category Application (only in Environment)"}},
		{"no action", rule("direction: BOTH"), []string{
			"required " + shopP + "/rules/r: action: is missing (ALLOW, DROP, REJECT, JUMP_TO_APPLICATION)",
			"bad_value " + shopP + "/rules/r: direction: BOTH: is not allowed (IN, OUT, IN_OUT)"}},
		{"any", rule("action: DROP, source_groups: [ANY, 10.0.0.1], destination_groups: [web]"), []string{
			"any_not_alone " + shopP + "/rules/r: source_groups[0]: ANY: is not the only value",
			"bad_address " + shopP + "/rules/r: destination_groups[0]: web: is no policy path, address, CIDR or range, and not ANY"}},
		{"any excluded", rule("action: DROP, sources_excluded: true"), []string{"conflict " + shopP + "/rules/r: source_groups: is everything, and excluded (the rule would match nothing)"}},
		{"rule id", rule("action: DROP, rule_id: 2"), []string{"duplicate " + shopP + "/rules/r: rule_id: 2: is already used by " + DefaultRulePath}},
		{"scope", rule("action: DROP, scope: [all], profiles: [/infra/context-profiles/x]"), []string{
			"bad_value " + shopP + "/rules/r: scope[0]: all: is not a policy path, ANY or DFW",
			"unsupported " + shopP + "/rules/r: profiles[0]: /infra/context-profiles/x: is not supported yet (ANY)"}},
		{"default rule", domain(in("SecurityPolicy", "default-layer3-section", child("Rule", "id: default-layer3-rule, disabled: true"))), []string{"protected " + DefaultRulePath + ": is the last rule and matches everything (only action, logged, tag and names can change)"}},

		{"snat", nat("action: SNAT"), []string{"required " + natP + ": translated_network: is missing (SNAT wants an address or a CIDR)"}},
		{"snat range", nat("action: SNAT, translated_network: 172.16.1.1-172.16.1.9"), []string{"range_not_allowed " + natP + ": translated_network: 172.16.1.1-172.16.1.9: is a range (want an address or a CIDR such as 10.1.0.0/24)"}},
		{"snat source range", nat("action: SNAT, source_network: 10.0.0.1-10.0.0.2, translated_network: 172.16.1.1"), []string{"range_not_allowed " + natP + ": source_network: 10.0.0.1-10.0.0.2: is a range (want an address or a CIDR such as 10.1.0.0/24)"}},
		{"dnat", nat("action: DNAT, translated_network: 10.1.0.5, translated_ports: 80-90"), []string{
			"required " + natP + ": destination_network: is missing (DNAT wants the addresses that it is for)",
			"unsupported " + natP + ": translated_ports: 80-90: is a range, not supported yet (one port)"}},
		{"no snat", nat("action: NO_SNAT, translated_network: 10.1.0.5, firewall_match: MATCH_INTERNAL_ADDRESS"), []string{
			"conflict " + natP + ": translated_network: 10.1.0.5: is given for NO_SNAT (want it empty)",
			"conflict " + natP + ": firewall_match: MATCH_INTERNAL_ADDRESS: is given for NO_SNAT (BYPASS or empty)"}},
		{"reflexive", nat("action: REFLEXIVE, source_network: 10.1.0.0/24, translated_network: 172.16.1.0/25"), []string{"conflict " + natP + ": translated_network: 172.16.1.0/25: has not the size of 10.1.0.0/24"}},
		{"nat64", nat("action: NAT64"), []string{"unsupported " + natP + ": action: NAT64: is not supported yet (SNAT, DNAT, REFLEXIVE, NO_SNAT, NO_DNAT)"}},
		{"families", nat("action: SNAT, source_network: 10.0.0.0/8, translated_network: '2001:db8::1'"), []string{"conflict " + natP + ": translated_network: 2001:db8::1: is not of the family of 10.0.0.0/8"}},
		{"no edge", tier1("id: a, children: [{resource_type: ChildPolicyNat, PolicyNat: {id: USER, children: [{resource_type: ChildPolicyNatRule, PolicyNatRule: {id: n1, action: NO_SNAT}}]}}]"), []string{"no_edge /infra/tier-1s/a/nat/USER/nat-rules/n1: path: /infra/tier-1s/a: has no edge cluster (want a locale service with edge_cluster_path)"}},
		{"edge leaves", infra(in("Tier1", "red", child("LocaleServices", "id: default"))), []string{
			"no_edge /infra/tier-1s/red/nat/USER/nat-rules/egress: path: /infra/tier-1s/red: has no edge cluster (want a locale service with edge_cluster_path)",
			"no_edge /infra/tier-1s/red/nat/USER/nat-rules/inside: path: /infra/tier-1s/red: has no edge cluster (want a locale service with edge_cluster_path)"}},
		{"section", infra(in("Tier1", "red", child("PolicyNat", "id: MINE"))), []string{"bad_value /infra/tier-1s/red/nat/MINE: id: MINE: is not allowed (INTERNAL, USER, DEFAULT)"}},

		{"route", infra(in("Tier1", "red", child("StaticRoutes", "id: r, network: 10.7.0.0/16, next_hops: [{ip_address: 10.8.0.1}]"))), []string{"outside_subnet /infra/tier-1s/red/static-routes/r: next_hops[0].ip_address: 10.8.0.1: is not on a connected subnet of /infra/tier-1s/red (10.1.0.0/24, 10.1.1.0/24)"}},
		{"route itself", infra(in("Tier1", "red", child("StaticRoutes", "id: r, network: 10.7.0.0/16, next_hops: [{ip_address: 10.1.0.1}]"))), []string{"is_gateway /infra/tier-1s/red/static-routes/r: next_hops[0].ip_address: 10.1.0.1: is the router's own address on /infra/segments/web"}},
		{"route loses uplink", infra(in("Tier0", "provider", in("LocaleServices", "default", "- {resource_type: ChildTier0Interface, marked_for_delete: true, Tier0Interface: {id: uplink1}}"))), []string{"outside_subnet /infra/tier-0s/provider/static-routes/default: next_hops[0].ip_address: 192.168.100.1: is not on a connected subnet of /infra/tier-0s/provider (it has none)"}},
		{"node", infra(child("Node", "id: n2")), []string{"required /infra/nodes/n2: port_path: is missing (want the path of a segment port)"}},
		{"node twice", infra(child("Node", "id: n2, port_path: /infra/segments/web/ports/node1")), []string{"duplicate /infra/nodes/n2: port_path: /infra/segments/web/ports/node1: is already used by /infra/nodes/node1"}},

		{"lb service", lb(child("LBService", "id: t, connectivity_path: /infra/domains/default/groups/web, size: TINY")), []string{
			"bad_value /infra/lb-services/t: size: TINY: is not allowed (SMALL, MEDIUM, LARGE, XLARGE, DLB)",
			"conflict /infra/lb-services/t: connectivity_path: /infra/domains/default/groups/web: is a group, and the size is not DLB (want a Tier-0 or Tier-1)"}},
		{"lb service twice", lb(child("LBService", "id: t, connectivity_path: /infra/tier-1s/red")), []string{"duplicate /infra/lb-services/t: connectivity_path: /infra/tier-1s/red: is already used by /infra/lb-services/s"}},
		{"lb service DLB", lb(child("LBService", "id: t, connectivity_path: /infra/tier-1s/red, size: DLB")), []string{"conflict /infra/lb-services/t: connectivity_path: /infra/tier-1s/red: is no group, and the size is DLB (want a Group)"}},
		{"lb service nowhere", lb(child("LBService", "id: t, connectivity_path: /infra/segments/web")), []string{"wrong_type /infra/lb-services/t: connectivity_path: /infra/segments/web: is a Segment (want Tier0 or Tier1 or Group)"}},
		{"lb service no edge", infra(child("Tier1", "id: a"), child("LBService", "id: t, connectivity_path: /infra/tier-1s/a")), []string{"no_edge /infra/lb-services/t: connectivity_path: /infra/tier-1s/a: has no edge cluster (want a locale service with edge_cluster_path)"}},
		{"server empty", server("pool_path: p"), []string{
			`bad_address /infra/lb-virtual-servers/v: ip_address: "": is not an address (such as 10.1.0.5)`,
			"required " + lbVS + ": ports: is missing (want ports or port ranges such as 80 or 8000-8080)",
			"bad_value " + lbVS + ": pool_path: p: is not a policy path (such as /infra/tier-1s/red)",
			"required " + lbVS + ": application_profile_path: is missing (want the path of an LBFastTcpProfile or LBFastUdpProfile)"}},
		{"server address", server("ip_address: 224.0.0.1, ports: ['0', 90-80], application_profile_path: /infra/lb-app-profiles/tcp"), []string{
			"not_a_host " + lbVS + ": ip_address: 224.0.0.1: is not a unicast address",
			"bad_port " + lbVS + ": ports[0]: 0: is not a port that a packet can have (1 to 65535)",
			"bad_port " + lbVS + ": ports[1]: 90-80: is not a port or a port range (0 to 65535, such as 80 or 8000-8080)"}},
		{"server pool gone", server(lbOK + ", pool_path: /infra/lb-pools/no"), []string{"dangling " + lbVS + ": pool_path: /infra/lb-pools/no: does not exist"}},
		{"server member ports", server(lbOK + ", default_pool_member_ports: ['80', '81']"), []string{"unsupported " + lbVS + ": default_pool_member_ports: 80,81: is not supported yet (one port, or the same as ports)"}},
		{"server member port", server(lbOK + ", default_pool_member_ports: ['0']"), []string{"bad_port " + lbVS + ": default_pool_member_ports[0]: 0: is not a port that a packet can have (1 to 65535)"}},
		{"server access", server(lbOK + ", max_concurrent_connections: -1, access_list_control: {action: DENY}"), []string{
			"bad_value " + lbVS + ": max_concurrent_connections: -1: is out of range (0 to 4294967295)",
			"bad_value " + lbVS + ": access_list_control.action: DENY: is not allowed (ALLOW, DROP)",
			"required " + lbVS + ": access_list_control.group_path: is missing (want the path of a group)"}},
		{"server layer 7", lb(child("LBAppProfile", "resource_type: LBHttpProfile, id: http"), child("LBPersistenceProfile", "resource_type: LBCookiePersistenceProfile, id: cookie"),
			child("LBVirtualServer", "id: v, ip_address: 172.16.1.1, ports: ['80'], application_profile_path: /infra/lb-app-profiles/http, lb_persistence_profile_path: /infra/lb-persistence-profiles/cookie, rules: [{phase: HTTP_FORWARDING}], client_ssl_profile_binding: {default_certificate_path: x}, server_ssl_profile_binding: {}")), []string{
			"unsupported " + lbVS + ": application_profile_path: /infra/lb-app-profiles/http: is of layer 7, only layer 4 is carried (LBFastTcpProfile, LBFastUdpProfile)",
			"unsupported " + lbVS + ": lb_persistence_profile_path: /infra/lb-persistence-profiles/cookie: is of layer 7, only layer 4 is carried (LBSourceIpPersistenceProfile)",
			"unsupported " + lbVS + ": rules: 1 rules: are of layer 7, only layer 4 is carried (want none)",
			"unsupported " + lbVS + ": client_ssl_profile_binding: is of layer 7, only layer 4 is carried (want it empty)",
			"unsupported " + lbVS + ": server_ssl_profile_binding: is of layer 7, only layer 4 is carried (want it empty)"}},
		{"server profile type", infra(child("LBAppProfile", "id: tcp")), []string{"bad_value f: children[0].LBAppProfile.resource_type: LBAppProfile: does not fit ChildLBAppProfile (such as LBFastTcpProfile)"}},
		{"server family", lb(child("LBPool", "id: q, members: [{ip_address: '2001:db8::1'}]"), child("LBVirtualServer", "id: v, pool_path: /infra/lb-pools/q, "+lbOK)), []string{"conflict " + lbVS + ": pool_path: /infra/lb-pools/q: has members[0] 2001:db8::1, which is not of the family of 172.16.1.1"}},
		{"pool", pool("algorithm: RANDOM, min_active_members: -1, members: [{ip_address: 10.1.0.256, port: http, weight: 257, admin_state: UP}, {ip_address: 10.1.0.5, port: 80-81}, {ip_address: 0.0.0.0}]"), []string{
			"bad_value " + lbP + ": algorithm: RANDOM: is not allowed (ROUND_ROBIN, WEIGHTED_ROUND_ROBIN, LEAST_CONNECTION, WEIGHTED_LEAST_CONNECTION, IP_HASH)",
			"bad_value " + lbP + ": min_active_members: -1: is out of range (0 to 2048)",
			"bad_address " + lbP + ": members[0].ip_address: 10.1.0.256: is not an address (such as 10.1.0.5)",
			"bad_port " + lbP + ": members[0].port: http: is not a port or a port range (0 to 65535, such as 80 or 8000-8080)",
			"bad_value " + lbP + ": members[0].weight: 257: is out of range (0 to 256)",
			"bad_value " + lbP + ": members[0].admin_state: UP: is not allowed (ENABLED, DISABLED, GRACEFUL_DISABLED)",
			"bad_port " + lbP + ": members[1].port: 80-81: is not one port that a packet can have (1 to 65535)",
			"not_a_host " + lbP + ": members[2].ip_address: 0.0.0.0: is not a unicast address"}},
		{"pool twice", pool("members: [{ip_address: 10.1.0.5, port: '80'}, {ip_address: 10.1.0.5, port: '81'}, {ip_address: 10.1.0.5, port: '80'}]"), []string{"duplicate " + lbP + ": members[2].ip_address: 10.1.0.5: is given twice with the same port"}},
		{"pool long", pool("members: [" + strings.Repeat("{},", 2049) + "]"), []string{"too_long " + lbP + ": members: has 2049 members (at most 2048)"}},
		{"pool group", pool("member_group: {group_path: /infra/domains/default/groups/no, port: 65536, ip_revision_filter: V4, customized_members: [{ip_address: x, weight: -1}]}, members: [{ip_address: 10.1.0.5}]"), []string{
			"dangling " + lbP + ": member_group.group_path: /infra/domains/default/groups/no: does not exist",
			"conflict " + lbP + ": member_group: is given beside members (want one of them)",
			"bad_value " + lbP + ": member_group.port: 65536: is out of range (0 to 65535)",
			"bad_value " + lbP + ": member_group.ip_revision_filter: V4: is not allowed (IPV4, IPV6, IPV4_IPV6)",
			"bad_address " + lbP + ": member_group.customized_members[0].ip_address: x: is not an address (such as 10.1.0.5)",
			"bad_value " + lbP + ": member_group.customized_members[0].weight: -1: is out of range (0 to 256)"}},
		{"pool snat", pool("snat_translation: {type: LBSnatIpPool, ip_addresses: [{ip_address: 172.16.1.1-172.16.1.9}]}"), []string{"too_long " + lbP + ": snat_translation.ip_addresses: has more than 8 addresses (at most 8)"}},
		{"pool snat empty", pool("snat_translation: {type: LBSnatIpPool}"), []string{"required " + lbP + ": snat_translation.ip_addresses: is missing (LBSnatIpPool wants 1 to 8 addresses)"}},
		{"pool snat list", pool("snat_translation: {type: LBSnatAutoMap, ip_addresses: [{ip_address: 172.16.1.1}]}"), []string{"conflict " + lbP + ": snat_translation.ip_addresses: is given for LBSnatAutoMap (only LBSnatIpPool has it)"}},
		{"pool monitors", infra(child("LBMonitorProfile", "resource_type: LBPassiveMonitorProfile, id: a"), child("LBMonitorProfile", "resource_type: LBTcpMonitorProfile, id: b"),
			child("LBPool", "id: p, active_monitor_paths: [/infra/lb-monitor-profiles/a], passive_monitor_path: /infra/lb-monitor-profiles/b")), []string{
			"wrong_type " + lbP + ": active_monitor_paths[0]: /infra/lb-monitor-profiles/a: is a LBPassiveMonitorProfile (want it as passive_monitor_path)",
			"wrong_type " + lbP + ": passive_monitor_path: /infra/lb-monitor-profiles/b: is a LBTcpMonitorProfile (want LBPassiveMonitorProfile)"}},
		{"monitor", monitor("resource_type: LBHttpMonitorProfile, interval: -1, monitor_port: 65536, request_method: PULL, request_url: health, request_headers: [{header_name: 'a b', header_value: x}], response_status_codes: [99]"), []string{
			"bad_value " + lbM + ": interval: -1: is out of range (0 to 2147483647)",
			"bad_value " + lbM + ": monitor_port: 65536: is out of range (0 to 65535)",
			"bad_value " + lbM + ": request_method: PULL: is not allowed (GET, OPTIONS, POST, HEAD, PUT)",
			"bad_value " + lbM + ": request_url: health: does not begin with a slash (such as /health)",
			"bad_value " + lbM + ": request_headers[0].header_name: a b: is not the name of a header (such as Host)",
			"bad_value " + lbM + ": response_status_codes[0]: 99: is out of range (100 to 599)"}},
		{"monitor udp", monitor("resource_type: LBUdpMonitorProfile"), []string{"required " + lbM + ": send: is missing (want what a member answers)"}},
		{"monitor icmp", monitor("resource_type: LBIcmpMonitorProfile, data_length: 65508"), []string{"bad_value " + lbM + ": data_length: 65508: is out of range (0 to 65507)"}},
		{"monitor https", monitor("resource_type: LBHttpsMonitorProfile, trusted_ca: secret"), []string{"bad_value " + lbM + ": trusted_ca: is not PEM (want -----BEGIN CERTIFICATE-----)"}},
		{"persistence", infra(child("LBPersistenceProfile", "resource_type: LBSourceIpPersistenceProfile, id: c, timeout: -1, purge: ALL")), []string{
			"bad_value /infra/lb-persistence-profiles/c: timeout: -1: is out of range (0 to 2147483647)",
			"bad_value /infra/lb-persistence-profiles/c: purge: ALL: is not allowed (FULL, NO_PURGE)"}},

		{"gateway policy", gateway("category: SystemRules, stateful: false, scope: [red], ", "action: ALLOW"), []string{
			"bad_value " + gateP + ": category: SystemRules: is not allowed (Emergency, SharedPreRules, LocalGatewayRules, Default)",
			"bad_value " + gateP + ": scope[0]: red: is not the path of a Tier-0, Tier-1 or Tier-0 interface",
			"unsupported " + gateP + ": stateful: false: is not supported yet (true)"}},
		{"gateway rule", gateway("", "action: JUMP_TO_APPLICATION, via_virtual_server: true"), []string{
			"bad_value " + gateP + "/rules/r: action: JUMP_TO_APPLICATION: is not allowed (ALLOW, DROP, REJECT)",
			"conflict " + gateP + "/rules/r: via_virtual_server: true: is given for a gateway rule (only the distributed firewall has it)",
			"required " + gateP + "/rules/r: scope: is missing, and the policy has none (want paths of Tier-0s, Tier-1s or Tier-0 interfaces)"}},
		{"gateway scope", gateway("", "action: ALLOW, scope: [/infra/segments/web, ANY]"), []string{
			"wrong_type " + gateP + "/rules/r: scope[0]: /infra/segments/web: is a Segment (want Tier0 or Tier1 or Tier0Interface)",
			"bad_value " + gateP + "/rules/r: scope[1]: ANY: is not the path of a Tier-0, Tier-1 or Tier-0 interface"}},
		{"gateway no edge", infra(child("Tier1", "id: a"), in("Domain", "default", child("GatewayPolicy", "id: g, scope: [/infra/tier-1s/a]"))), []string{"no_edge " + gateP + ": scope[0]: /infra/tier-1s/a: has no edge cluster (want a locale service with edge_cluster_path)"}},
		{"via virtual server", rule("action: ALLOW, via_virtual_server: true"), []string{"conflict " + shopP + "/rules/r: via_virtual_server: true: is given for a rule that is not of direction IN and any source"}},
		{"timers", infra(child("PolicyFirewallSessionTimerProfile", "id: default, tcp_opening: 9, icmp_error_reply: 4320001")), []string{
			"bad_value /infra/firewall-session-timer-profiles/default: tcp_opening: 9: is out of range (10 to 4320000)",
			"bad_value /infra/firewall-session-timer-profiles/default: icmp_error_reply: 4320001: is out of range (10 to 4320000)"}},
		{"mtu", infra(in("Tier0", "provider", in("LocaleServices", "default", child("Tier0Interface", "id: u, mtu: 67, subnets: [{ip_addresses: [10.77.0.1], prefix_len: 24}]")))), []string{
			"bad_value /infra/tier-0s/provider/locale-services/default/interfaces/u: mtu: 67: is out of range (68 to 65535)"}},

		{"referenced", infra("- {resource_type: ChildTier0, marked_for_delete: true, Tier0: {id: provider}}"), []string{"referenced /infra/tier-0s/provider: is still referenced by /infra/tier-1s/red (delete or change those first)"}},
		{"referenced below", infra("- {resource_type: ChildSegment, marked_for_delete: true, Segment: {id: web}}"), []string{"referenced /infra/segments/web/ports/node1: is still referenced by /infra/nodes/node1 (delete or change those first)"}},
		{"protected", infra("- {resource_type: ChildDomain, marked_for_delete: true, Domain: {id: default}}"), []string{
			"protected /infra/domains/default: is a default object and cannot be deleted",
			"protected " + DefaultPolicyPath + ": is a default object and cannot be deleted",
			"protected " + DefaultRulePath + ": is a default object and cannot be deleted"}},
	}
	covered := map[Kind]bool{}
	base := tree(t, red)
	before := base.All()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			changes, problems := Parse("f", []byte(row.text))
			if !HasErrors(problems) {
				work := base
				if problems != nil {
					work = tree(t, red) // a warning: the change is taken
				}
				_, more := work.Apply(changes)
				problems = append(problems, more...)
			}
			var got []string
			for _, p := range problems {
				covered[p.Kind] = true
				got = append(got, string(p.Kind)+" "+p.String())
			}
			if d := gocmp.Diff(row.want, got); d != "" {
				t.Error(d)
			}
			after := base.All()
			if !slices.EqualFunc(before, after, func(a, b Object) bool { return a == b }) {
				t.Fatal("the tree is not what it was")
			}
		})
	}
	for _, k := range kindsOfProblems {
		if !covered[k] {
			t.Errorf("no row for %s", k)
		}
	}
}

// kindsOfProblems is the closed list.
var kindsOfProblems = []Kind{
	BadSyntax, BadType, UnknownField, UnknownType, BadID, BadParent, Duplicate, BadValue, Required, TooLong, BadAddress,
	RangeNotAllowed, NotAHost, BadMAC, BadPort, Dangling, WrongType, Referenced, Protected, Overlap, OutsideSubnet,
	IsGateway, NoEdge, BadExpression, Cycle, AnyNotAlone, Conflict, Unsupported,
}

func TestProblemString(t *testing.T) {
	p := Problem{Path: "/infra/segments/web", Field: "subnets[0].gateway_address", Msg: "10.1.0.0/24: is a network address", File: "red.yaml", Line: 3}
	if got, want := p.String(), "red.yaml:3: /infra/segments/web: subnets[0].gateway_address: 10.1.0.0/24: is a network address"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if c := cmp.Compare(Error, Warning); c >= 0 {
		t.Error("Error must be the zero Severity")
	}
}
