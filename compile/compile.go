package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// Compiler keeps what it compiled to make the next Update cheap. It is not
// safe for concurrent use.
type Compiler struct {
	tree     *intent.Tree
	g        graph
	pools    map[string]*pool
	overlap  *overlap
	transits map[string]uint64 // pool of links → their number
	sets     map[string]*table.Set
	changes  []change          // since the last Update, each fact once
	objects  map[string]string // path → resource type of all that was compiled
}

// New returns a Compiler that has compiled nothing.
func New() *Compiler {
	c := &Compiler{
		pools:    map[string]*pool{},
		transits: map[string]uint64{},
		sets:     map[string]*table.Set{},
		objects:  map[string]string{},
	}
	for _, node := range nodes() {
		c.sets[node] = table.NewSet(node)
	}
	c.overlap = newOverlap(func(domain string) { c.g.markRef(ref{srcOverlap, domain, ""}) })
	c.g = graph{
		wrong:   map[*fact][]intent.Problem{},
		joined:  c.joined,
		changed: c.changed,
		build: func(x *run) any {
			x.c = c
			return x.build()
		},
	}
	return c
}

// nodes returns the nodes that objects are placed on.
func nodes() []string { return []string{"host1"} }

// places returns the nodes whose Sets hold a fact. Every object is on every
// node as long as there is one only.
func places(*fact) []string { return nodes() }

// Update compiles the tree and returns one Set per node and all problems that
// the tree has for the compiler, the old ones too, ordered by path.
//
// changed is what Tree.Apply returned, or the union of what several calls of it
// returned since the last Update; nil compiles everything. All Sets are
// immutable; objects in them that are as before are shared with the Sets of
// the Update before. Every problem is a warning: a tree that passed validation
// always compiles.
//
// The result depends on the tree alone. Cost O(what the change touches): see
// table.Map for what the Sets share.
func (c *Compiler) Update(tree *intent.Tree, changed []string) (map[string]*table.Set, []intent.Problem) {
	c.tree = tree
	if changed == nil {
		changed = c.everything()
	}
	// Ports come first: a group chooses the atom by which it is found by how
	// many ports have it.
	ports, others := c.split(changed)
	c.take(ports)
	c.take(others)
	c.publish()
	return maps.Clone(c.sets), c.problems()
}

// take compiles what objects at paths are now.
func (c *Compiler) take(paths []string) {
	for _, path := range paths {
		c.g.markRef(ref{srcObject, path, ""})
		c.g.markRef(ref{srcChildren, intent.ParentOf(path), ""})
		c.rootsOf(path)
	}
	c.g.settle()
}

// split returns the paths of ports and segments, and the others; all as one if
// there is no group among them.
func (c *Compiler) split(paths []string) (ports, others []string) {
	groups := false
	for _, path := range paths {
		switch o := c.tree.Get(path).(type) {
		case *intent.SegmentPort, *intent.Segment:
			ports = append(ports, path)
			continue
		case *intent.Group:
			groups = groups || o != nil
		}
		others = append(others, path)
	}
	if !groups {
		return nil, paths
	}
	return ports, others
}

