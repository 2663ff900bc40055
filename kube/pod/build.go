// Package pod turns Pods into segment ports: an address and a MAC address from
// when the Pod is made until it is finished or gone, and its labels as tags. A Pod
// that is being deleted keeps its port; one that uses its node's network has none.
package pod

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/writer"
)

// AnnotationAddress is the address that a Pod wants, in one of its namespace's
// segments. It counts when the Pod gets its port.
const AnnotationAddress = "weft.dev/ip-address"

// Reasons of a Fault.
const (
	NoNetwork      = "NoNetwork"          // the namespace has no segment
	Exhausted      = "AddressesExhausted" // no address is free in the namespace's segments
	AddressInvalid = "InvalidAddress"     // what is asked for is no address, or none that a pod can have
	AddressOutside = "AddressOutside"     // it is in none of the namespace's segments
	AddressInUse   = "AddressInUse"       // another port has it
	AddressFixed   = "AddressFixed"       // the Pod has another one, which does not change
)

const wishField = "metadata.annotations[" + AnnotationAddress + "]"

// Place is what a translation needs to know of the Pod's namespace.
type Place struct {
	Cluster string // C
	UID     string // U
	Router  string // path of the Tier-1 that its segments are on
}

// Request is a Pod with all that its translation depends on, but the tree.
type Request struct {
	Pod   *corev1.Pod
	Place Place
	// Held reports whether an address was released just now: who does not ask
	// for it gets it only if there is no other. Nil: none was.
	Held func(netip.Addr) bool
	// Claimed reports whether another Pod has an address by its status, though
	// its port is not there yet. Nil: none has.
	Claimed func(netip.Addr) bool
}

// Build returns the port of a Pod that wants an address, see
// ncp.WantsAddress. A port that it has already keeps its
// addresses; else it gets the address that it asks for, the one that its status
// says, or the lowest free one. Without a port there is a fault; a port may have
// one too.
// Cost O(ports of the namespace's segments), O(segments) if it has a port.
func Build(r Request, t *intent.Tree) (*intent.SegmentPort, *writer.Fault) {
	b := &translation{r, t, segments(t, r.Place)}
	if len(b.segments) == 0 {
		return nil, &writer.Fault{Reason: NoNetwork, Msg: "namespace " + r.Pod.Namespace + " has no segment (see the conditions of the Namespace and of its Supervisor)"}
	}
	wish, f := b.wish()
	if f != nil {
		return nil, f
	}
	if segment, had := b.has(); had != nil {
		if wish.IsValid() && !slices.ContainsFunc(had, func(a intent.AddressBinding) bool { return a.IPAddress == wish.String() }) {
			f = &writer.Fault{Reason: AddressFixed, Field: wishField, Msg: wish.String() + ": is not the address that the pod has, " + had[0].IPAddress + ", which does not change (make another pod)"}
		}
		return b.port(segment, had), f
	}
	segment, addrs, f := b.allocate(wish)
	if f != nil {
		return nil, f
	}
	mac := b.mac(segment, addrs[0])
	var bindings []intent.AddressBinding
	for _, a := range addrs {
		bindings = append(bindings, intent.AddressBinding{IPAddress: a.String(), MACAddress: mac})
	}
	return b.port(segment, bindings), nil
}

// translation is one Build.
type translation struct {
	Request
	t        *intent.Tree
	segments []*intent.Segment
}

// segments returns the segments of a namespace in the order of their numbers.
func segments(t *intent.Tree, p Place) []*intent.Segment {
	number := func(s *intent.Segment) int {
		n, _ := ncp.SegmentIndex(p.UID, s.Path)
		return n
	}
	list := slices.DeleteFunc(t.SegmentsOf(p.Router), func(s *intent.Segment) bool {
		_, ours := ncp.SegmentIndex(p.UID, s.Path)
		return !ours
	})
	slices.SortFunc(list, func(a, b *intent.Segment) int { return number(a) - number(b) })
	return list
}

// port returns the port on a segment.
func (b *translation) port(s *intent.Segment, bindings []intent.AddressBinding) *intent.SegmentPort {
	uid := string(b.Pod.UID)
	o := &intent.SegmentPort{
		Resource:        intent.Resource{DisplayName: ncp.PortName(b.Pod.Namespace, b.Pod.Name), Tags: ncp.PortTags(b.Place.Cluster, b.Place.UID, b.Pod)},
		AddressBindings: bindings,
		Attachment:      &intent.PortAttachment{ID: uid, Type: "INDEPENDENT"},
	}
	intent.Put(ncp.PortPath(s.Path, uid), o)
	return o
}

// has returns what the Pod's port has and its segment, or nil.
func (b *translation) has() (*intent.Segment, []intent.AddressBinding) {
	for _, s := range b.segments {
		port, ok := intent.Find[*intent.SegmentPort](b.t, ncp.PortPath(s.Path, string(b.Pod.UID)))
		if ok && len(port.AddressBindings) > 0 {
			return s, port.AddressBindings
		}
	}
	return nil, nil
}

// wish returns the address that the Pod asks for; invalid: any.
func (b *translation) wish() (netip.Addr, *writer.Fault) {
	text := strings.TrimSpace(b.Pod.Annotations[AnnotationAddress])
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return a, &writer.Fault{Reason: AddressInvalid, Field: wishField, Msg: text + ": is not an address (such as " + firstHost(b.segments[0]).String() + ")"}
	}
	return a.Unmap(), nil
}
