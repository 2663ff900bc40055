package lab

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

const (
	defaultHost  = "host1"
	physicalName = "physical"
	workloadNIC  = "eth0"
	// maxDevice is what a device name may have, without the closing NUL.
	// Source: linux/if.h, IFNAMSIZ.
	maxDevice = 15
)

// machineName is what a machine may be called. It becomes a file name with
// its slashes as dots.
var machineName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`)

// NewPlan works out what the lab spec around the data plane set consists of.
//
// set is the compiled intent of the lab's only host: each of its ports that
// has an address, and is neither a Node's uplink nor for monitors, becomes a
// workload. All mistakes in
// spec are returned at once; the Plan is valid iff there are none. The result
// depends on nothing else, and not on the order of set's maps.
func NewPlan(spec *Spec, set *table.Set) (*Plan, []intent.Problem) {
	p := &planner{
		spec: spec, set: set, plan: &Plan{Lab: spec.Name},
		namespaces: map[string]string{}, hostDevices: map[string]string{"lo": "the loopback device"},
	}
	if err := CheckName(spec.Name); err != nil {
		p.problem("name", intent.BadValue, "%s: is not a lab name (1 to 32 lower-case letters and digits)", spec.Name)
	}
	p.host()
	p.physical()
	p.outside()
	p.workloads()
	return p.plan, p.problems
}

// planner collects a Plan and the problems found on the way.
type planner struct {
	spec     *Spec
	set      *table.Set
	plan     *Plan
	problems []intent.Problem

	namespaces  map[string]string // taken → by what
	hostDevices map[string]string // taken → by what
	networks    []network         // of the physical router
}

// network is what an interface of the physical router leads to.
type network struct {
	name    string
	address netip.Prefix
	uplink  bool // to a host, not to outside machines
}

func (p *planner) problem(field string, kind intent.Kind, format string, args ...any) {
	p.problems = append(p.problems, intent.Problem{
		Path: "lab " + p.spec.Name, Field: field, Kind: kind, Msg: fmt.Sprintf(format, args...),
	})
}

// add puts a machine into the plan and returns its namespace.
func (p *planner) add(field string, m Machine) string {
	if !machineName.MatchString(m.Name) {
		p.problem(field, intent.BadValue,
			"%q: is not a machine name (letters, digits, . _ / -, at most 63, first a letter or digit)", m.Name)
		return ""
	}
	m.Namespace = prefixOf(p.spec.Name) + strings.ReplaceAll(m.Name, "/", ".")
	if by, taken := p.namespaces[m.Namespace]; taken {
		p.problem(field, intent.Duplicate, "%s: is the name of %s already (one machine a name)", m.Name, by)
		return ""
	}
	p.namespaces[m.Namespace] = cmp.Or(m.Port, strings.TrimSuffix(field, ".name"))
	p.plan.Machines = append(p.plan.Machines, m)
	return m.Namespace
}

func (p *planner) host() {
	name := defaultHost
	if len(p.spec.Hosts) > 1 {
		p.problem("hosts", intent.Unsupported, "%d hosts: are too many (at most 1)", len(p.spec.Hosts))
	}
	if len(p.spec.Hosts) > 0 {
		name = p.spec.Hosts[0].Name
	}
	v6 := false
	for _, u := range p.set.Uplinks.All() {
		v6 = v6 || u.Address.Addr().Is6()
	}
	if namespace := p.add("hosts[0].name", Machine{Name: name, Kind: Host, IPv6: v6}); namespace != "" {
		p.namespaces[monitorsOf(p.plan.host())] = "the monitors of " + name
	}
}

func (p *planner) physical() {
	r := p.spec.PhysicalRouter
	if r == nil {
		return
	}
	m := Machine{Name: physicalName, Kind: Physical}
	namespace := prefixOf(p.spec.Name) + physicalName
	devices, uplinks := map[string]bool{"lo": true}, map[string]bool{}
	for i, in := range r.Interfaces {
		field := fmt.Sprintf("physical_router.interfaces[%d]", i)
		if !deviceName(in.Name) || devices[in.Name] {
			p.problem(field+".name", intent.BadValue,
				"%q: is not a new device name (at most 15 letters, digits, . _ -, each once, not lo)", in.Name)
			continue
		}
		devices[in.Name] = true
		address, ok := p.hostAddress(field+".address", in.Address)
		if !ok {
			continue
		}
		m.IPv6 = m.IPv6 || address.Addr().Is6()
		p.networks = append(p.networks, network{in.Name, address, in.Tier0Interface != ""})
		if in.Tier0Interface == "" {
			m.Bridges = append(m.Bridges, Bridge{Name: in.Name, Address: address})
			continue
		}
		if uplinks[in.Tier0Interface] {
			p.problem(field+".tier0_interface", intent.Duplicate, "%s: has a cable already (one each)", in.Tier0Interface)
			continue
		}
		uplinks[in.Tier0Interface] = true
		p.cable(field, in, address, namespace)
	}
	for i, route := range r.Routes {
		if to, via, ok := p.route(fmt.Sprintf("physical_router.routes[%d]", i), route); ok {
			m.Routes = append(m.Routes, Route{To: to, Via: via})
		}
	}
	p.add("physical_router", m)
}

// cable links an interface of the physical router to the host that carries
// the Tier-0's uplink.
func (p *planner) cable(field string, in InterfaceSpec, address netip.Prefix, namespace string) {
	var uplink *table.Uplink
	for _, u := range p.set.Uplinks.All() {
		if u.Path == in.Tier0Interface {
			uplink = u
		}
	}
	switch {
	case uplink == nil:
		p.problem(field+".tier0_interface", intent.Dangling, "%s: is no uplink of a Tier-0 (%s)", in.Tier0Interface,
			choices(p.set.Uplinks, func(u *table.Uplink) string { return u.Path }))
		return
	case uplink.Address.Masked() != address.Masked():
		p.problem(field+".address", intent.OutsideSubnet, "%s: is not in the subnet of %s (%s)",
			address, uplink.Path, uplink.Address.Masked())
		return
	case uplink.Address == address:
		p.problem(field+".address", intent.Duplicate, "%s: is the address of %s itself", address, uplink.Path)
		return
	case len(p.plan.Machines) == 0: // the host has a problem of its own
		return
	}
	p.plan.Links = append(p.plan.Links, Link{
		A: End{
			Namespace: p.plan.host().Namespace, Name: p.hostDevice(field, "up-"+in.Name, uplink.Path),
			Addresses: []netip.Prefix{uplink.Address}, Alias: cmp.Or(uplink.Attachment, uplink.Path), Object: uplink.Path,
		},
		B: End{Namespace: namespace, Name: in.Name, Addresses: []netip.Prefix{address}, Alias: "to " + uplink.Path},
	})
}

func (p *planner) route(field string, r RouteSpec) (to netip.Prefix, via netip.Addr, ok bool) {
	to, errTo := netip.ParsePrefix(r.To)
	if errTo != nil || to != to.Masked() {
		p.problem(field+".to", intent.BadAddress, "%q: is not a network (10.15.0.0/16)", r.To)
	}
	via, errVia := netip.ParseAddr(r.Via)
	if errVia != nil {
		p.problem(field+".via", intent.BadAddress, "%q: is not an address", r.Via)
	}
	if errTo != nil || errVia != nil {
		return to, via, false
	}
	for _, n := range p.networks {
		if n.address.Contains(via) && n.address.Addr() != via {
			return to, via, true
		}
	}
	p.problem(field+".via", intent.OutsideSubnet, "%s: is no neighbour of the physical router (%s)", via, p.networkList(""))
	return to, via, false
}

func (p *planner) outside() {
	addresses := map[netip.Addr]string{}
	for i, o := range p.spec.Outside {
		field := fmt.Sprintf("outside[%d]", i)
		address, ok := p.hostAddress(field+".address", o.Address)
		j := slices.IndexFunc(p.networks, func(n network) bool { return n.name == o.Interface && !n.uplink })
		if j < 0 {
			p.problem(field+".interface", intent.Dangling, "%q: is no outside network of the physical router (%s)",
				o.Interface, p.networkList("outside"))
		}
		if !ok || j < 0 {
			continue
		}
		lan := p.networks[j]
		if lan.address.Masked() != address.Masked() {
			p.problem(field+".address", intent.OutsideSubnet, "%s: is not in the subnet of interface %s (%s)",
				address, lan.name, lan.address.Masked())
			continue
		}
		by, taken := addresses[address.Addr()]
		if lan.address == address {
			by, taken = "the physical router", true
		}
		if taken {
			p.problem(field+".address", intent.Duplicate, "%s: is the address of %s", address, by)
			continue
		}
		addresses[address.Addr()] = o.Name
		p.ports(field, o.HTTP)
		namespace := p.add(field+".name", Machine{
			Name: o.Name, Kind: Outside, IPv6: address.Addr().Is6(), HTTP: o.HTTP,
			Routes: []Route{{To: everything(address.Addr()), Via: lan.address.Addr()}},
		})
		p.plan.Links = append(p.plan.Links, Link{
			A: End{
				Namespace: prefixOf(p.spec.Name) + physicalName, Name: device("o-" + strings.ReplaceAll(o.Name, "/", ".")),
				Bridge: lan.name, Alias: "to " + o.Name,
			},
			B: End{Namespace: namespace, Name: workloadNIC, Addresses: []netip.Prefix{address}},
		})
	}
}

func (p *planner) workloads() {
	listed := map[string]WorkloadSpec{}
	fields := map[string]string{}
	ports := map[string]*table.Port{}
	for _, port := range p.set.Ports.All() {
		ports[port.Path] = port
	}
	endpoints := p.endpoints()
	for i, w := range p.spec.Workloads {
		field := fmt.Sprintf("workloads[%d]", i)
		port := ports[w.Port]
		switch {
		case port == nil:
			p.problem(field+".port", intent.Dangling, "%s: is no segment port (%s)", w.Port,
				choices(p.set.Ports, func(p *table.Port) string { return p.Path }))
		case fields[w.Port] != "":
			p.problem(field+".port", intent.Duplicate, "%s: is listed in %s already", w.Port, fields[w.Port])
		case port.Node != 0:
			p.problem(field+".port", intent.Conflict, "%s: is the uplink of a Node, which the data plane itself is", w.Port)
		case p.monitors(port):
			p.problem(field+".port", intent.Conflict, "%s: is for the monitors of a load balancer, which the host's agent runs", w.Port)
		case len(endpoints[port.ID]) == 0:
			p.problem(field+".port", intent.Required, "%s: has no address binding", w.Port)
		default:
			p.ports(field, w.HTTP)
			listed[w.Port], fields[w.Port] = w, field
		}
	}
	for _, path := range slices.Sorted(maps.Keys(ports)) {
		port := ports[path]
		if port.Node != 0 || len(endpoints[port.ID]) == 0 || p.monitors(port) {
			continue
		}
		w, field := listed[path], fields[path]+".name"
		if fields[path] == "" {
			w, field = WorkloadSpec{Name: plainName(port.Name)}, "workloads"
		}
		p.workload(field, w, port, endpoints[port.ID])
	}
}

// monitors says whether a port is for the monitors of a load balancer.
func (p *planner) monitors(port *table.Port) bool {
	segment := p.set.Segments.Get(port.Segment)
	return segment != nil && segment.Monitor != 0
}

// endpoints returns each port's bindings on its own segment, ordered by
// address.
func (p *planner) endpoints() map[table.PortID][]*table.Endpoint {
	of := map[table.PortID][]*table.Endpoint{}
	for _, e := range p.set.Endpoints.All() {
		if port := p.set.Ports.Get(e.Port); port != nil && port.Segment == e.Segment {
			of[e.Port] = append(of[e.Port], e)
		}
	}
	for _, list := range of {
		slices.SortFunc(list, func(a, b *table.Endpoint) int { return a.Addr.Compare(b.Addr) })
	}
	return of
}

// workload adds the machine of one port and its link to the host.
func (p *planner) workload(field string, w WorkloadSpec, port *table.Port, bindings []*table.Endpoint) {
	m := Machine{Name: w.Name, Kind: Workload, Port: port.Path, HTTP: w.HTTP}
	nic := End{Name: workloadNIC, MAC: net.HardwareAddr(bindings[0].MAC[:]).String(), Alias: port.Path}
	routed := map[netip.Prefix]bool{}
	for _, b := range bindings {
		if b.MAC != bindings[0].MAC {
			p.problem(field, intent.Unsupported, "%s: has bindings with different MAC addresses (one a port)", port.Path)
			return
		}
		m.IPv6 = m.IPv6 || b.Addr.Is6()
		address, route := p.attach(port, b.Addr)
		nic.Addresses = append(nic.Addresses, address)
		if !routed[route.To] {
			routed[route.To] = true
			m.Routes = append(m.Routes, route)
		}
	}
	nic.Namespace = p.add(field, m)
	if nic.Namespace == "" || len(p.plan.Machines) == 0 {
		return
	}
	p.plan.Links = append(p.plan.Links, Link{
		A: End{
			Namespace: p.plan.host().Namespace, Name: p.hostDevice(field, strings.ReplaceAll(w.Name, "/", "."), port.Path),
			Alias: cmp.Or(port.Attachment, port.Path), Object: port.Path,
		},
		B: nic,
	})
}

// attach returns addr with its subnet's length and the default route. On a
// segment without a gateway for addr every address is a neighbour.
func (p *planner) attach(port *table.Port, addr netip.Addr) (netip.Prefix, Route) {
	if segment := p.set.Segments.Get(port.Segment); segment != nil {
		for _, gateway := range segment.Gateways {
			if gateway.Contains(addr) {
				return netip.PrefixFrom(addr, gateway.Bits()), Route{To: everything(addr), Via: gateway.Addr()}
			}
		}
	}
	return netip.PrefixFrom(addr, addr.BitLen()), Route{To: everything(addr), Dev: workloadNIC}
}

// hostAddress parses an address with a subnet length that a machine can have.
func (p *planner) hostAddress(field, text string) (netip.Prefix, bool) {
	address, err := netip.ParsePrefix(text)
	if err != nil {
		p.problem(field, intent.BadAddress, "%q: is not an address with a subnet (192.168.105.253/24)", text)
		return address, false
	}
	if a := address.Addr(); a.Is4In6() || a.IsMulticast() || a.IsLoopback() || a.IsUnspecified() ||
		address.Bits() < a.BitLen()-1 && address.Masked() == address {
		p.problem(field, intent.NotAHost, "%s: is no host address", text)
		return address, false
	}
	return address, true
}

func (p *planner) ports(field string, ports []uint16) {
	for i, port := range ports {
		if port == 0 || slices.Contains(ports[:i], port) {
			p.problem(fmt.Sprintf("%s.http[%d]", field, i), intent.BadPort, "%d: is not a new port (1 to 65535, each once)", port)
		}
	}
}

// hostDevice takes a device name in the host's namespace.
func (p *planner) hostDevice(field, name, object string) string {
	d := device(name)
	if by, taken := p.hostDevices[d]; taken {
		p.problem(field, intent.Duplicate, "%s: gives the host a device %s, which %s has (choose another name)", name, d, by)
	}
	p.hostDevices[d] = object
	return d
}

// networkList names the physical router's networks for a message.
func (p *planner) networkList(which string) string {
	var names []string
	for _, n := range p.networks {
		if which == "" {
			names = append(names, n.address.Masked().String())
		} else if !n.uplink {
			names = append(names, n.name)
		}
	}
	return cmp.Or(strings.Join(names, ", "), "it has none")
}

// device makes a device name of name, the same for the same name: itself if
// it is short enough, else its beginning and a hash.
func device(name string) string {
	if len(name) <= maxDevice {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:maxDevice-7] + "-" + hex.EncodeToString(sum[:3])
}

// deviceName says whether the kernel and /proc/sys take name as a device's.
func deviceName(name string) bool {
	return len(name) <= maxDevice && machineName.MatchString(name) && !strings.Contains(name, "/")
}

// plainName replaces what a machine name must not have.
func plainName(display string) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("._/-", r) || r < 128 && machineName.MatchString(string(r)) {
			return r
		}
		return '-'
	}, display)
	return strings.TrimLeft(name, "._/-")
}

// everything is the default prefix of a's family.
func everything(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// choices lists at most five policy paths for a message.
func choices[K comparable, V any](m table.Map[K, V], path func(*V) string) string {
	var paths []string
	for v := range m.Values() {
		paths = append(paths, path(v))
	}
	slices.Sort(paths)
	if len(paths) > 5 {
		paths = append(paths[:5], fmt.Sprintf("and %d more", len(paths)-5))
	}
	return cmp.Or(strings.Join(paths, ", "), "there is none")
}
