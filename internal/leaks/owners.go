package leaks

import (
	"net/netip"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// owned returns the objects of one type by owner.
func owned[T intent.Object](c *check) map[string][]T {
	out := map[string][]T{}
	for _, o := range c.Intent {
		if v, ok := o.(T); ok {
			owner := string(store.OwnerOf(o))
			out[owner] = append(out[owner], v)
		}
	}
	return out
}

// owners finds intent whose Kubernetes object is gone.
func (c *check) owners() {
	for _, o := range c.Intent {
		owner := string(store.OwnerOf(o))
		if owner != "" && c.live[owner] == nil {
			c.add(o.Meta().Path, "owner", "%s: does not exist", owner)
		}
	}
}

// wants finds Kubernetes objects without the intent that they should have, and
// without a word why.
func (c *check) wants() {
	var sup *Object
	ending := map[string]bool{}
	for i := range c.Live {
		switch o := &c.Live[i]; o.Kind {
		case "Supervisor":
			sup = o
		case "Namespace":
			ending[o.Metadata.Name] = o.leaves()
		}
	}
	if sup == nil {
		return // nothing can be made
	}
	ports, servers := owned[*intent.SegmentPort](c), owned[*intent.LBVirtualServer](c)
	tier1s, groups, policies := owned[*intent.Tier1](c), owned[*intent.Group](c), owned[*intent.SecurityPolicy](c)
	for i := range c.Live {
		o := &c.Live[i]
		if o.leaves() || ending[o.Metadata.Namespace] || o.refused() {
			continue
		}
		switch owner := o.owner(); o.Kind {
		case "Pod":
			c.pod(o, ports[owner])
		case "Service":
			c.service(o, servers[owner])
		case "Namespace":
			if len(groups[owner]) == 0 || len(tier1s[owner]) != 1 && !sup.isSystem(o.Metadata.Name) {
				c.add(o.name(), "", "has no network (a Tier-1 and a group) and does not say why")
			}
		case "NetworkPolicy":
			if len(policies[owner]) == 0 {
				c.add(o.name(), "", "has no security policy and does not say why")
			}
		}
	}
}

func (c *check) pod(o *Object, ports []*intent.SegmentPort) {
	if o.Spec.HostNetwork || o.Status.Phase == "Succeeded" || o.Status.Phase == "Failed" {
		return
	}
	if len(ports) != 1 {
		c.add(o.name(), "", "has %d segment ports and does not say why (1)", len(ports))
		return
	}
	p := ports[0]
	if p.AttachmentID() != o.Metadata.UID {
		c.add(p.Path, "attachment.id", "%s: is not the pod's UID %s", p.AttachmentID(), o.Metadata.UID)
	}
	if o.Status.PodIP != "" && (len(p.AddressBindings) == 0 || p.AddressBindings[0].IPAddress != o.Status.PodIP) {
		c.add(o.name(), "status.podIP", "%s: is not an address of its port %s", o.Status.PodIP, p.Path)
	}
}

func (c *check) service(o *Object, servers []*intent.LBVirtualServer) {
	var addresses []string
	for _, a := range o.Spec.ClusterIPs {
		if a != "None" && o.Spec.Type != "ExternalName" {
			addresses = append(addresses, a)
		}
	}
	if o.Spec.Type == "LoadBalancer" && o.Spec.LoadBalancerClass == "" {
		if len(o.Status.LoadBalancer.Ingress) == 0 {
			c.add(o.name(), "status.loadBalancer", "has no address and does not say why")
		}
		for _, in := range o.Status.LoadBalancer.Ingress {
			addresses = append(addresses, in.IP)
		}
	}
	have := map[string]bool{}
	for _, v := range servers {
		have[v.IPAddress] = true
	}
	for _, a := range addresses {
		if !have[a] {
			c.add(o.name(), "", "%s: has no virtual server and does not say why", a)
		}
		delete(have, a)
	}
	for a := range have {
		c.add(o.name(), "", "%s: has a virtual server, but the Service does not have that address", a)
	}
}

// prefixesOf parses what the API server has checked.
func prefixesOf(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if p, err := netip.ParsePrefix(strings.TrimSpace(s)); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}
