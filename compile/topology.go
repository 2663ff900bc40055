package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// port is a port with all that its endpoints need.
type port struct {
	*table.Port
	Bindings []intent.Binding // sorted by address
}

// comparePrefixes orders by address, then shorter first.
func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// disjoint sorts prefixes and drops those that lie in others.
func disjoint(list []netip.Prefix) []netip.Prefix {
	list = slices.Clone(list)
	slices.SortFunc(list, comparePrefixes)
	var out []netip.Prefix
	for _, p := range list {
		if len(out) == 0 || !out[len(out)-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

// host returns the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// domainOf returns what the segment's addresses are told apart by: its router,
// or the segment if it has none.
func domainOf(s *intent.Segment) string { return cmp.Or(s.RouterPath(), s.Path) }

func (x *run) buildSubnets(path string) any {
	s, ok := object[*intent.Segment](x, path)
	if !ok {
		return nil
	}
	for _, gw := range s.Gateways() {
		x.emit(ref{relSubnet, domainOf(s), ""}, gw.Masked())
	}
	if r := s.RouterPath(); r != "" {
		x.emit(ref{relSegment, r, ""}, path)
	}
	return nil
}

// buildRealm makes a realm of the addresses of a domain that another one has
// too.
func (x *run) buildRealm(domain string) any {
	x.note(ref{srcOverlap, domain, ""})
	shared := x.c.overlap.shared(domain)
	if len(shared) == 0 {
		return nil
	}
	return &table.Realm{
		ID:       table.RealmID(x.id(poolRealm, domain)),
		Path:     domain,
		Prefixes: shared,
	}
}

// realmOf returns the realm of the segment's domain, or nil.
func (x *run) realmOf(s *intent.Segment) *table.Realm {
	return built[*table.Realm](x, ref{factRealm, domainOf(s), ""})
}

func (x *run) buildVRF(path string) any {
	x.note(ref{srcObject, path, ""})
	o := x.c.tree.Get(path)
	if o == nil {
		return nil
	}
	v := &table.VRF{Path: path, Name: o.Meta().Name()}
	switch o := o.(type) {
	case *intent.Tier0:
		v.Kind = table.Tier0
	case *intent.Tier1:
		v.Kind = table.Tier1
	case *intent.Node:
		v.Kind = table.Node
		x.emit(ref{relNodePort, o.PortPath, ""}, path)
		v.NodePort = x.portID(o.PortPath)
	default:
		return nil
	}
	v.ID = x.vrfID(path)
	if r := built[*table.Realm](x, ref{factRealm, path, ""}); r != nil {
		v.Realm = r.ID
	}
	if v.Kind == table.Tier1 {
		v.In, v.Out = x.gates(path)
	}
	return v
}

func (x *run) vrfID(path string) table.VRFID {
	if path == "" {
		return 0
	}
	return table.VRFID(x.id(poolVRF, path))
}

func (x *run) portID(path string) table.PortID {
	return table.PortID(x.id(poolPort, path))
}

func (x *run) segmentID(path string) table.SegmentID {
	return table.SegmentID(x.id(poolSegment, path))
}

func (x *run) buildSegment(path string) any {
	s, ok := object[*intent.Segment](x, path)
	if !ok {
		return nil
	}
	out := &table.Segment{
		ID:       x.segmentID(path),
		Path:     path,
		Name:     s.Name(),
		VNI:      x.vni(s),
		Gateways: s.Gateways(),
	}
	if len(out.Gateways) > 0 {
		out.VRF = x.vrfID(s.RouterPath())
	}
	if r := x.realmOf(s); r != nil {
		out.Realm = r.ID
	}
	return out
}

func (x *run) vni(s *intent.Segment) uint32 {
	return x.idOf(poolVNI, s.Path, int64(s.VNI()))
}

func (x *run) buildPort(path string) any {
	p, ok := object[*intent.SegmentPort](x, path)
	if !ok {
		return nil
	}
	s, ok := object[*intent.Segment](x, p.SegmentPath())
	bindings := p.Bindings()
	if !ok || !p.IsUp() || !s.IsUp() || len(bindings) == 0 {
		return nil
	}
	out := &table.Port{
		ID:      x.portID(path),
		Path:    path,
		Name:    p.Name(),
		Segment: x.segmentID(s.Path),
		MAC:     table.MAC(bindings[0].MAC),
	}
	if node := x.nodeAt(path); node != "" {
		out.Node = x.vrfID(node)
	} else {
		out.Attachment = cmp.Or(p.AttachmentID(), path)
	}
	gateways := s.Gateways()
	for _, b := range bindings {
		x.emit(ref{relBinding, s.Path, b.Addr.String()}, path)
		if !holds(gateways, b.Addr) {
			x.emit(ref{relSubnet, domainOf(s), ""}, host(b.Addr))
		}
	}
	slices.SortFunc(bindings, func(a, b intent.Binding) int { return a.Addr.Compare(b.Addr) })
	return &port{out, bindings}
}

// nodeAt returns the Node that leaves by a port, "" if it is no Node's; of
// several the first by path.
func (x *run) nodeAt(port string) string {
	if rel := x.rel(relNodePort, port); rel != nil {
		return inOrder(rel.members, strings.Compare)[0]
	}
	return ""
}

func (x *run) buildUplink(path string) any {
	i, ok := object[*intent.Tier0Interface](x, path)
	if !ok || !isExternal(i) {
		return nil
	}
	addrs := i.Addresses()
	if len(addrs) == 0 {
		return nil
	}
	x.emit(ref{relUplink, i.RouterPath(), ""}, path)
	out := &table.Uplink{
		ID:         x.portID(path),
		Path:       path,
		Name:       i.Name(),
		VRF:        x.vrfID(i.RouterPath()),
		Address:    addrs[0],
		Attachment: path,
		MTU:        uint16(i.MTU),
	}
	out.In, out.Out = x.gates(path)
	return out
}

// isExternal reports whether the interface leads out; NSX's default type.
func isExternal(i *intent.Tier0Interface) bool { return i.Type == "" || i.Type == "EXTERNAL" }
