package policy

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/weft-net/weft/intent"
)

// exported lets cmp look into intent's objects.
var exported = cmp.Exporter(func(reflect.Type) bool { return true })

// lines returns objects as people compare them: one line an object, without the
// domain.
func lines(objects []intent.Object) []string {
	short := strings.NewReplacer("/infra/domains/"+clusterID+"/", "").Replace
	var out []string
	for _, o := range objects {
		var text string
		switch v := o.(type) {
		case *intent.Group:
			text = fmt.Sprintf("group %s %q: %s", v.Path, v.DisplayName, words(v.Expression))
		case *intent.SecurityPolicy:
			text = fmt.Sprintf("policy %s %q: %s %d for %s", v.Path, v.DisplayName, v.Category, v.SequenceNumber, strings.Join(v.Scope, " "))
		case *intent.Rule:
			text = fmt.Sprintf("rule %s %q: %d %s %s %s > %s%s", v.Path, v.DisplayName, v.SequenceNumber, v.Action, v.Direction,
				strings.Join(v.SourceGroups, " "), strings.Join(v.DestinationGroups, " "), services(v.ServiceEntries))
		}
		out = append(out, short(text))
	}
	return out
}

func services(list []intent.ServiceEntry) string {
	var out string
	for _, e := range list {
		v := e.(*intent.L4PortSetServiceEntry)
		out += fmt.Sprintf(" %s %v", v.L4Protocol, v.DestinationPorts)
	}
	return out
}

func words(list []intent.Expression) string {
	var out []string
	for _, e := range list {
		switch v := e.(type) {
		case *intent.NestedExpression:
			out = append(out, "("+words(v.Expressions)+")")
		case *intent.ConjunctionOperator:
			out = append(out, v.ConjunctionOperator)
		case *intent.IPAddressExpression:
			out = append(out, strings.Join(v.IPAddresses, ","))
		case *intent.Condition:
			op := map[string]string{"EQUALS": "=", "IN": " in ", "NOTIN": " not in "}[v.Operator]
			if v.ScopeOperator == "NOTEQUALS" {
				op = "!" + op
			}
			out = append(out, v.MemberType+op+v.Value)
		}
	}
	return strings.Join(out, " ")
}

// read parses a NetworkPolicy of namespace ns-hackazon-app.
func read(t testing.TB, text string) *netv1.NetworkPolicy {
	t.Helper()
	np := &netv1.NetworkPolicy{}
	if err := yaml.UnmarshalStrict([]byte(text), np); err != nil {
		t.Fatal(err)
	}
	np.Namespace, np.UID = "ns-hackazon-app", "u1"
	return np
}

// hackazon is where policies of the tests are. Another namespace has port 9090 for
// http.
var hackazon = Place{Cluster: clusterID, NamespaceUID: "uid-h", Ports: func(namespace string, proto corev1.Protocol, name string) []int32 {
	switch (portName{namespace, proto, name}).String() {
	case "ns-hackazon-app/TCP/http":
		return []int32{80, 8080}
	case "/TCP/http":
		return []int32{80, 8080, 9090}
	case "/UDP/dns":
		return []int32{53}
	}
	return nil
}}

