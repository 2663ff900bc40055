package metrics

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// Type is what a value does as time goes by.
type Type string

// The types. A counter may begin anew at 0 when what it counts is removed from
// the tables, or when the data plane is loaded anew.
const (
	Counter Type = "counter"
	Gauge   Type = "gauge"
)

// Family is all metrics of one name.
type Family struct {
	Name   string
	Type   Type
	Labels []string
	Help   string
	// rows gives the values of a Sample, each with its labels. Values of the
	// same labels are added up.
	rows func(*view, func(value float64, labels ...string))
}

// MaxRows bounds the label values of one Family: what is beyond, in the order
// of labels, is added up in a row whose labels are all Other.
const (
	MaxRows = 2000
	Other   = "other"
)

// Families is the one list of metrics, as docs/metrics.md has it.
var Families = []Family{
	{"weft_generation", Gauge, nil, "Number of the tables that packets meet; it grows with every change.", func(v *view, row func(float64, ...string)) {
		row(float64(v.Status.Generation))
	}},
	{"weft_drops_total", Counter, []string{"reason"}, "Packets dropped, by reason (docs/pipeline.md, section 12).", func(v *view, row func(float64, ...string)) {
		for reason, n := range v.Status.Drops {
			row(float64(n), reason)
		}
	}},
	{"weft_port_drops_total", Counter, []string{"port", "reason"}, "Packets dropped, by the policy path of the port or uplink that they came in by. Empty: a device without a port.", func(v *view, row func(float64, ...string)) {
		for _, d := range v.PortDrops {
			_, path := v.names.Port(d.Port)
			row(float64(d.Packets), path, d.Reason.String())
		}
	}},
	{"weft_rule_hits_total", Counter, ruleLabels, "Connections that a firewall rule let pass, and packets that it dropped.", rules(hits)},
	{"weft_rule_packets_total", Counter, ruleLabels, "Packets of the connections that a firewall rule let pass, both directions.", rules(packets)},
	{"weft_rule_bytes_total", Counter, ruleLabels, "Bytes of these packets, from the IP header on.", rules(bytes)},
	{"weft_nat_rule_hits_total", Counter, natLabels, "Connections that a NAT rule translated or exempted.", nats(hits)},
	{"weft_nat_rule_packets_total", Counter, natLabels, "Packets of these connections, both directions.", nats(packets)},
	{"weft_nat_rule_bytes_total", Counter, natLabels, "Bytes of these packets, from the IP header on.", nats(bytes)},
	{"weft_virtual_server_hits_total", Counter, serverLabels, "Connections that a virtual server took, and packets that it refused.", servers(hits)},
	{"weft_virtual_server_packets_total", Counter, serverLabels, "Packets of these connections, both directions.", servers(packets)},
	{"weft_virtual_server_bytes_total", Counter, serverLabels, "Bytes of these packets, from the IP header on.", servers(bytes)},
	{"weft_virtual_server_open_connections", Gauge, serverLabels, "Connections that a virtual server took and that are not closing.", func(v *view, row func(float64, ...string)) {
		for _, s := range v.servers() {
			row(float64(v.Loads.Servers[s.ID]), s.Path)
		}
	}},
	{"weft_pool_member_up", Gauge, memberLabels, "Whether monitors let a member take connections: 1 or 0.", members(func(v *view, id table.MemberID) float64 {
		if v.Set.Up(id) {
			return 1
		}
		return 0
	})},
	{"weft_pool_member_open_connections", Gauge, memberLabels, "Connections to a member that are not closing.", members(func(v *view, id table.MemberID) float64 {
		return float64(v.Loads.Members[id].Open)
	})},
	{"weft_pool_member_failed_connections", Gauge, memberLabels, "Connections to a member that failed in a row, up to now.", members(func(v *view, id table.MemberID) float64 {
		return float64(v.Loads.Members[id].Fails)
	})},
	{"weft_connections", Gauge, []string{"protocol", "state"}, "Connections in the flow table whose time-out has not passed.", func(v *view, row func(float64, ...string)) {
		for k, n := range v.Connections {
			row(float64(n), k.Proto.String(), k.State.String())
		}
	}},
	{"weft_map_entries", Gauge, []string{"map"}, "Entries of a kernel map.", maps(func(m dataplane.MapUse) float64 { return float64(m.Entries) })},
	{"weft_map_max_entries", Gauge, []string{"map"}, "Entries that a kernel map can hold.", maps(func(m dataplane.MapUse) float64 { return float64(m.Max) })},
	{"weft_map_evicted_total", Counter, []string{"map"}, "Entries that gave way to newer ones.", maps(func(m dataplane.MapUse) float64 { return float64(m.Evicted) })},
	{"weft_events_total", Counter, []string{"event"}, "What happened in the data plane: flow entries entered and removed, answers sent, fragments held, source ports that were taken, trace records and log lines lost.", func(v *view, row func(float64, ...string)) {
		for event, n := range v.Status.Counters {
			row(float64(n), event)
		}
	}},
	{"weft_condition", Gauge, []string{"type", "object"}, "1 for each condition of the node that holds.", func(v *view, row func(float64, ...string)) {
		for _, c := range v.Conditions {
			row(1, c.Type, c.Object)
		}
	}},
}