// everything returns the paths of all objects that are or were.
func (c *Compiler) everything() []string {
	out := slices.Collect(maps.Keys(c.objects))
	for _, o := range c.tree.All() {
		out = append(out, o.Meta().Path)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// rootsOf wants the facts that the object at path shall become, and no longer
// those that it was.
func (c *Compiler) rootsOf(path string) {
	had, has := c.objects[path], ""
	if o := c.tree.Get(path); o != nil {
		has = o.Meta().ResourceType
	}
	if had == has {
		return
	}
	for _, r := range roots(had, path) {
		c.g.unpin(r)
	}
	for _, r := range roots(has, path) {
		c.g.pin(r)
	}
	c.objects[path] = has
	if has == "" {
		delete(c.objects, path)
	}
}

// roots returns the facts that an object of a resource type is wanted for.
func roots(resourceType, path string) []ref {
	var all []kind
	switch resourceType {
	case "Tier0":
		all = []kind{factVRF}
	case "Tier1":
		all = []kind{factVRF, factRouterRoutes}
	case "Node":
		all = []kind{factVRF, factRouterRoutes, factNATDepth}
	case "Tier0Interface":
		all = []kind{factUplink, factUplinkRoutes}
	case "Segment":
		all = []kind{factSubnets, factSegment, factSegmentRoutes}
	case "SegmentPort":
		all = []kind{factPort, factRows}
	case "StaticRoutes":
		all = []kind{factStaticRoute}
	case "PolicyNatRule":
		all = []kind{factNATRule}
	case "Group":
		all = []kind{factTerms}
	case "PolicyExcludeList":
		all = []kind{factExclude}
	case "Rule":
		all = []kind{factSides}
		if isGatewayRule(path) {
			all = []kind{factGateRule}
		}
	case "LBService":
		all = []kind{factLBService}
	case "LBVirtualServer":
		all = []kind{factVirtualServer}
	case "LBPool":
		all = []kind{factPool}
	case "PolicyFirewallSessionTimerProfile":
		all = []kind{factTimers}
	}
	var out []ref
	for _, k := range all {
		out = append(out, ref{k, path, ""})
	}
	return out
}

// build makes the value of a fact; an untyped nil if there is nothing to make.
func (x *run) build() any {
	name, arg := x.f.name, x.f.arg
	switch x.f.kind {
	case factService:
		return x.buildService(name)
	case factWritten:
		return x.buildWritten(name)
	case factTransit:
		return x.buildTransit(name)
	case factSubnets:
		return x.buildSubnets(name)
	case factRealm:
		return x.buildRealm(name)
	case factVRF:
		return x.buildVRF(name)
	case factSegment:
		return x.buildSegment(name)
	case factPort:
		return x.buildPort(name)
	case factUplink:
		return x.buildUplink(name)
	case factLink:
		return x.buildLink(name)
	case factSegmentRoutes:
		return x.buildSegmentRoutes(name)
	case factRouterRoutes:
		return x.buildRouterRoutes(name)
	case factUplinkRoutes:
		return x.buildUplinkRoutes(name)
	case factStaticRoute:
		return x.buildStaticRoute(name)
	case factNATRule:
		return x.buildNATRule(name)
	case factHop:
		return x.buildHop(name, arg)
	case factRoute:
		return x.buildRoute(name, arg)
	case factNATList:
		return x.buildNATList(name, arg)
	case factNATDepth:
		return x.buildNATDepth(name)
	case factTerms:
		return x.buildTerms(name)
	case factGroups:
		return x.buildGroups(name)
	case factRows:
		return x.buildRows(name)
	case factAddrSet:
		return x.buildAddrSet(name)
	case factLiteral:
		return x.buildLiteral(name)
	case factSet:
		return x.buildSet(name)
	case factSides:
		return x.buildSides(name)
	case factGateRule:
		return x.buildGateRule(name)
	case factVirtualServer:
		return x.buildVirtualServer(name)
	case factLBService:
		return x.buildLBService(name)
	case factMonitorNet:
		return x.buildMonitorNet(name)
	case factVIP:
		return x.buildVIP(name, arg)
	case factMonitor:
		return x.buildMonitor(name)
	case factPool:
		return x.buildPool(name)
	case factTimers:
		return x.buildTimers(name)
	case factExclude:
		return x.buildExclude(name)
	case factOwn:
		return x.buildOwn(name)
	case factLengths:
		return x.buildLengths()
	case factProfileKey:
		return x.buildProfileKey(name, arg)
	case factProfile:
		return x.buildProfile(name)
	case factRuleset:
		return x.buildRuleset(name)
	case factEndpoint:
		return x.buildEndpoint(name, arg)
	}
	panic("compile: kind without a builder")
}

// joined follows a change of a relation's members.
func (c *Compiler) joined(rel *fact, member any, added bool) {
	if root, ok := rel.ref().root(); ok {
		if rel.members.size() > 0 {
			c.g.pin(root)
		} else {
			c.g.unpin(root)
		}
	}
	switch {
	case rel.kind == relNeed:
		c.allocate(rel)
	case rel.kind == relSubnet && added:
		c.overlap.add(rel.name, member.(netip.Prefix))
	case rel.kind == relSubnet:
		c.overlap.remove(rel.name, member.(netip.Prefix))
	}
}

// problems returns what all facts complain about.
func (c *Compiler) problems() []intent.Problem {
	var out []intent.Problem
	for _, problems := range c.g.wrong {
		out = append(out, problems...)
	}
	slices.SortFunc(out, func(a, b intent.Problem) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Field, b.Field), strings.Compare(a.Msg, b.Msg))
	})
	return slices.Compact(out)
}