func TestNetworkPolicy(t *testing.T) {
	for _, tc := range []struct{ name, text string }{
		{"the web shop", `
metadata: {name: hackazon-app-network-policy}
spec:
  podSelector: {matchLabels: {app: hackazon-shop}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: svc-contour-domain-c8}}
    - podSelector: {matchLabels: {app: contour}}
    ports:
    - {protocol: TCP, port: 80}
want:
- 'group groups/np_u1_scope "ns-hackazon-app-hackazon-app-network-policy-scope": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod| AND SegmentPort=app|hackazon-shop)'
- 'policy security-policies/np_u1_allow "ns-hackazon-app-hackazon-app-network-policy-allowlist": Application 10 for groups/np_u1_scope'
- 'group groups/np_u1_src_0 "ns-hackazon-app-hackazon-app-network-policy-src-0": (Segment=ncp/cluster|domain-c8 AND Segment=kubernetes.io/metadata.name|svc-contour-domain-c8 AND SegmentPort=ncp/pod|) OR (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod| AND SegmentPort=app|contour)'
- 'rule security-policies/np_u1_allow/rules/TCP.80-ingress-allow "TCP.80-ingress-allow": 1 ALLOW IN groups/np_u1_src_0 > ANY TCP [80]'
- 'policy security-policies/np_u1_isolation "ns-hackazon-app-hackazon-app-network-policy-isolation": Application 20 for groups/np_u1_scope'
- 'rule security-policies/np_u1_isolation/rules/deny-all-ingress "deny-all-ingress": 1 DROP IN ANY > ANY'
`},
		{"everything of both directions", `
metadata: {name: open}
spec: {ingress: [{}], egress: [{}], podSelector: {}}
want:
- 'group groups/np_u1_scope "ns-hackazon-app-open-scope": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod|)'
- 'policy security-policies/np_u1_allow "ns-hackazon-app-open-allowlist": Application 10 for groups/np_u1_scope'
- 'rule security-policies/np_u1_allow/rules/all-ingress-allow "all-ingress-allow": 1 ALLOW IN ANY > ANY'
- 'rule security-policies/np_u1_allow/rules/all-egress-allow "all-egress-allow": 2 ALLOW OUT ANY > ANY'
- 'policy security-policies/np_u1_isolation "ns-hackazon-app-open-isolation": Application 20 for groups/np_u1_scope'
- 'rule security-policies/np_u1_isolation/rules/deny-all-ingress "deny-all-ingress": 1 DROP IN ANY > ANY'
- 'rule security-policies/np_u1_isolation/rules/deny-all-egress "deny-all-egress": 2 DROP OUT ANY > ANY'
`},
		{"nothing", `
metadata: {name: closed}
spec: {podSelector: {}, policyTypes: [Egress], ingress: [{}]}
want:
- 'group groups/np_u1_scope "ns-hackazon-app-closed-scope": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod|)'
- 'policy security-policies/np_u1_isolation "ns-hackazon-app-closed-isolation": Application 20 for groups/np_u1_scope'
- 'rule security-policies/np_u1_isolation/rules/deny-all-egress "deny-all-egress": 2 DROP OUT ANY > ANY'
`},
		{"every kind of selector", `
metadata: {name: s}
spec:
  podSelector:
    matchLabels: {b: "", a: x, ncp/pod: mine}
    matchExpressions:
    - {key: a, operator: In, values: [x, q]}
    - {key: a, operator: In, values: [""]}
    - {key: c, operator: NotIn, values: [z, ""]}
    - {key: d, operator: Exists}
    - {key: e, operator: DoesNotExist}
want:
- 'group groups/np_u1_scope "ns-hackazon-app-s-scope": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod| AND SegmentPort=a|x AND SegmentPort=b|(empty) AND SegmentPort=label:ncp/pod|mine AND SegmentPort in a|x,q AND SegmentPort=a|(empty) AND SegmentPort not in c|z,(empty) AND SegmentPort=d| AND SegmentPort!=e|)'
- 'policy security-policies/np_u1_isolation "ns-hackazon-app-s-isolation": Application 20 for groups/np_u1_scope'
- 'rule security-policies/np_u1_isolation/rules/deny-all-ingress "deny-all-ingress": 1 DROP IN ANY > ANY'
`},
		{"every kind of port", `
metadata: {name: p}
spec:
  podSelector: {}
  policyTypes: [Ingress]
  ingress:
  - ports: [{port: 80}, {port: 8282, endPort: 8286}, {protocol: SCTP, port: 9000}, {protocol: UDP}, {port: 80}]
  - ports: [{port: http}, {port: nobody}]
    from: [{podSelector: {}}]
  - ports: [{protocol: UDP}]
  - ports: [{protocol: UDP}]
want:
- 'group groups/np_u1_scope "ns-hackazon-app-p-scope": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod|)'
- 'policy security-policies/np_u1_allow "ns-hackazon-app-p-allowlist": Application 10 for groups/np_u1_scope'
- 'rule security-policies/np_u1_allow/rules/TCP.80_TCP.8282.8286_SCTP.9000_UDP-ingress-allow "TCP.80_TCP.8282.8286_SCTP.9000_UDP-ingress-allow": 1 ALLOW IN ANY > ANY TCP [80 8282-8286] UDP [] SCTP [9000]'
- 'group groups/np_u1_src_1 "ns-hackazon-app-p-src-1": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod|)'
- 'group groups/np_u1_scope_TCP_http_80 "ns-hackazon-app-p-scope-TCP-http-80": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/TCP/http|80)'
- 'rule security-policies/np_u1_allow/rules/TCP.http.80-ingress-allow "TCP.http.80-ingress-allow": 2 ALLOW IN groups/np_u1_src_1 > groups/np_u1_scope_TCP_http_80 TCP [80]'
- 'group groups/np_u1_scope_TCP_http_8080 "ns-hackazon-app-p-scope-TCP-http-8080": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/TCP/http|8080)'
- 'rule security-policies/np_u1_allow/rules/TCP.http.8080-ingress-allow "TCP.http.8080-ingress-allow": 3 ALLOW IN groups/np_u1_src_1 > groups/np_u1_scope_TCP_http_8080 TCP [8080]'
- 'rule security-policies/np_u1_allow/rules/UDP-ingress-allow "UDP-ingress-allow": 4 ALLOW IN ANY > ANY UDP []'
- 'rule security-policies/np_u1_allow/rules/UDP-ingress-allow-2 "UDP-ingress-allow": 5 ALLOW IN ANY > ANY UDP []'
- 'policy security-policies/np_u1_isolation "ns-hackazon-app-p-isolation": Application 20 for groups/np_u1_scope'
- 'rule security-policies/np_u1_isolation/rules/deny-all-ingress "deny-all-ingress": 1 DROP IN ANY > ANY'
`},
		{"ingress by name takes the numbers of its namespace, egress those of all", `
metadata: {name: m}
spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{ports: [{port: http}]}], egress: [{ports: [{port: http}]}]}
want:
- 'group groups/np_u1_scope "ns-hackazon-app-m-scope": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod|)'
- 'policy security-policies/np_u1_allow "ns-hackazon-app-m-allowlist": Application 10 for groups/np_u1_scope'
- 'group groups/np_u1_scope_TCP_http_80 "ns-hackazon-app-m-scope-TCP-http-80": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/TCP/http|80)'
- 'rule security-policies/np_u1_allow/rules/TCP.http.80-ingress-allow "TCP.http.80-ingress-allow": 1 ALLOW IN ANY > groups/np_u1_scope_TCP_http_80 TCP [80]'
- 'group groups/np_u1_scope_TCP_http_8080 "ns-hackazon-app-m-scope-TCP-http-8080": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/TCP/http|8080)'
- 'rule security-policies/np_u1_allow/rules/TCP.http.8080-ingress-allow "TCP.http.8080-ingress-allow": 2 ALLOW IN ANY > groups/np_u1_scope_TCP_http_8080 TCP [8080]'
- 'group groups/np_u1_dst_TCP_http_80 "ns-hackazon-app-m-dst-TCP-http-80": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/TCP/http|80)'
- 'rule security-policies/np_u1_allow/rules/TCP.http.80-egress-allow "TCP.http.80-egress-allow": 3 ALLOW OUT ANY > groups/np_u1_dst_TCP_http_80 TCP [80]'
- 'group groups/np_u1_dst_TCP_http_8080 "ns-hackazon-app-m-dst-TCP-http-8080": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/TCP/http|8080)'
- 'rule security-policies/np_u1_allow/rules/TCP.http.8080-egress-allow "TCP.http.8080-egress-allow": 4 ALLOW OUT ANY > groups/np_u1_dst_TCP_http_8080 TCP [8080]'
- 'group groups/np_u1_dst_TCP_http_9090 "ns-hackazon-app-m-dst-TCP-http-9090": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/TCP/http|9090)'
- 'rule security-policies/np_u1_allow/rules/TCP.http.9090-egress-allow "TCP.http.9090-egress-allow": 5 ALLOW OUT ANY > groups/np_u1_dst_TCP_http_9090 TCP [9090]'
- 'policy security-policies/np_u1_isolation "ns-hackazon-app-m-isolation": Application 20 for groups/np_u1_scope'
- 'rule security-policies/np_u1_isolation/rules/deny-all-ingress "deny-all-ingress": 1 DROP IN ANY > ANY'
- 'rule security-policies/np_u1_isolation/rules/deny-all-egress "deny-all-egress": 2 DROP OUT ANY > ANY'
`},
		{"egress to blocks and by name", `
metadata: {name: e}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {ipBlock: {cidr: "2001:db8::/64"}}]
    ports: [{protocol: UDP, port: dns}, {protocol: UDP, port: 123}]
  - ports: [{protocol: UDP, port: dns}]
  - to: [{ipBlock: {cidr: 10.0.0.0/8, except: [0.0.0.0/0]}}]
want:
- 'group groups/np_u1_scope "ns-hackazon-app-e-scope": (SegmentPort=ncp/project_uid|uid-h AND SegmentPort=ncp/pod|)'
- 'policy security-policies/np_u1_allow "ns-hackazon-app-e-allowlist": Application 10 for groups/np_u1_scope'
- 'group groups/np_u1_dst_0 "ns-hackazon-app-e-dst-0": 10.0.0.0-10.0.255.255,10.2.0.0-10.255.255.255 OR 2001:db8::/64'
- 'rule security-policies/np_u1_allow/rules/UDP.123-egress-allow "UDP.123-egress-allow": 1 ALLOW OUT ANY > groups/np_u1_dst_0 UDP [123]'
- 'group groups/np_u1_dst_0_UDP_dns_53 "ns-hackazon-app-e-dst-0-UDP-dns-53": 10.0.0.0-10.0.255.255,10.2.0.0-10.255.255.255 AND (SegmentPort=ncp/pod| AND SegmentPort=weft/port/UDP/dns|53) OR 2001:db8::/64 AND (SegmentPort=ncp/pod| AND SegmentPort=weft/port/UDP/dns|53)'
- 'rule security-policies/np_u1_allow/rules/UDP.dns.53-egress-allow "UDP.dns.53-egress-allow": 2 ALLOW OUT ANY > groups/np_u1_dst_0_UDP_dns_53 UDP [53]'
- 'group groups/np_u1_dst_UDP_dns_53 "ns-hackazon-app-e-dst-UDP-dns-53": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/UDP/dns|53)'
- 'rule security-policies/np_u1_allow/rules/UDP.dns.53-egress-allow-2 "UDP.dns.53-egress-allow": 3 ALLOW OUT ANY > groups/np_u1_dst_UDP_dns_53 UDP [53]'
- 'policy security-policies/np_u1_isolation "ns-hackazon-app-e-isolation": Application 20 for groups/np_u1_scope'
- 'rule security-policies/np_u1_isolation/rules/deny-all-egress "deny-all-egress": 2 DROP OUT ANY > ANY'
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text, rest, _ := strings.Cut(tc.text, "\nwant:")
			var want []string
			if err := yaml.UnmarshalStrict([]byte(rest), &want); err != nil {
				t.Fatal(err)
			}
			objects, findings := NetworkPolicy(read(t, text), hackazon)
			if findings != nil {
				t.Error(findings)
			}
			if d := cmp.Diff(want, lines(objects)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestWithoutMeaning is about what the API server refuses, and what must not open
// anything if it comes through nevertheless.
func TestWithoutMeaning(t *testing.T) {
	for _, tc := range []struct {
		name, spec string
		findings   []string
		rules      []string // that allow
	}{
		{"ports", "ingress: [{ports: [{port: 0}, {port: 90, endPort: 80}, {endPort: 80}, {port: http, endPort: 80}, {port: 'a/b'}, {protocol: ICMP}, {port: 80}]}]", []string{
			"spec.ingress[0].ports[0].port: 0: is not a port (1 to 65535)",
			"spec.ingress[0].ports[1].endPort: 80: is not the end of a range that begins at 90 (90 to 65535)",
			"spec.ingress[0].ports[2].endPort: 80: is given without a port (give port too)",
			"spec.ingress[0].ports[3].endPort: 80: is given with a named port (want a number as port)",
			`spec.ingress[0].ports[4].port: "a/b": is not the name of a port (such as http)`,
			`spec.ingress[0].ports[5].protocol: "ICMP": is not a protocol with ports (TCP, UDP, SCTP)`,
		}, []string{"TCP.80-ingress-allow"}},
		{"only such ports", "ingress: [{ports: [{port: 0}]}]", []string{"spec.ingress[0].ports[0].port: 0: is not a port (1 to 65535)"}, nil},
		{"peers", "egress: [{to: [{}, {ipBlock: {cidr: 10.0.0.0}}, {ipBlock: {cidr: 10.0.0.0/8, except: [x]}}, {ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]", []string{
			"spec.egress[0].to[0]: is empty (want a podSelector, a namespaceSelector or an ipBlock)",
			"spec.egress[0].to[1].ipBlock.cidr: 10.0.0.0: is not a CIDR (such as 10.1.0.0/24)",
			"spec.egress[0].to[2].ipBlock.except[0]: x: is not a CIDR (such as 10.1.0.0/28)",
			"spec.egress[0].to[3]: has an ipBlock and a selector (want one of them)",
		}, nil},
		{"selector", "podSelector: {matchExpressions: [{key: a, operator: Near}, {key: a, operator: In}, {operator: Exists}]}\n  ingress: [{}]", []string{
			"spec.podSelector.matchExpressions[0].operator: Near: is not an operator (In, NotIn, Exists, DoesNotExist)",
			"spec.podSelector.matchExpressions[1].operator: In: has no values (at least one)",
			"spec.podSelector.matchExpressions[2].key: is missing",
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			objects, findings := NetworkPolicy(read(t, "metadata: {name: p}\nspec:\n  "+tc.spec), hackazon)
			var got, rules []string
			for _, f := range findings {
				got = append(got, f.String())
			}
			for _, o := range objects {
				if r, ok := o.(*intent.Rule); ok && r.Action == "ALLOW" {
					rules = append(rules, r.ID)
				}
			}
			if d := cmp.Diff(tc.findings, got); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(tc.rules, rules); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRemaining(t *testing.T) {
	for _, tc := range []struct {
		cidr   string
		except []string
		want   []string
	}{
		{"10.0.0.5/24", nil, []string{"10.0.0.0/24"}},
		{"010.000.0.0/24", []string{"11.0.0.0/8"}, []string{"10.0.0.0/24"}},
		{"10.0.0.0/24", []string{"10.0.0.128/25"}, []string{"10.0.0.0-10.0.0.127"}},
		{"10.0.0.0/24", []string{"10.0.0.0/25"}, []string{"10.0.0.128-10.0.0.255"}},
		{"10.0.0.0/24", []string{"10.0.0.64/26", "10.0.0.0/26", "10.0.0.66/32"}, []string{"10.0.0.128-10.0.0.255"}},
		{"10.0.0.0/30", []string{"10.0.0.1/32", "10.0.0.2/32"}, []string{"10.0.0.0", "10.0.0.3"}},
		{"10.0.0.0/24", []string{"10.0.0.0/24"}, nil},
		{"10.0.0.0/24", []string{"10.0.0.0/8"}, nil},
		{"0.0.0.0/0", []string{"255.255.255.255/32"}, []string{"0.0.0.0-255.255.255.254"}},
		{"::ffff:10.0.0.0/120", nil, []string{"10.0.0.0/24"}},
		{"2001:db8::/126", []string{"2001:db8::1/128", "10.0.0.0/8"}, []string{"2001:db8::", "2001:db8::2-2001:db8::3"}},
		{"::/0", []string{"::fffe:0:0/96"}, []string{"::-::fffd:ffff:ffff", "::1:0:0:0-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
	} {
		d := &draft{}
		got, ok := d.block("f", &netv1.IPBlock{CIDR: tc.cidr, Except: tc.except})
		if diff := cmp.Diff(tc.want, got); diff != "" || !ok {
			t.Errorf("%s without %v: %s%v", tc.cidr, tc.except, diff, d.findings)
		}
	}
}

func FuzzNetworkPolicy(f *testing.F) {
	f.Add("spec:\n  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/9]}}], ports: [{port: http}]}]")
	f.Add("spec: {podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [b]}]}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}]}]}")
	f.Fuzz(func(t *testing.T, text string) {
		np := &netv1.NetworkPolicy{}
		if yaml.Unmarshal([]byte(text), np) != nil {
			return
		}
		np.Namespace, np.Name, np.UID = "ns", "np", "u1"
		objects, _ := NetworkPolicy(np, hackazon)
		if problems := problemsOf(objects); problems != nil {
			t.Error(problems)
		}
	})
}

// problemsOf puts objects into a tree that has their domain only.
func problemsOf(objects []intent.Object) []intent.Problem {
	changes := []intent.Change{intent.Put("/infra/domains/"+clusterID, &intent.Domain{})}
	for _, o := range objects {
		changes = append(changes, intent.Change{Path: o.Meta().Path, Object: o})
	}
	_, problems := intent.NewTree().Apply(changes)
	return problems
}

func itoa(n int32) string { return strconv.Itoa(int(n)) }
