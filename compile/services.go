package compile

import (
	"cmp"
	"slices"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// buildService reads a service by the Tree's own function; what that depends
// on is noted here.
func (x *run) buildService(path string) any {
	x.note(ref{srcChildren, path, ""})
	for _, o := range x.c.tree.Children(path, "") {
		x.note(ref{srcObject, o.Meta().Path, ""})
		if n, ok := o.(*intent.NestedServiceServiceEntry); ok {
			x.value(ref{factService, n.NestedServicePath, ""})
		}
	}
	return tableServices(x.c.tree.ServiceMatches(path))
}

// services returns what a service matches, sorted, each once.
func (x *run) services(path string) []table.Service {
	return built[[]table.Service](x, ref{factService, path, ""})
}

// ruleServices returns what a rule matches; empty: any. Rules of one service
// share its list.
func (x *run) ruleServices(r *intent.Rule) []table.Service {
	var lists [][]table.Service
	for _, path := range r.Services {
		if path != "ANY" {
			lists = append(lists, x.services(path))
		}
	}
	for _, e := range r.ServiceEntries {
		if n, ok := e.(*intent.NestedServiceServiceEntry); ok {
			x.value(ref{factService, n.NestedServicePath, ""})
		}
	}
	switch {
	case len(r.ServiceEntries) > 0:
		return tableServices(x.c.tree.RuleServices(r))
	case len(lists) == 1:
		return lists[0]
	}
	return orderedServices(slices.Concat(lists...))
}

func tableServices(matches []intent.ServiceMatch) []table.Service {
	var out []table.Service
	for _, m := range matches {
		out = append(out, table.Service(m))
	}
	return orderedServices(out)
}

// orderedServices sorts a list, each once.
func orderedServices(out []table.Service) []table.Service {
	slices.SortFunc(out, func(a, b table.Service) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	return slices.Compact(out)
}
