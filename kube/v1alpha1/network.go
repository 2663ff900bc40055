package v1alpha1

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/intent"
)

// Defaults of what the API server fills in, for objects that it did not.
const (
	DefaultClusterID    = "domain-c8"
	DefaultSubnetPrefix = 28
	DefaultHoldTime     = 60 * time.Second
	DefaultAPIPort      = 6443
)

// DefaultSystemNamespaces returns the names of namespaces that share a gateway,
// unless a Supervisor says otherwise.
func DefaultSystemNamespaces() []string {
	return []string{"kube-system", "kube-public", "kube-node-lease", "default", "vmware-system-*"}
}

// Network is what a namespace inherits and overrides, parsed and checked.
//
// +kubebuilder:object:generate=false
type Network struct {
	Cluster      string         // id of the cluster
	Namespaces   []netip.Prefix // where its subnets are carved from, masked, in the order given
	SubnetPrefix int            // prefix length of each subnet
	Service      netip.Prefix   // ClusterIPs, masked
	Ingress      []netip.Prefix // masked
	Egress       []netip.Prefix // masked; empty iff Routed
	Exempt       []netip.Prefix // destinations that see untranslated sources, masked

	// AllNamespaces and AllIngress are Namespaces and Ingress with the
	// Supervisor's behind them: all that is inside.
	AllNamespaces, AllIngress []netip.Prefix

	Tier0Path       string
	EdgeClusterPath string
	Routed          bool
	SNATToIngress   bool
	Isolated        bool
	LogDropped      bool
	LoadBalancer    string // size
	HoldTime        time.Duration
}

// IsSystem reports whether a namespace shares the gateway of the system.
func (s *Supervisor) IsSystem(namespace string) bool {
	names := s.Spec.SystemNamespaces
	if names == nil {
		names = DefaultSystemNamespaces()
	}
	return slices.ContainsFunc(names, func(n string) bool {
		prefix, wild := strings.CutSuffix(n, "*")
		return n == namespace || wild && strings.HasPrefix(namespace, prefix)
	})
}

// ClusterID returns spec.clusterID or its default.
func (s *Supervisor) ClusterID() string { return cmp.Or(s.Spec.ClusterID, DefaultClusterID) }

// Effective returns the network of a namespace: what nn says, and where it says
// nothing, or is nil, what sup says. If a problem is of severity Error the
// network must not be used. The problems' paths are Supervisor/<name> and
// NamespaceNetwork/<name>, their fields as people write them.
func Effective(sup *Supervisor, nn *NamespaceNetwork) (Network, []intent.Problem) {
	e := &effective{path: "Supervisor/" + sup.Name}
	s := &sup.Spec
	n := Network{
		Cluster:         sup.ClusterID(),
		Namespaces:      e.cidrs("namespaceNetworkCIDRs", s.NamespaceNetworkCIDRs),
		SubnetPrefix:    int(cmp.Or(s.NamespaceSubnetPrefix, DefaultSubnetPrefix)),
		Ingress:         e.cidrs("ingressCIDRs", s.IngressCIDRs),
		Egress:          e.cidrs("egressCIDRs", s.EgressCIDRs),
		Exempt:          e.cidrs("snatExemptCIDRs", s.SNATExemptCIDRs),
		Tier0Path:       string(s.Tier0Path),
		EdgeClusterPath: string(s.EdgeClusterPath),
		Routed:          s.RoutedMode,
		SNATToIngress:   s.SNATToIngress,
		Isolated:        s.Isolation == nil || *s.Isolation,
		LogDropped:      s.LogDroppedTraffic,
		LoadBalancer:    string(cmp.Or(s.LoadBalancerSize, "SMALL")),
		HoldTime:        DefaultHoldTime,
	}
	if s.AddressHoldTime != nil {
		n.HoldTime = s.AddressHoldTime.Duration
	}
	e.supervisor(sup, &n)
	all := []ranges{
		{e.path, "namespaceNetworkCIDRs", n.Namespaces},
		{e.path, "serviceCIDR", single(n.Service)},
		{e.path, "ingressCIDRs", n.Ingress},
		{e.path, "egressCIDRs", n.Egress},
	}
	n.AllNamespaces, n.AllIngress = slices.Clone(n.Namespaces), slices.Clone(n.Ingress)
	if nn != nil {
		all = append(all, e.override(nn, &n)...)
	}
	e.overlaps(all)
	return n, e.problems
}

// effective collects the problems of one Effective.
type effective struct {
	path     string // of the object that is looked at
	problems []intent.Problem
}

func (e *effective) add(field string, kind intent.Kind, msg string) {
	e.problems = append(e.problems, intent.Problem{Path: e.path, Field: field, Kind: kind, Msg: msg})
}

