package policy

import (
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
)

// Place is what a translation needs to know beside the policy itself.
type Place struct {
	Cluster      string // the cluster's id, see ncp.DomainPath
	NamespaceUID string // of the policy's namespace; cluster policies have none
	Ports        NamedPorts
	Nodes        NodeAddresses
}

// NodeAddresses returns the addresses of the nodes that a selector selects, each
// once, in order. Nil: there are no nodes.
type NodeAddresses func(labels.Selector) []netip.Addr

// draft is the objects of one policy in the making.
type draft struct {
	at        Place
	id        string // begins the ids of all groups
	name      string // begins their names
	tags      []intent.Tag
	namespace string // whose pods the policy is about; empty: of all namespaces
	subject   []term // who the policy is about
	objects   []intent.Object
	made      map[string]bool // paths of objects
	findings  []Finding
}

// find notes that a part of the policy has no meaning.
func (d *draft) find(field, fact string) { d.findings = append(d.findings, Finding{field, fact}) }

// put adds an object, once.
func (d *draft) put(path string, o intent.Object) string {
	if d.made == nil {
		d.made = map[string]bool{}
	}
	if !d.made[path] {
		d.made[path] = true
		d.objects = append(d.objects, intent.Put(path, o).Object)
	}
	return path
}

// group makes a group of the policy's own and returns its path.
func (d *draft) group(id string, terms []term, also *intent.Condition) string {
	return d.put(ncp.GroupPath(d.at.Cluster, d.id+"_"+id), &intent.Group{
		Resource:   intent.Resource{DisplayName: ncp.Name(d.name + "-" + strings.ReplaceAll(id, "_", "-")), Tags: d.tags},
		Expression: expression(terms, also),
	})
}

// scope makes the group of the policy's subject and returns its path.
func (d *draft) scope() string { return d.group("scope", d.subject, nil) }

// policy makes a security policy about the subject and returns its path.
func (d *draft) policy(path, name, category string, sequence int) string {
	return d.put(path, &intent.SecurityPolicy{
		Resource: intent.Resource{DisplayName: name, Tags: d.tags},
		Category: category, SequenceNumber: sequence, Scope: []string{d.scope()},
	})
}

// section is the rules of one policy that are being made.
type section struct {
	*draft
	path string
	last int // sequence number of the last rule
	ids  map[string]bool
	// naming returns the id and the display name of a rule for ports; none
	// are all. only is the number that it is for, if it is for one of a named
	// port.
	naming func(r *rule, ports []string, only *named) (id, name string)
}

// rule is one rule of a policy in either direction.
type rule struct {
	index  int // in its list
	out    bool
	name   string // given by people; empty: by ports
	action string // in NSX's word
	any    bool   // every peer
	peers  []term // valid iff any is false
	ports
}

// direction returns the word of rule names.
func (r *rule) direction() string {
	if r.out {
		return "egress"
	}
	return "ingress"
}

// far returns the id of the group of the rule's peers.
func (r *rule) far() string {
	if r.out {
		return "dst_" + strconv.Itoa(r.index)
	}
	return "src_" + strconv.Itoa(r.index)
}

// add makes the intent rules of one rule: one for numeric ports, and one for
// each number of a named port, which only destinations that have that number
// for the name meet.
func (s *section) add(r *rule) {
	if !r.any && len(expression(r.peers, nil)) == 0 {
		return // nobody
	}
	if r.all || len(r.numbers) > 0 {
		s.emit(r, r.names(), entries(r.numbers), nil)
	}
	for _, p := range r.named {
		for _, n := range s.destined(r, p) {
			has := condition(onPort, "EQUALS", ncp.PortScope(p.proto, p.name)+"|"+strconv.Itoa(int(n)))
			number := port{proto: p.proto, first: n, last: n}
			s.emit(r, []string{p.String() + "." + strconv.Itoa(int(n))}, entries([]port{number}), &named{p, n, has})
		}
	}
}

// destined returns the numbers that destinations of a rule can have for a named
// port. Those of ingress are the subject: what other namespaces have for the
// name makes no rules.
func (d *draft) destined(r *rule, p port) []int32 {
	if d.at.Ports == nil {
		return nil
	}
	namespace := d.namespace
	if r.out {
		namespace = ""
	}
	return d.at.Ports(namespace, corev1.Protocol(p.proto), p.name)
}

// named is one number of a named port.
type named struct {
	port   port
	number int32
	has    *intent.Condition
}

// suffix returns what the ids of groups end in.
func (n *named) suffix() string {
	return "_" + n.port.proto + "_" + n.port.name + "_" + strconv.Itoa(int(n.number))
}

// emit makes one intent rule.
func (s *section) emit(r *rule, ports []string, entries []intent.ServiceEntry, only *named) {
	s.last++
	out := &intent.Rule{
		SequenceNumber: s.last, Action: r.action, Direction: "IN",
		SourceGroups: []string{"ANY"}, DestinationGroups: []string{"ANY"}, ServiceEntries: entries,
	}
	if r.out {
		out.Direction = "OUT"
		out.DestinationGroups = s.destinations(r, only)
	} else {
		if !r.any {
			out.SourceGroups = []string{s.group(r.far(), r.peers, nil)}
		}
		if only != nil {
			out.DestinationGroups = []string{s.group("scope"+only.suffix(), s.subject, only.has)}
		}
	}
	id, name := s.naming(r, ports, only)
	out.DisplayName = name
	s.put(ncp.RulePath(s.path, s.unique(id)), out)
}

// destinations returns the destinations of a rule for egress.
func (s *section) destinations(r *rule, only *named) []string {
	switch {
	case only == nil && r.any:
		return []string{"ANY"}
	case only == nil:
		return []string{s.group(r.far(), r.peers, nil)}
	case r.any:
		everyone, _ := s.podsIn(nil, nil, [2]string{})
		return []string{s.group("dst"+only.suffix(), []term{everyone}, only.has)}
	}
	return []string{s.group(r.far()+only.suffix(), r.peers, only.has)}
}

// unique returns an id that the section does not have yet: rules of equal ports
// are told apart by a number.
func (s *section) unique(id string) string {
	out := id
	for n := 2; s.ids[out]; n++ {
		out = id + "-" + strconv.Itoa(n)
	}
	if s.ids == nil {
		s.ids = map[string]bool{}
	}
	s.ids[out] = true
	return out
}