// Labels that families share. Paths are policy paths; empty if the tables do
// not have the object any more.
var (
	ruleLabels   = []string{"rule_id", "path", "policy"}
	natLabels    = []string{"rule_id", "path"}
	serverLabels = []string{"path"}
	memberLabels = []string{"pool", "address"}
)

// view is a Sample with the names of what it has.
type view struct {
	*Sample
	names *dataplane.Names
}

func viewOf(s *Sample) *view {
	copied := *s
	if copied.Set == nil {
		copied.Set = table.NewSet("")
	}
	return &view{&copied, dataplane.NamesOf(copied.Set)}
}

func hits(t pipeline.Tally) uint64    { return t.Hits }
func packets(t pipeline.Tally) uint64 { return t.Packets }
func bytes(t pipeline.Tally) uint64   { return t.Bytes }

// tallied gives a number of each tally of a kind, with the labels of its name.
func tallied(kind pipeline.TallyKind, number func(pipeline.Tally) uint64, labels func(dataplane.RuleName) []string) func(*view, func(float64, ...string)) {
	return func(v *view, row func(float64, ...string)) {
		for k, t := range v.Tallies {
			if k.Kind == kind {
				row(float64(number(t)), labels(v.names.Tallied(k))...)
			}
		}
	}
}

func rules(number func(pipeline.Tally) uint64) func(*view, func(float64, ...string)) {
	return tallied(pipeline.TallyRule, number, func(r dataplane.RuleName) []string { return []string{id(r), r.Path, r.Policy} })
}

func nats(number func(pipeline.Tally) uint64) func(*view, func(float64, ...string)) {
	return tallied(pipeline.TallyNAT, number, func(r dataplane.RuleName) []string { return []string{id(r), r.Path} })
}

func servers(number func(pipeline.Tally) uint64) func(*view, func(float64, ...string)) {
	return tallied(pipeline.TallyServer, number, func(r dataplane.RuleName) []string { return []string{r.Path} })
}

func id(r dataplane.RuleName) string { return strconv.FormatUint(uint64(r.ID), 10) }

// servers returns all virtual servers, each once.
func (v *view) servers() (out []*table.VirtualServer) {
	for _, vip := range v.Set.VIPs.All() {
		out = append(out, vip.Servers...)
	}
	slices.SortFunc(out, func(a, b *table.VirtualServer) int { return cmp.Compare(a.ID, b.ID) })
	return slices.CompactFunc(out, func(a, b *table.VirtualServer) bool { return a.ID == b.ID })
}

func members(number func(*view, table.MemberID) float64) func(*view, func(float64, ...string)) {
	return func(v *view, row func(float64, ...string)) {
		for _, p := range v.Set.Pools.All() {
			for i := range p.Members {
				m := dataplane.MemberName{Pool: p, Member: p.Members[i]}
				row(number(v, m.ID), p.Path, m.Address())
			}
		}
	}
}

func maps(number func(dataplane.MapUse) float64) func(*view, func(float64, ...string)) {
	return func(v *view, row func(float64, ...string)) {
		for _, m := range v.Status.Maps {
			row(number(m), m.Name)
		}
	}
}

// row is one value of a Family.
type row struct {
	labels []string
	value  float64
}

// values returns the rows of f in order of their labels, at most MaxRows and
// one for the others.
func (f *Family) values(v *view) []row {
	sums := map[string]*row{}
	f.rows(v, func(value float64, labels ...string) {
		for i, l := range labels {
			labels[i] = strings.ToValidUTF8(l, "�") // Prometheus takes nothing else
		}
		key := fmt.Sprintf("%q", labels)
		if sums[key] == nil {
			sums[key] = &row{labels: labels}
		}
		sums[key].value += value
	})
	out := make([]row, 0, len(sums))
	for _, r := range sums {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b row) int { return slices.Compare(a.labels, b.labels) })
	if len(out) <= MaxRows {
		return out
	}
	rest := row{labels: slices.Repeat([]string{Other}, len(f.Labels))}
	for _, r := range out[MaxRows:] {
		rest.value += r.value
	}
	return append(out[:MaxRows], rest)
}
