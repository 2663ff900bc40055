package explain

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/columns"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// ObjectKinds returns the kinds that intent stands behind.
func ObjectKinds() []string {
	return []string{Pod, Service, Namespace, NetworkPolicy, Supervisor, AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy}
}

// Object returns the object that r names.
func Object(ctx context.Context, c client.Reader, r Ref) (client.Object, error) {
	var o client.Object
	switch r.Kind {
	case Pod:
		o = &corev1.Pod{}
	case Service:
		o = &corev1.Service{}
	case Namespace:
		o = &corev1.Namespace{}
	case NetworkPolicy:
		o = &netv1.NetworkPolicy{}
	case Supervisor:
		o = &v1alpha1.Supervisor{}
	case AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy:
		return bare(ctx, c, r)
	default:
		return nil, fmt.Errorf("%s: nothing stands behind it of its own", r)
	}
	return o, get(ctx, c, r, o)
}

// bare returns the metadata of an object, in the first version that the cluster
// has.
func bare(ctx context.Context, c client.Reader, r Ref) (o client.Object, err error) {
	for _, v := range Versions(r.Kind) {
		m := &metav1.PartialObjectMetadata{}
		m.SetGroupVersionKind(v.WithKind(r.Kind))
		if err = get(ctx, c, r, m); err == nil || !meta.IsNoMatchError(err) {
			return m, err
		}
	}
	return nil, fmt.Errorf("%s: the cluster has no such kind (its CRD is that of kubernetes-sigs/network-policy-api)", r)
}

// ownerOf returns who has what stands behind o.
func ownerOf(r Ref, o client.Object) store.Owner {
	if r.Kind == Supervisor {
		return writer.SupervisorOwner(o.GetName())
	}
	return writer.Owner(r.Kind, o)
}

// Intent is where intent is: weftd, by its client.
type Intent interface {
	// Tree returns the objects that query leaves: those of owner.
	Tree(ctx context.Context, query url.Values) ([]intent.Object, error)
	// Object returns the object at path; nil: there is none.
	Object(ctx context.Context, path string) (intent.Object, error)
}

// Behind is the intent that stands behind an object.
type Behind struct {
	Ref   Ref
	Owner store.Owner
	Own   []intent.Object // what the owner has, by path

	all map[string]intent.Object // Own, and what that names; nil: it does not exist
}

// FindBehind returns what stands behind o, which r names, with the objects of
// others that it names.
func FindBehind(ctx context.Context, weftd Intent, r Ref, o client.Object) (*Behind, error) {
	b := &Behind{Ref: r, Owner: ownerOf(r, o), all: map[string]intent.Object{}}
	var err error
	if b.Own, err = weftd.Tree(ctx, url.Values{"owner": {string(b.Owner)}}); err != nil {
		return nil, err
	}
	b.Own = slices.DeleteFunc(b.Own, func(o intent.Object) bool { return store.OwnerOf(o) != b.Owner }) // parents came with them
	for _, o := range b.Own {
		b.all[o.Meta().Path] = o
	}
	for again := true; again; { // what is named names others
		again = false
		for _, path := range b.named() {
			if _, known := b.all[path]; known || !strings.HasPrefix(path, "/infra/") {
				continue
			}
			if b.all[path], err = weftd.Object(ctx, path); err != nil {
				return nil, err
			}
			again = true
		}
	}
	return b, nil
}

// named returns the paths that Print follows, so far as the objects are known.
func (b *Behind) named() []string {
	var out []string
	switch b.Ref.Kind {
	case Pod:
		for _, p := range of[*intent.SegmentPort](b.Own) {
			out = append(out, p.SegmentPath())
			if s, ok := b.all[p.SegmentPath()].(*intent.Segment); ok {
				out = append(out, s.ConnectivityPath)
			}
		}
	case Service:
		for _, v := range of[*intent.LBVirtualServer](b.Own) {
			out = append(out, v.LBServicePath)
			if v.AccessListControl != nil {
				out = append(out, v.AccessListControl.GroupPath)
			}
		}
	case Namespace:
		for _, s := range of[*intent.Segment](b.Own) {
			out = append(out, egressPath(s.ConnectivityPath))
		}
	}
	for _, p := range of[*intent.SecurityPolicy](b.Own) {
		out = append(out, p.Scope...)
	}
	for _, r := range of[*intent.Rule](b.Own) {
		out = slices.Concat(out, r.SourceGroups, r.DestinationGroups, r.Services)
	}
	return out
}

