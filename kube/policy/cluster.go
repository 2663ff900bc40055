package policy

import (
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
)

// Cluster is a policy of the whole cluster, whichever API it was written in:
// ClusterNetworkPolicy, AdminNetworkPolicy or BaselineAdminNetworkPolicy. See
// Of….
type Cluster struct {
	kind     ncp.PolicyPrefix // that of a cluster policy
	name     string
	uid      string
	admin    bool // the tier before NetworkPolicies; else the one behind them
	priority int32
	subject  pods
	rules    []clusterRule
}

// pods is a selection of pods in namespaces. Both nil: nothing was said.
type pods struct {
	namespaces, pods *metav1.LabelSelector
	fields           [2]string
}

// clusterRule is one rule in the order of its direction.
type clusterRule struct {
	index  int
	out    bool
	field  string
	name   string
	action string // Accept, Deny or Pass
	peers  []clusterPeer
	ports  []clusterPort // none: all
}

// clusterPeer is one element of from or to; exactly one of its parts is given.
type clusterPeer struct {
	field    string
	pods     *pods
	nodes    *metav1.LabelSelector
	networks []string
	domains  []string
}

// clusterPort is one element of a rule's ports or protocols.
type clusterPort struct {
	field string
	ports []port // a named one has an entry a protocol; none: it says nothing that is known
}

// Words of the actions.
const (
	accept = "Accept"
	deny   = "Deny"
	pass   = "Pass"
)

// Objects returns what the policy becomes: of the admin tier, rules before all
// NetworkPolicies, in category Environment; of the baseline tier, rules behind
// them. Lower priorities come first, equal ones in the order of their UIDs.
// Rules have no numeric ids yet.
//
// A rule with a part that has no meaning here is closed, as the API wants it:
// Accept matches nothing, Deny and Pass deny everything. The findings say so.
func (c *Cluster) Objects(at Place) ([]intent.Object, []Finding) {
	id := c.kind.ID(c.uid)
	d := &draft{
		at: at, id: id, name: c.name,
		tags: []intent.Tag{{Scope: ncp.TagCluster, Tag: at.Cluster}, {Scope: ncp.TagNetworkPolicy, Tag: c.name}},
	}
	subject, ok := d.selected(&c.subject)
	if !ok {
		return nil, d.findings // it is about nobody
	}
	d.subject = []term{subject}
	category, sequence := "Environment", int(c.priority)
	switch {
	case c.kind == ncp.PrefixBaselinePolicy:
		category, sequence = "Application", sequenceDefault
	case !c.admin:
		// All baseline policies share a sequence number: their paths order them.
		category, sequence = "Application", sequenceBaseline
		id = c.kind.OrderedID(c.priority, c.uid)
	}
	s := &section{draft: d, path: d.policy(ncp.PolicyPath(at.Cluster, id), ncp.Name(c.name), category, sequence), naming: clusterNaming}
	for i := range c.rules {
		if r, ok := d.clusterRule(&c.rules[i], c.admin); ok {
			s.add(&r)
		}
	}
	return d.objects, d.findings
}

// clusterNaming names rules as their author does, else by ports, direction and
// action.
func clusterNaming(r *rule, ports []string, only *named) (id, name string) {
	id = r.direction() + "-" + strconv.Itoa(r.index)
	if only != nil {
		id += "-" + ports[0]
	}
	if r.name != "" {
		return id, ncp.Name(r.name)
	}
	word := map[string]string{"ALLOW": "allow", "DROP": "deny", "JUMP_TO_APPLICATION": "pass"}[r.action]
	return id, strings.TrimSuffix(ncp.AllowRuleName(ports, r.direction()), "allow") + word
}

// selected returns the pods of a subject or peer.
func (d *draft) selected(p *pods) (term, bool) {
	if p.namespaces == nil && p.pods == nil {
		d.find(p.fields[0], "selects neither namespaces nor pods (want one of them)")
		return term{}, false
	}
	return d.podsIn(p.namespaces, p.pods, p.fields)
}

// clusterRule reads one rule; false: it matches nothing.
func (d *draft) clusterRule(c *clusterRule, admin bool) (rule, bool) {
	r := rule{index: c.index, out: c.out, name: c.name}
	before := len(d.findings)
	switch {
	case c.action == accept:
		r.action = "ALLOW"
	case c.action == deny:
		r.action = "DROP"
	case c.action != pass:
		d.find(c.field+".action", strconv.Quote(c.action)+": is not an action (Accept, Deny, Pass)")
	case admin:
		r.action = "JUMP_TO_APPLICATION"
	case c.out:
		r.action = "ALLOW" // nothing comes behind the baseline tier for egress
	default:
		r.action = "DROP"
		d.find(c.field+".action", "Pass: what a baseline rule for ingress passes on is closed, as the isolation of namespaces comes behind (want Accept or Deny)")
		before = len(d.findings) // known, and done
	}
	for i := range c.peers {
		if t, ok := d.clusterPeer(&c.peers[i]); ok {
			r.peers = append(r.peers, t...)
		}
	}
	r.all = len(c.ports) == 0
	for _, p := range c.ports {
		if len(p.ports) == 0 {
			d.find(p.field, "says no protocol that is known here (tcp, udp, sctp, destinationNamedPort)")
		}
		for _, one := range p.ports {
			if d.validPort(p.field, one) {
				r.add(one)
			}
		}
	}
	switch {
	case len(d.findings) == before:
		return r, true
	case c.action == accept:
		return r, false
	}
	return rule{index: c.index, out: c.out, name: c.name, action: "DROP", any: true, ports: ports{all: true}}, true
}

// validPort checks what the API's schema does.
func (d *draft) validPort(field string, p port) bool {
	switch {
	case !d.proto(field, p.proto):
		return false
	case p.name != "":
		return d.portName(field, p.name)
	case p.first == 0 && p.last == 0:
		return true
	}
	return d.portRange(field, field, p.first, p.last)
}

// clusterPeer returns whom one element of from or to means.
func (d *draft) clusterPeer(p *clusterPeer) ([]term, bool) {
	switch {
	case p.pods != nil:
		t, ok := d.selected(p.pods)
		return []term{t}, ok
	case len(p.domains) > 0:
		d.find(p.field+".domainNames", strings.Join(p.domains, ", ")+": is not supported (namespaces, pods, nodes, networks)")
	case p.nodes != nil:
		selector, err := metav1.LabelSelectorAsSelector(p.nodes)
		if err != nil {
			d.find(p.field+".nodes", err.Error())
			return nil, false
		}
		var out []term
		if d.at.Nodes != nil {
			for _, a := range d.at.Nodes(selector) {
				out = append(out, term{addresses: []string{a.String()}})
			}
		}
		return out, true
	case len(p.networks) > 0:
		return d.networks(p.field+".networks", p.networks)
	default:
		d.find(p.field, "says nothing that is known here (namespaces, pods, nodes, networks)")
	}
	return nil, false
}

func (d *draft) networks(field string, list []string) ([]term, bool) {
	var out []term
	for i, s := range list {
		p, err := parseCIDR(s)
		if err != nil {
			d.find(field+"["+strconv.Itoa(i)+"]", s+": is not a CIDR (such as 10.1.0.0/24)")
			return nil, false
		}
		out = append(out, term{addresses: []string{p.String()}})
	}
	return out, true
}
