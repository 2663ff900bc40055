package ebpf

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// The sizes of the latency test: each of the groups holds all ports but those
// of a sixth, so 10 000.
const (
	latencyPorts  = 12000
	latencyGroups = 6
	latencyRules  = 1000
)

// crowd is an intent of large groups that many rules name.
type crowd struct {
	tree     *intent.Tree
	compiler *compile.Compiler
	set      *table.Set                        // compiled last
	in       [latencyPorts][latencyGroups]bool // which groups hold a port
}

// newCrowd has rules between the groups in a direction: with IN, a group is
// what rules look for at the far side; with IN_OUT also what rules apply to a
// member.
func newCrowd(t testing.TB, direction string) *crowd {
	c := &crowd{tree: intent.NewTree(), compiler: compile.New()}
	all := []intent.Change{intent.Put("/infra/tier-1s/t", &intent.Tier1{})}
	for s := range (latencyPorts + 249) / 250 {
		all = append(all, intent.Put(fmt.Sprintf("/infra/segments/s%d", s), &intent.Segment{
			ConnectivityPath: "/infra/tier-1s/t", Subnets: []intent.SegmentSubnet{{GatewayAddress: fmt.Sprintf("10.0.%d.1/24", s)}},
		}))
	}
	for i := range latencyPorts {
		for g := range latencyGroups {
			c.in[i][g] = i/(latencyPorts/latencyGroups) != g
		}
		all = append(all, c.port(i))
	}
	group := func(g int) string { return fmt.Sprintf("/infra/domains/default/groups/g%d", g%latencyGroups) }
	for g := range latencyGroups {
		all = append(all, intent.Put(group(g), &intent.Group{Expression: []intent.Expression{
			&intent.Condition{MemberType: "SegmentPort", Key: "Tag", Operator: "EQUALS", Value: fmt.Sprintf("in|g%d", g)},
		}}))
	}
	policy := "/infra/domains/default/security-policies/p"
	all = append(all, intent.Put(policy, &intent.SecurityPolicy{Category: "Application"}))
	for r := range latencyRules {
		service := fmt.Sprintf("/infra/services/s%d", r)
		to := group(r + 1 + r/latencyGroups%(latencyGroups-1))
		if direction == "IN" {
			to = fmt.Sprintf("10.0.0.%d", 2+r%250)
		}
		all = append(all,
			intent.Put(service, &intent.Service{}),
			intent.Put(service+"/service-entries/e", &intent.L4PortSetServiceEntry{L4Protocol: "TCP", DestinationPorts: []string{fmt.Sprint(1000 + r)}}),
			intent.Put(fmt.Sprintf("%s/rules/r%d", policy, r), &intent.Rule{
				Action: "ALLOW", SequenceNumber: r, Services: []string{service}, Direction: direction,
				SourceGroups: []string{group(r)}, DestinationGroups: []string{to},
			}))
	}
	c.apply(t, all...)
	return c
}

func (c *crowd) apply(t testing.TB, changes ...intent.Change) []string {
	t.Helper()
	paths, problems := c.tree.Apply(changes)
	if intent.HasErrors(problems) {
		t.Fatal(problems)
	}
	return paths
}

func (c *crowd) port(i int) intent.Change {
	p := &intent.SegmentPort{AddressBindings: []intent.AddressBinding{{
		IPAddress: fmt.Sprintf("10.0.%d.%d", i/250, 2+i%250), MACAddress: fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255),
	}}}
	for g, in := range c.in[i] {
		if in {
			p.Tags = append(p.Tags, intent.Tag{Scope: "in", Tag: fmt.Sprintf("g%d", g)})
		}
	}
	return intent.Put(fmt.Sprintf("/infra/segments/s%d/ports/p%d", i/250, i), p)
}

// percentile returns the p-th of a hundred parts of durations, which it sorts.
func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, len(d)*p/100)]
}

// flip puts a port into a group or takes it out, and compiles.
func (c *crowd) flip(t testing.TB, port, group int) (compiling time.Duration) {
	c.in[port][group] = !c.in[port][group]
	changed := c.apply(t, c.port(port))
	begun := time.Now()
	sets, _ := c.compiler.Update(c.tree, changed)
	c.set = sets["host1"]
	return time.Since(begun)
}

// What it takes until a member of a group of 10 000 that comes or goes is in
// force: compiled, and in the kernel. 1 000 rules name six such groups.
func BenchmarkGroupMember(b *testing.B) {
	for _, direction := range []string{"IN", "IN_OUT"} {
		b.Run(direction, func(b *testing.B) {
			bed := newHost(b)
			c, d := newCrowd(b, direction), bed.open()
			sets, _ := c.compiler.Update(c.tree, nil)
			bed.apply(d, sets["host1"])
			r := rand.New(rand.NewPCG(1, 1))
			var compiling, applying, total []time.Duration
			for b.Loop() {
				took := c.flip(b, r.IntN(latencyPorts), r.IntN(latencyGroups))
				d.finish() // the change comes when the one before is over
				begun := time.Now()
				bed.apply(d, c.set)
				compiling, applying = append(compiling, took), append(applying, time.Since(begun))
				total = append(total, took+time.Since(begun))
			}
			for name, d := range map[string][]time.Duration{"compile": compiling, "apply": applying, "total": total} {
				b.ReportMetric(float64(percentile(d, 50).Microseconds())/1000, name+"-p50-ms")
				b.ReportMetric(float64(percentile(d, 99).Microseconds())/1000, name+"-p99-ms")
			}
		})
	}
}