// Print prints it for people: facts, then tables.
func (b *Behind) Print(w io.Writer) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s, owner %s\n", b.Ref, b.Owner)
	if len(b.Own) == 0 {
		out.WriteString("nothing stands behind it: it asks for nothing, or its conditions and events say why it does not have it\n")
	}
	switch b.Ref.Kind {
	case Pod:
		b.pod(&out)
	case Service:
		b.service(&out)
	case Namespace:
		b.namespace(&out)
	case NetworkPolicy, AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy:
		b.firewall(&out)
	case Supervisor:
		var rows []objectRow
		for _, o := range b.Own {
			rows = append(rows, objectRow{o})
		}
		table(&out, rows)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// of returns the objects of a type that list has.
func of[T intent.Object](list []intent.Object) []T {
	var out []T
	for _, o := range list {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// table prints rows, if there are any, behind an empty line.
func table[R columns.Row](out *strings.Builder, rows []R) {
	if len(rows) > 0 {
		out.WriteByte('\n')
		_ = columns.Print(out, rows) // a Builder takes everything
	}
}

// facts prints names and what they are, without those that are nothing.
func facts(out *strings.Builder, pairs ...[2]string) {
	for _, p := range pairs {
		if p[1] != "" {
			fmt.Fprintf(out, "%-14s %s\n", p[0]+":", p[1])
		}
	}
}

// name returns the display name of what is at a path, else the path.
func (b *Behind) name(path string) string {
	if o := b.all[path]; o != nil {
		return o.Meta().Name()
	}
	return path
}

func (b *Behind) pod(out *strings.Builder) {
	for _, p := range of[*intent.SegmentPort](b.Own) {
		pairs := [][2]string{{"port", p.Path}}
		for _, a := range p.AddressBindings {
			pairs = append(pairs, [2]string{"address", a.IPAddress}, [2]string{"MAC", a.MACAddress})
		}
		if s, ok := b.all[p.SegmentPath()].(*intent.Segment); ok {
			row := segmentRow{s}.Row()
			pairs = append(pairs, [2]string{"segment", fmt.Sprintf("%s (%s, gateway %s), %s", s.Name(), row[1], row[2], s.Path)})
			if s.ConnectivityPath != "" {
				pairs = append(pairs, [2]string{"gateway", b.name(s.ConnectivityPath) + ", " + s.ConnectivityPath})
			}
		}
		out.WriteByte('\n')
		facts(out, pairs...)
		table(out, tagRows(p.Tags))
	}
}

func (b *Behind) service(out *strings.Builder) {
	var servers []serverRow
	var members []memberRow
	for _, v := range of[*intent.LBVirtualServer](b.Own) {
		servers = append(servers, serverRow{v, b.name(v.LBServicePath), b.clients(v)})
	}
	for _, p := range of[*intent.LBPool](b.Own) {
		for _, m := range p.Members {
			members = append(members, memberRow{p, m})
		}
		if len(p.Members) == 0 {
			members = append(members, memberRow{pool: p})
		}
	}
	table(out, servers)
	table(out, members)
}

// clients says who may connect to a virtual server.
func (b *Behind) clients(v *intent.LBVirtualServer) string {
	if v.AccessListControl == nil {
		return "any"
	}
	if g, ok := b.all[v.AccessListControl.GroupPath].(*intent.Group); ok {
		return expressionText(g.Expression)
	}
	return v.AccessListControl.GroupPath
}

func (b *Behind) namespace(out *strings.Builder) {
	segments := of[*intent.Segment](b.Own)
	gateways := of[*intent.Tier1](b.Own)
	out.WriteByte('\n')
	for _, g := range gateways {
		facts(out, [2]string{"gateway", g.Path}, [2]string{"under", g.Tier0Path})
	}
	if len(gateways) == 0 && len(segments) > 0 {
		path := segments[0].ConnectivityPath
		facts(out, [2]string{"gateway", path + ", shared by the system's namespaces"}, [2]string{"egress", b.egress(path)})
	}
	for _, g := range gateways {
		facts(out, [2]string{"egress", b.egress(g.Path)})
	}
	for _, s := range of[*intent.LBService](b.Own) {
		facts(out, [2]string{"load balancer", s.Path + ", " + s.Size})
	}
	isolated := "no"
	if len(of[*intent.SecurityPolicy](b.Own)) > 0 {
		isolated = "yes: what comes from other namespaces is dropped unless a NetworkPolicy allows it"
	}
	if len(segments) > 0 {
		facts(out, [2]string{"isolated", isolated})
	}
	rows := make([]segmentRow, len(segments))
	for i, s := range segments {
		rows[i] = segmentRow{s}
	}
	table(out, rows)
	var rules []natRow
	for _, r := range of[*intent.PolicyNatRule](b.Own) {
		rules = append(rules, natRow{r})
	}
	slices.SortStableFunc(rules, func(x, y natRow) int { return x.r.SequenceNumber - y.r.SequenceNumber })
	table(out, rules)
	b.firewall(out)
}

// egress returns the source address that a gateway gives towards the outside.
func (b *Behind) egress(tier1 string) string {
	if r, ok := b.all[egressPath(tier1)].(*intent.PolicyNatRule); ok {
		return r.TranslatedNetwork
	}
	return "none: the namespace is routed"
}

func egressPath(tier1 string) string { return ncp.NATRulePath(tier1, ncp.NATEgress) }

// firewall prints policies, their rules in the order in which packets meet them,
// and groups.
func (b *Behind) firewall(out *strings.Builder) {
	policies := of[*intent.SecurityPolicy](b.Own)
	slices.SortStableFunc(policies, func(x, y *intent.SecurityPolicy) int { return x.SequenceNumber - y.SequenceNumber })
	var rows []policyRow
	var rules []ruleRow
	for _, p := range policies {
		rows = append(rows, policyRow{p, b.names(p.Scope)})
		below := slices.DeleteFunc(of[*intent.Rule](b.Own), func(r *intent.Rule) bool { return !strings.HasPrefix(r.Path, p.Path+"/") })
		slices.SortStableFunc(below, func(x, y *intent.Rule) int { return x.SequenceNumber - y.SequenceNumber })
		for _, r := range below {
			from := b.names(r.SourceGroups)
			if r.ViaVirtualServer {
				from = "virtual servers"
			}
			rules = append(rules, ruleRow{p.Name(), r, from, b.names(r.DestinationGroups), b.services(r)})
		}
	}
	var groups []groupRow
	for _, g := range of[*intent.Group](b.Own) {
		groups = append(groups, groupRow{g})
	}
	table(out, rows)
	table(out, rules)
	table(out, groups)
}

// names returns the display names of what is at paths; none are any.
func (b *Behind) names(paths []string) string {
	var out []string
	for _, p := range paths {
		out = append(out, b.name(p))
	}
	if len(out) == 0 || len(out) == 1 && out[0] == "ANY" {
		return "any"
	}
	return strings.Join(out, ", ")
}

// services says which services a rule is about.
func (b *Behind) services(r *intent.Rule) string {
	out := make([]string, 0, len(r.Services)+len(r.ServiceEntries))
	for _, e := range r.ServiceEntries {
		if l4, ok := e.(*intent.L4PortSetServiceEntry); ok {
			out = append(out, strings.ToLower(l4.L4Protocol)+"/"+strings.Join(l4.DestinationPorts, ","))
			continue
		}
		out = append(out, e.Meta().Name())
	}
	if len(r.Services) > 0 && b.names(r.Services) != "any" {
		out = append(out, b.names(r.Services))
	}
	if len(out) == 0 {
		return "any"
	}
	return strings.Join(out, ", ")
}