// supervisor checks what only a Supervisor has, and its ranges.
func (e *effective) supervisor(sup *Supervisor, n *Network) {
	s := &sup.Spec
	if sup.Name != DefaultSupervisor {
		e.add("metadata.name", intent.BadID, shown(sup.Name)+": is not the one Supervisor ("+DefaultSupervisor+")")
	}
	if list := e.cidrs("serviceCIDR", nonEmpty(s.ServiceCIDR)); len(list) > 0 {
		n.Service = list[0]
	}
	for _, f := range []struct{ field, value string }{
		{"serviceCIDR", string(s.ServiceCIDR)}, {"tier0Path", string(s.Tier0Path)}, {"edgeClusterPath", string(s.EdgeClusterPath)},
	} {
		if f.value == "" {
			e.add(f.field, intent.Required, "is missing")
		}
	}
	e.pathOf("tier0Path", string(s.Tier0Path), "/infra/tier-0s/")
	e.needed("namespaceNetworkCIDRs", n.Namespaces)
	e.needed("ingressCIDRs", n.Ingress)
	e.subnets("namespaceNetworkCIDRs", "namespaceSubnetPrefix", n.Namespaces, n.SubnetPrefix)
	e.mode(n)
	if n.HoldTime < 0 {
		e.add("addressHoldTime", intent.BadValue, n.HoldTime.String()+": is negative (0s or more)")
	}
	if c := s.ControlPlane; c != nil && c.MACAddress == "" {
		e.add("controlPlane.macAddress", intent.Required, "is missing")
	}
	management := e.addresses("managementDNS", s.ManagementDNS)
	for i, a := range e.addresses("workloadDNS", s.WorkloadDNS) {
		if a.IsValid() && slices.Contains(management, a) {
			e.add(indexed("workloadDNS", i), intent.Conflict, a.String()+": is a managementDNS too (the control plane reaches each by another interface)")
		}
	}
}

// override puts what nn says into n and returns its ranges.
func (e *effective) override(nn *NamespaceNetwork, n *Network) []ranges {
	e.path = "NamespaceNetwork/" + nn.Name
	s := &nn.Spec
	supervisors := n.Namespaces
	var out []ranges
	replace := func(field string, list []CIDR, what *[]netip.Prefix) {
		if len(list) > 0 {
			*what = e.cidrs(field, list)
			out = append(out, ranges{e.path, field, *what})
		}
	}
	replace("namespaceNetworkCIDRs", s.NamespaceNetworkCIDRs, &n.Namespaces)
	replace("ingressCIDRs", s.IngressCIDRs, &n.Ingress)
	replace("egressCIDRs", s.EgressCIDRs, &n.Egress)
	n.AllNamespaces, n.AllIngress = join(n.Namespaces, n.AllNamespaces), join(n.Ingress, n.AllIngress)
	inherited := n.Routed
	if s.RoutedMode != nil {
		if n.Routed = *s.RoutedMode; n.Routed && len(s.EgressCIDRs) == 0 {
			n.Egress = nil // what it would inherit
		}
	}
	if n.Routed != inherited && len(s.NamespaceNetworkCIDRs) > 0 {
		e.apart(n.Namespaces, supervisors)
	}
	n.SubnetPrefix = cmp.Or(int(s.SubnetPrefix), n.SubnetPrefix)
	n.Tier0Path = cmp.Or(string(s.Tier0Path), n.Tier0Path)
	n.LoadBalancer = cmp.Or(string(s.LoadBalancerSize), n.LoadBalancer)
	if s.SNATToIngress != nil {
		n.SNATToIngress = *s.SNATToIngress
	}
	if len(s.NamespaceNetworkCIDRs) == 0 {
		for _, f := range []struct {
			field string
			given bool
		}{{"tier0Path", s.Tier0Path != ""}, {"ingressCIDRs", len(s.IngressCIDRs) > 0}, {"egressCIDRs", len(s.EgressCIDRs) > 0}, {"routedMode", n.Routed != inherited}} {
			if f.given {
				e.add("namespaceNetworkCIDRs", intent.Required, "is missing ("+f.field+" wants it)")
				break
			}
		}
	}
	e.pathOf("tier0Path", string(s.Tier0Path), "/infra/tier-0s/")
	if len(s.NamespaceNetworkCIDRs) > 0 || s.SubnetPrefix != 0 {
		e.subnets("namespaceNetworkCIDRs", "subnetPrefix", n.Namespaces, n.SubnetPrefix)
	}
	if s.RoutedMode != nil || len(s.EgressCIDRs) > 0 {
		e.mode(n)
	}
	return out
}

