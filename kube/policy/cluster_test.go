package policy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/network-policy-api/apis/v1alpha1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/network-policy-api/apis/v1beta1"
	"sigs.k8s.io/yaml"
)

// clusterOf reads a policy of any kind.
func clusterOf(t testing.TB, kind, text string) *Cluster {
	t.Helper()
	parse := func(into any) {
		t.Helper()
		if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	switch kind {
	case "anp":
		p := &v1alpha1.AdminNetworkPolicy{}
		parse(p)
		return OfAdminNetworkPolicy(p)
	case "banp":
		p := &v1alpha1.BaselineAdminNetworkPolicy{}
		parse(p)
		return OfBaselineAdminNetworkPolicy(p)
	}
	p, q := &v1beta1.ClusterNetworkPolicy{}, &v1alpha2.ClusterNetworkPolicy{}
	parse(p)
	parse(q)
	c, err := OfAlphaClusterNetworkPolicy(q)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(OfClusterNetworkPolicy(p), c, exported); d != "" {
		t.Errorf("the older version is another: %s", d)
	}
	return c
}

func TestCluster(t *testing.T) {
	for _, tc := range []struct{ name, kind, text string }{
		{"admin tier", "cnp", `
metadata: {name: zones, uid: u1}
spec:
  tier: Admin
  priority: 30
  subject: {namespaces: {matchLabels: {zone: red}}}
  ingress:
  - {name: from blue, action: Deny, from: [{namespaces: {matchLabels: {zone: blue}}}], protocols: [{tcp: {destinationPort: {number: 80}}}, {udp: {}}, {sctp: {destinationPort: {range: {start: 1, end: 9}}}}]}
  - {action: Pass, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {a: b}}}}]}
  egress:
  - {action: Accept, to: [{networks: [10.0.0.0/8, "2001:db8::/32"]}, {nodes: {}}]}
  - {action: Accept, to: [{namespaces: {}}], protocols: [{destinationNamedPort: dns}, {destinationNamedPort: http}]}
objects:
- 'group groups/cnp_u1_scope "zones-scope": (Segment=ncp/cluster|domain-c8 AND Segment=zone|red AND SegmentPort=ncp/pod|)'
- 'policy security-policies/cnp_u1 "zones": Environment 30 for groups/cnp_u1_scope'
- 'group groups/cnp_u1_src_0 "zones-src-0": (Segment=ncp/cluster|domain-c8 AND Segment=zone|blue AND SegmentPort=ncp/pod|)'
- 'rule security-policies/cnp_u1/rules/ingress-0 "from blue": 1 DROP IN groups/cnp_u1_src_0 > ANY TCP [80] UDP [] SCTP [1-9]'
- 'group groups/cnp_u1_src_1 "zones-src-1": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod| AND SegmentPort=a|b)'
- 'rule security-policies/cnp_u1/rules/ingress-1 "all-ingress-pass": 2 JUMP_TO_APPLICATION IN groups/cnp_u1_src_1 > ANY'
- 'group groups/cnp_u1_dst_0 "zones-dst-0": 10.0.0.0/8 OR 2001:db8::/32'
- 'rule security-policies/cnp_u1/rules/egress-0 "all-egress-allow": 3 ALLOW OUT ANY > groups/cnp_u1_dst_0'
- 'group groups/cnp_u1_dst_1_UDP_dns_53 "zones-dst-1-UDP-dns-53": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/UDP/dns|53)'
- 'rule security-policies/cnp_u1/rules/egress-1-UDP.dns.53 "UDP.dns.53-egress-allow": 4 ALLOW OUT ANY > groups/cnp_u1_dst_1_UDP_dns_53 UDP [53]'
- 'group groups/cnp_u1_dst_1_TCP_http_80 "zones-dst-1-TCP-http-80": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/TCP/http|80)'
- 'rule security-policies/cnp_u1/rules/egress-1-TCP.http.80 "TCP.http.80-egress-allow": 5 ALLOW OUT ANY > groups/cnp_u1_dst_1_TCP_http_80 TCP [80]'
- 'group groups/cnp_u1_dst_1_TCP_http_8080 "zones-dst-1-TCP-http-8080": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/TCP/http|8080)'
- 'rule security-policies/cnp_u1/rules/egress-1-TCP.http.8080 "TCP.http.8080-egress-allow": 6 ALLOW OUT ANY > groups/cnp_u1_dst_1_TCP_http_8080 TCP [8080]'
- 'group groups/cnp_u1_dst_1_TCP_http_9090 "zones-dst-1-TCP-http-9090": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod| AND SegmentPort=weft/port/TCP/http|9090)'
- 'rule security-policies/cnp_u1/rules/egress-1-TCP.http.9090 "TCP.http.9090-egress-allow": 7 ALLOW OUT ANY > groups/cnp_u1_dst_1_TCP_http_9090 TCP [9090]'
`},
		{"baseline tier", "cnp", `
metadata: {name: b, uid: u1}
spec:
  tier: Baseline
  priority: 1000
  subject: {namespaces: {}}
  ingress: [{action: Pass, from: [{namespaces: {}}]}]
  egress: [{action: Pass, to: [{namespaces: {}}]}]
objects:
- 'group groups/cnp_u1_scope "b-scope": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod|)'
- 'policy security-policies/cnp_1000_u1 "b": Application 50 for groups/cnp_u1_scope'
- 'group groups/cnp_u1_src_0 "b-src-0": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod|)'
- 'rule security-policies/cnp_1000_u1/rules/ingress-0 "all-ingress-deny": 1 DROP IN groups/cnp_u1_src_0 > ANY'
- 'group groups/cnp_u1_dst_0 "b-dst-0": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod|)'
- 'rule security-policies/cnp_1000_u1/rules/egress-0 "all-egress-allow": 2 ALLOW OUT ANY > groups/cnp_u1_dst_0'
findings:
- 'spec.ingress[0].action: Pass: what a baseline rule for ingress passes on is closed, as the isolation of namespaces comes behind (want Accept or Deny)'
`},
		{"what is not known is closed", "cnp", `
metadata: {name: c, uid: u1}
spec:
  tier: Admin
  priority: 0
  subject: {namespaces: {}}
  egress:
  - {action: Accept, to: [{}]}
  - {action: Deny, to: [{domainNames: [a.example.com]}, {namespaces: {}}]}
  - {action: Pass, to: [{namespaces: {}}], protocols: [{}]}
  - {action: Allow, to: [{networks: [x]}]}
  - {action: Deny, to: [{networks: [10.0.0.0/8]}], protocols: [{tcp: {destinationPort: {range: {start: 9, end: 1}}}}, {tcp: {destinationPort: {}}}]}
objects:
- 'group groups/cnp_u1_scope "c-scope": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod|)'
- 'policy security-policies/cnp_u1 "c": Environment 0 for groups/cnp_u1_scope'
- 'rule security-policies/cnp_u1/rules/egress-1 "all-egress-deny": 1 DROP OUT ANY > ANY'
- 'rule security-policies/cnp_u1/rules/egress-2 "all-egress-deny": 2 DROP OUT ANY > ANY'
- 'rule security-policies/cnp_u1/rules/egress-3 "all-egress-deny": 3 DROP OUT ANY > ANY'
- 'rule security-policies/cnp_u1/rules/egress-4 "all-egress-deny": 4 DROP OUT ANY > ANY'
findings:
- 'spec.egress[0].to[0]: says nothing that is known here (namespaces, pods, nodes, networks)'
- 'spec.egress[1].to[0].domainNames: a.example.com: is not supported (namespaces, pods, nodes, networks)'
- 'spec.egress[2].protocols[0]: says no protocol that is known here (tcp, udp, sctp, destinationNamedPort)'
- 'spec.egress[3].action: "Allow": is not an action (Accept, Deny, Pass)'
- 'spec.egress[3].to[0].networks[0]: x: is not a CIDR (such as 10.1.0.0/24)'
- 'spec.egress[4].protocols[0]: 1: is not the end of a range that begins at 9 (9 to 65535)'
- 'spec.egress[4].protocols[1]: -1: is not a port (1 to 65535)'
`},
		{"about nobody", "cnp", `
metadata: {name: n, uid: u1}
spec: {tier: Admin, priority: 0, subject: {}}
objects: []
findings: ['spec.subject: selects neither namespaces nor pods (want one of them)']
`},
		{"AdminNetworkPolicy", "anp", `
metadata: {name: a, uid: u1}
spec:
  priority: 5
  subject: {pods: {namespaceSelector: {matchLabels: {x: z}}, podSelector: {}}}
  ingress: [{action: Allow, from: [{namespaces: {}}], ports: [{portNumber: {protocol: UDP, port: 53}}, {portRange: {start: 1, end: 2}}]}]
objects:
- 'group groups/anp_u1_scope "a-scope": (Segment=ncp/cluster|domain-c8 AND Segment=x|z AND SegmentPort=ncp/pod|)'
- 'policy security-policies/anp_u1 "a": Environment 5 for groups/anp_u1_scope'
- 'group groups/anp_u1_src_0 "a-src-0": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod|)'
- 'rule security-policies/anp_u1/rules/ingress-0 "UDP.53_TCP.1.2-ingress-allow": 1 ALLOW IN groups/anp_u1_src_0 > ANY TCP [1-2] UDP [53]'
`},
		{"BaselineAdminNetworkPolicy", "banp", `
metadata: {name: default, uid: u1}
spec: {subject: {namespaces: {}}, egress: [{name: shut, action: Deny, to: [{networks: [0.0.0.0/0]}]}]}
objects:
- 'group groups/banp_u1_scope "default-scope": (Segment=ncp/cluster|domain-c8 AND SegmentPort=ncp/pod|)'
- 'policy security-policies/banp_u1 "default": Application 60 for groups/banp_u1_scope'
- 'group groups/banp_u1_dst_0 "default-dst-0": 0.0.0.0/0'
- 'rule security-policies/banp_u1/rules/egress-0 "shut": 1 DROP OUT ANY > groups/banp_u1_dst_0'
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text, rest, _ := strings.Cut(tc.text, "\nobjects:")
			var want struct{ Objects, Findings []string }
			if err := yaml.UnmarshalStrict([]byte("objects:"+rest), &want); err != nil {
				t.Fatal(err)
			}
			objects, findings := clusterOf(t, tc.kind, text).Objects(hackazon)
			var got []string
			for _, f := range findings {
				got = append(got, f.String())
			}
			if d := cmp.Diff(want.Findings, got); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(strings.Join(want.Objects, "\n"), strings.Join(lines(objects), "\n")); d != "" {
				t.Error(d)
			}
		})
	}
}

// FuzzCluster reads policies of any form: nothing opens by a part that is not
// known, and nothing crashes.
func FuzzCluster(f *testing.F) {
	f.Add(`{"spec":{"tier":"Admin","subject":{"namespaces":{}},"egress":[{"action":"Accept","to":[{"networks":["10.0.0.0/8"]}],"protocols":[{"destinationNamedPort":"http"}]}]}}`)
	f.Add(`{"spec":{"subject":{"pods":{"podSelector":{"matchExpressions":[{"key":"a","operator":"NotIn","values":["b"]}]}}},"ingress":[{"action":"Deny","from":[{"namespaces":{}}],"ports":[{"portRange":{"start":1,"end":2}}]}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		cnp, anp, banp := &v1beta1.ClusterNetworkPolicy{}, &v1alpha1.AdminNetworkPolicy{}, &v1alpha1.BaselineAdminNetworkPolicy{}
		if json.Unmarshal([]byte(text), cnp) == nil {
			apply(t, OfClusterNetworkPolicy(cnp))
		}
		if json.Unmarshal([]byte(text), anp) == nil {
			apply(t, OfAdminNetworkPolicy(anp))
		}
		if json.Unmarshal([]byte(text), banp) == nil {
			apply(t, OfBaselineAdminNetworkPolicy(banp))
		}
	})
}

// apply puts what a policy becomes into a tree.
func apply(t *testing.T, c *Cluster) {
	c.name, c.uid, c.priority = "name", "u1", max(0, min(c.priority, 1000))
	objects, _ := c.Objects(hackazon)
	if problems := problemsOf(objects); problems != nil {
		t.Error(problems)
	}
}
