package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/weft-net/weft/intent"
)

// port is what one element of a rule's ports matches.
type port struct {
	proto       string // TCP, UDP or SCTP
	first, last int32  // both 0: every port of the protocol
	name        string // a named port; then first and last are 0
}

// String returns the port as NCP's rule names have it: TCP.80, TCP.8282.8286,
// TCP.http, or TCP for all.
func (p port) String() string {
	switch {
	case p.name != "":
		return p.proto + "." + p.name
	case p.first == 0:
		return p.proto
	case p.first == p.last:
		return fmt.Sprintf("%s.%d", p.proto, p.first)
	}
	return fmt.Sprintf("%s.%d.%d", p.proto, p.first, p.last)
}

// ports is what a rule matches. The zero value matches nothing.
type ports struct {
	all     bool // every protocol
	numbers []port
	named   []port
}

// add takes one port in, each once.
func (ps *ports) add(p port) {
	list := &ps.numbers
	if p.name != "" {
		list = &ps.named
	}
	if !slices.Contains(*list, p) {
		*list = append(*list, p)
	}
}

// names returns the numeric ports as rule names have them; none: all.
func (ps *ports) names() []string {
	var out []string
	for _, p := range ps.numbers {
		out = append(out, p.String())
	}
	return out
}

// entries returns the numeric ports as service entries, one a protocol.
func entries(numbers []port) []intent.ServiceEntry {
	var out []intent.ServiceEntry
	for _, proto := range protocols {
		e := &intent.L4PortSetServiceEntry{L4Protocol: proto}
		e.ID, e.ResourceType = proto, "L4PortSetServiceEntry"
		found, every := false, false
		for _, p := range numbers {
			if p.proto != proto {
				continue
			}
			found, every = true, every || p.first == 0
			text := strconv.Itoa(int(p.first))
			if p.last != p.first {
				text += "-" + strconv.Itoa(int(p.last))
			}
			e.DestinationPorts = append(e.DestinationPorts, text)
		}
		if every {
			e.DestinationPorts = nil
		}
		if found {
			out = append(out, e)
		}
	}
	return out
}

// protocols are those of policies' ports.
var protocols = []string{"TCP", "UDP", "SCTP"}

// networkPorts reads the ports of a NetworkPolicy's rule. An element without a
// meaning matches nothing.
func (d *draft) networkPorts(field string, list []netv1.NetworkPolicyPort) ports {
	out := ports{all: len(list) == 0}
	for i, p := range list {
		if got, ok := d.networkPort(field+"["+strconv.Itoa(i)+"]", p); ok {
			out.add(got)
		}
	}
	return out
}

func (d *draft) networkPort(field string, p netv1.NetworkPolicyPort) (port, bool) {
	out := port{proto: "TCP"}
	if p.Protocol != nil {
		out.proto = string(*p.Protocol)
	}
	ok := d.proto(field+".protocol", out.proto)
	switch {
	case p.Port == nil && p.EndPort != nil:
		d.find(field+".endPort", fmt.Sprintf("%d: is given without a port (give port too)", *p.EndPort))
		return out, false
	case p.Port == nil:
		return out, ok
	case p.Port.Type == intstr.String && p.EndPort != nil:
		d.find(field+".endPort", fmt.Sprintf("%d: is given with a named port (want a number as port)", *p.EndPort))
		return out, false
	case p.Port.Type == intstr.String:
		out.name = p.Port.StrVal
		return out, d.portName(field+".port", out.name) && ok
	}
	out.first, out.last = p.Port.IntVal, p.Port.IntVal
	if p.EndPort != nil {
		out.last = *p.EndPort
	}
	return out, d.portRange(field+".port", field+".endPort", out.first, out.last) && ok
}

func (d *draft) proto(field, proto string) bool {
	ok := slices.Contains(protocols, proto)
	if !ok {
		d.find(field, strconv.Quote(proto)+": is not a protocol with ports ("+strings.Join(protocols, ", ")+")")
	}
	return ok
}

func (d *draft) portName(field, name string) bool {
	ok := len(validation.IsValidPortName(name)) == 0
	if !ok {
		d.find(field, strconv.Quote(name)+": is not the name of a port (such as http)")
	}
	return ok
}

func (d *draft) portRange(atFirst, atLast string, first, last int32) bool {
	switch {
	case first < 1 || first > 65535:
		d.find(atFirst, fmt.Sprintf("%d: is not a port (1 to 65535)", first))
	case last < first || last > 65535:
		d.find(atLast, fmt.Sprintf("%d: is not the end of a range that begins at %d (%d to 65535)", last, first, first))
	default:
		return true
	}
	return false
}

// NamedPorts returns the numbers that the pods of a namespace have for a named
// container port, each once, in order; an empty namespace means those of all
// namespaces. Nil: no pod has any.
type NamedPorts func(namespace string, proto corev1.Protocol, name string) []int32
