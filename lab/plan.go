package lab

import (
	"net/netip"
	"slices"
)

// Kind says what part a machine plays.
type Kind string

const (
	Host     Kind = "host"     // runs the data plane
	Workload Kind = "workload" // behind one segment port
	Physical Kind = "physical" // the router outside
	Outside  Kind = "outside"  // a machine behind the physical router
)

// Plan is all that a lab consists of, as plain data: it says what to build
// and what to clean up. NewPlan makes one; it is immutable afterwards.
type Plan struct {
	Lab      string
	Machines []Machine // host first, names unique
	Links    []Link
}

// Machine is one network namespace.
type Machine struct {
	Name      string // what `weft lab exec` takes
	Kind      Kind
	Namespace string
	Port      string   `json:",omitempty"` // policy path; valid iff Kind is Workload
	IPv6      bool     `json:",omitempty"` // without it the namespace has IPv6 switched off
	Bridges   []Bridge `json:",omitempty"`
	Routes    []Route  `json:",omitempty"`
	HTTP      []uint16 `json:",omitempty"` // ports that the test server listens on
}

// Bridge is a network inside a machine, which has an address on it.
type Bridge struct {
	Name    string
	Address netip.Prefix
}

// Route is a static route. An invalid Via means that all of To is on the link
// Dev.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
	Dev string `json:",omitempty"` // valid iff Via is not
}

// Link is a veth pair. A is the side of the machine that lasts longer: the
// host or the physical router.
type Link struct{ A, B End }

// End is one side of a Link.
type End struct {
	Namespace string
	Name      string         // at most 15 bytes
	MAC       string         `json:",omitempty"` // empty: the kernel chooses
	Addresses []netip.Prefix `json:",omitempty"` // with the subnet's length
	Alias     string         `json:",omitempty"` // ifalias, for people
	Bridge    string         `json:",omitempty"` // that it is a port of
	Object    string         `json:",omitempty"` // policy path of the port or uplink that the data plane binds here
}

// prefixOf is how the names of all namespaces of a lab begin.
func prefixOf(lab string) string { return "weft-" + lab + "-" }

// monitorsOf names the namespace of the monitors of a host's load balancers,
// which the host's agent makes.
func monitorsOf(host *Machine) string { return host.Namespace + ".monitors" }

// host returns the machine that runs the data plane.
func (p *Plan) host() *Machine {
	for i := range p.Machines {
		if p.Machines[i].Kind == Host {
			return &p.Machines[i]
		}
	}
	return nil
}

// machine returns the machine called name.
func (p *Plan) machine(name string) (*Machine, bool) {
	for i := range p.Machines {
		if p.Machines[i].Name == name {
			return &p.Machines[i], true
		}
	}
	return nil, false
}

// names returns the machines' names in plan order.
func (p *Plan) names() []string {
	names := make([]string, 0, len(p.Machines))
	for _, m := range p.Machines {
		names = append(names, m.Name)
	}
	return names
}

// ends returns the link ends inside a namespace, in plan order.
func (p *Plan) ends(namespace string) []End {
	var ends []End
	for _, l := range p.Links {
		for _, e := range []End{l.A, l.B} {
			if e.Namespace == namespace {
				ends = append(ends, e)
			}
		}
	}
	return ends
}

func (m Machine) equal(o Machine) bool {
	return m.Name == o.Name && m.Kind == o.Kind && m.Namespace == o.Namespace && m.Port == o.Port &&
		m.IPv6 == o.IPv6 && slices.Equal(m.Bridges, o.Bridges) && slices.Equal(m.Routes, o.Routes) &&
		slices.Equal(m.HTTP, o.HTTP)
}

func (l Link) equal(o Link) bool { return l.A.equal(o.A) && l.B.equal(o.B) }

func (e End) equal(o End) bool {
	return e.Namespace == o.Namespace && e.Name == o.Name && e.MAC == o.MAC && e.Alias == o.Alias &&
		e.Bridge == o.Bridge && e.Object == o.Object && slices.Equal(e.Addresses, o.Addresses)
}

// key names l within a lab: both sides' devices. Slashes are in no namespace
// name.
func (l Link) key() string {
	return l.A.Namespace + "/" + l.A.Name + "/" + l.B.Namespace + "/" + l.B.Name
}