// apart checks that a namespace whose mode is not the Supervisor's has networks
// of its own: what is translated must not leave as it is, what is routed must.
func (e *effective) apart(own, supervisors []netip.Prefix) {
	for i, p := range own {
		for _, q := range supervisors {
			if p.Overlaps(q) {
				e.add(indexed("namespaceNetworkCIDRs", i), intent.Overlap, p.String()+": overlaps "+q.String()+" of the Supervisor, whose routedMode is another")
			}
		}
	}
}

// needed checks that a list is not empty.
func (e *effective) needed(field string, list []netip.Prefix) {
	said := slices.ContainsFunc(e.problems, func(p intent.Problem) bool { return strings.HasPrefix(p.Field, field) })
	if len(list) == 0 && !said {
		e.add(field, intent.Required, "is missing (want a CIDR)")
	}
}

// mode checks that there are egress addresses iff sources are translated.
func (e *effective) mode(n *Network) {
	if n.Routed && len(n.Egress) > 0 {
		e.add("egressCIDRs", intent.Conflict, "is given in routed mode (want it empty)")
	}
	if !n.Routed {
		e.needed("egressCIDRs", n.Egress)
	}
}

func (e *effective) pathOf(field, path, below string) {
	if path != "" && !strings.HasPrefix(path, below) {
		e.add(field, intent.BadValue, shown(path)+": is not a path below "+below)
	}
}

// Sizes of subnets: a gateway, network and broadcast address and at least one
// workload; and how many addresses a namespace network has, as a /23 of IPv4.
const (
	subnetBits  = 2
	networkBits = 9
)

// subnets checks that networks can be carved into subnets of a prefix length.
func (e *effective) subnets(field, prefixField string, networks []netip.Prefix, prefix int) {
	fits := true
	for i, p := range networks {
		bits := p.Addr().BitLen()
		if most := bits - networkBits; p.Bits() > most {
			e.add(indexed(field, i), intent.BadValue, p.String()+": is too small (at most /"+itoa(most)+")")
		}
		fits = fits && prefix >= p.Bits() && prefix <= bits-subnetBits
		if p.Addr().Is4() != networks[0].Addr().Is4() {
			e.add(indexed(field, i), intent.Conflict, p.String()+": is not of the family of "+networks[0].String())
		}
	}
	if len(networks) > 0 && !fits {
		lowest, highest := 0, 128
		for _, p := range networks {
			lowest, highest = max(lowest, p.Bits()), min(highest, p.Addr().BitLen()-subnetBits)
		}
		e.add(prefixField, intent.BadValue, itoa(prefix)+": does not fit the namespace networks ("+itoa(lowest)+" to "+itoa(highest)+")")
	}
}

// cidrs parses a list; what does not parse is left out.
func (e *effective) cidrs(field string, list []CIDR) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range list {
		at := field
		if field != "serviceCIDR" {
			at = indexed(field, i)
		}
		p, err := netip.ParsePrefix(string(s))
		switch a := p.Addr(); {
		case err != nil:
			e.add(at, intent.BadAddress, shown(string(s))+": is not a CIDR (such as 10.244.0.0/20)")
		case a.Is4In6() || a.IsMulticast() || a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast():
			e.add(at, intent.BadAddress, shown(string(s))+": has no unicast addresses of a network (such as 10.244.0.0/20)")
		default:
			out = append(out, p.Masked())
		}
	}
	return out
}

// addresses parses a list; what does not parse is invalid.
func (e *effective) addresses(field string, list []IP) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		a, err := netip.ParseAddr(string(s))
		if err != nil || a.Zone() != "" || a.Is4In6() {
			e.add(indexed(field, i), intent.BadAddress, shown(string(s))+": is not an address (such as 10.0.0.53)")
			continue
		}
		out[i] = a
	}
	return out
}

// ranges is a field's prefixes.
type ranges struct {
	path, field string
	list        []netip.Prefix
}

// overlaps reports ranges that overlap one before. Two objects may share the
// ranges of one field, as addresses are given out once.
func (e *effective) overlaps(all []ranges) {
	for i, a := range all {
		e.path = a.path
		for j, p := range a.list {
			at := indexed(a.field, j)
			if a.field == "serviceCIDR" {
				at = a.field
			}
			for _, q := range a.list[:j] {
				if p.Overlaps(q) {
					e.add(at, intent.Overlap, p.String()+": overlaps "+q.String()+" of the same field")
				}
			}
			for _, b := range all[:i] {
				for _, q := range b.list {
					if a.field != b.field && p.Overlaps(q) {
						e.add(at, intent.Overlap, p.String()+": overlaps "+q.String()+" of "+b.path+", "+b.field)
					}
				}
			}
		}
	}
}
