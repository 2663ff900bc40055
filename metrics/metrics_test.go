package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// TestPageHasEveryFamily compares docs/metrics.md with Families.
func TestPageHasEveryFamily(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `weft_") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	for _, f := range Families {
		labels := " " + strings.Join(f.Labels, ", ")
		want = append(want, fmt.Sprintf("| `%s` | %s |%s | %s |", f.Name, f.Type, strings.TrimRight(labels, " "), f.Help))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("docs/metrics.md (-code +page):\n%s", d)
	}
}

// sampled is a node with one of everything.
func sampled() *Sample {
	set := table.NewSet("host1")
	set.Ports.Put(7, &table.Port{ID: 7, Path: "/infra/segments/red/ports/web", Name: "red/web"})
	set.Rulesets.Put(1, &table.Ruleset{ID: 1, Rules: []*table.Rule{{ID: 1001, Path: "/infra/p/rules/web", Policy: "/infra/p", Name: "web"}}})
	set.NAT.Put(table.NATKey{VRF: 1, Dir: table.NATOut}, &table.NATList{Rules: []table.NATRule{{ID: 2001, Path: "/infra/t1/nat/out"}}})
	server := &table.VirtualServer{ID: 5, Path: "/infra/lb-virtual-servers/v", Pool: 6}
	for _, a := range []string{"192.0.2.1", "192.0.2.2"} { // one server, two addresses
		k := table.VIPKey{VRF: 1, Addr: netip.MustParseAddr(a)}
		set.VIPs.Put(k, &table.VIP{Key: k, Servers: []*table.VirtualServer{server}})
	}
	set.Pools.Put(6, &table.Pool{ID: 6, Path: "/infra/lb-pools/p", Members: []table.Member{
		{ID: 61, Addr: netip.MustParseAddr("10.0.0.1"), Port: 80}, {ID: 62, Addr: netip.MustParseAddr("10.0.0.2")},
	}})
	return &Sample{
		Set: set.WithHealth(map[table.MemberID]table.Health{62: {Down: true}}),
		Status: dataplane.Status{
			Generation: 9, Drops: map[string]uint64{"dfw_rule": 3}, Counters: map[string]uint64{"logs_lost": 4},
			Maps: []dataplane.MapUse{{Name: "weft_flows", Entries: 10, Max: 100, Evicted: 1}},
		},
		Tallies: map[pipeline.TallyKey]pipeline.Tally{
			{Kind: pipeline.TallyRule, ID: 1001}: {Hits: 1, Packets: 20, Bytes: 3000},
			{Kind: pipeline.TallyRule, ID: 1999}: {Hits: 2},
			{Kind: pipeline.TallyNAT, ID: 2001}:  {Hits: 4, Packets: 50, Bytes: 6000},
			{Kind: pipeline.TallyServer, ID: 5}:  {Hits: 7, Packets: 80, Bytes: 9000},
		},
		Loads: dataplane.Loads{
			Servers: map[table.VirtualServerID]uint32{5: 11}, Members: map[table.MemberID]dataplane.Load{61: {Open: 11}, 62: {Fails: 5}},
		},
		PortDrops:   []dataplane.PortDrop{{Port: 7, Reason: pipeline.ReasonDFWRule, Packets: 2}, {Reason: pipeline.ReasonNoPort, Packets: 1}},
		Connections: map[Kind]int{{packet.TCP, pipeline.ConnEstablished}: 5},
		Conditions:  []Condition{{"MemberDown", "/infra/lb-pools/p 10.0.0.2"}, {"NotRealized", "a\xffb"}},
	}
}

func scrape(t *testing.T, take func(context.Context) (*Sample, error)) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	Handler(take).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Code, w.Body.String()
}

func TestHandler(t *testing.T) {
	code, body := scrape(t, func(context.Context) (*Sample, error) { return sampled(), nil })
	if code != http.StatusOK {
		t.Fatalf("%d: %s", code, body)
	}
	for line := range strings.Lines(`weft_generation 9
weft_drops_total{reason="dfw_rule"} 3
weft_port_drops_total{port="/infra/segments/red/ports/web",reason="dfw_rule"} 2
weft_port_drops_total{port="",reason="no_port"} 1
weft_rule_hits_total{path="/infra/p/rules/web",policy="/infra/p",rule_id="1001"} 1
weft_rule_hits_total{path="",policy="",rule_id="1999"} 2
weft_rule_packets_total{path="/infra/p/rules/web",policy="/infra/p",rule_id="1001"} 20
weft_rule_bytes_total{path="/infra/p/rules/web",policy="/infra/p",rule_id="1001"} 3000
weft_nat_rule_hits_total{path="/infra/t1/nat/out",rule_id="2001"} 4
weft_nat_rule_packets_total{path="/infra/t1/nat/out",rule_id="2001"} 50
weft_nat_rule_bytes_total{path="/infra/t1/nat/out",rule_id="2001"} 6000
weft_virtual_server_hits_total{path="/infra/lb-virtual-servers/v"} 7
weft_virtual_server_packets_total{path="/infra/lb-virtual-servers/v"} 80
weft_virtual_server_bytes_total{path="/infra/lb-virtual-servers/v"} 9000
weft_virtual_server_open_connections{path="/infra/lb-virtual-servers/v"} 11
weft_pool_member_up{address="10.0.0.1:80",pool="/infra/lb-pools/p"} 1
weft_pool_member_up{address="10.0.0.2",pool="/infra/lb-pools/p"} 0
weft_pool_member_open_connections{address="10.0.0.1:80",pool="/infra/lb-pools/p"} 11
weft_pool_member_failed_connections{address="10.0.0.2",pool="/infra/lb-pools/p"} 5
weft_connections{protocol="tcp",state="established"} 5
weft_map_entries{map="weft_flows"} 10
weft_map_max_entries{map="weft_flows"} 100
weft_map_evicted_total{map="weft_flows"} 1
weft_events_total{event="logs_lost"} 4
weft_condition{object="/infra/lb-pools/p 10.0.0.2",type="MemberDown"} 1
weft_condition{object="a�b",type="NotRealized"} 1
`) {
		if !strings.Contains("\n"+body, "\n"+line) {
			t.Errorf("no %s", line)
		}
	}
	for _, f := range Families {
		if !strings.Contains(body, "# TYPE "+f.Name+" "+string(f.Type)+"\n") {
			t.Errorf("%s: is not there", f.Name)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestHandlerWithoutTables(t *testing.T) {
	code, body := scrape(t, func(context.Context) (*Sample, error) { return &Sample{}, nil })
	if code != http.StatusOK || !strings.Contains(body, "weft_generation 0\n") {
		t.Errorf("%d: %s", code, body)
	}
	code, body = scrape(t, func(context.Context) (*Sample, error) { return nil, errors.New("no data plane") })
	if code != http.StatusInternalServerError || body != "no data plane\n" {
		t.Errorf("%d: %s", code, body)
	}
}

// TestRowsAreBounded: the sum stays right.
func TestRowsAreBounded(t *testing.T) {
	s := &Sample{Tallies: map[pipeline.TallyKey]pipeline.Tally{}}
	for i := range uint32(MaxRows + 500) {
		s.Tallies[pipeline.TallyKey{Kind: pipeline.TallyRule, ID: i + 1}] = pipeline.Tally{Hits: 1}
	}
	for i := range Families {
		f := &Families[i]
		if f.Name != "weft_rule_hits_total" {
			continue
		}
		rows := f.values(viewOf(s))
		if last := rows[len(rows)-1]; len(rows) != MaxRows+1 || last.value != 500 || last.labels[0] != Other {
			t.Errorf("%d rows, the last: %+v", len(rows), last)
		}
	}
}

// taken is a Driver.
type taken struct {
	*Sample
	fail string // the method that fails
}

func (d taken) err(method string) error {
	if method == d.fail {
		return errors.New(method)
	}
	return nil
}

func (d taken) Status(context.Context) (dataplane.Status, error) {
	return d.Sample.Status, d.err("status")
}

func (d taken) Tallies(context.Context) (map[pipeline.TallyKey]pipeline.Tally, error) {
	return d.Sample.Tallies, d.err("tallies")
}

func (d taken) Loads(context.Context) (dataplane.Loads, error) {
	return d.Sample.Loads, d.err("loads")
}

func (d taken) PortDrops(context.Context) ([]dataplane.PortDrop, error) {
	return d.Sample.PortDrops, d.err("drops")
}

func (d taken) Connections(_ context.Context, yield func(*dataplane.Connection) bool) error {
	for range 5 {
		yield(&dataplane.Connection{Tuple: packet.Tuple{Proto: packet.TCP}, State: pipeline.ConnEstablished})
	}
	yield(&dataplane.Connection{Tuple: packet.Tuple{Proto: packet.TCP}, State: pipeline.ConnClosing, Over: true})
	return d.err("connections")
}

func TestTake(t *testing.T) {
	want := sampled()
	want.Conditions = nil
	got, err := Take(t.Context(), want.Set, taken{want, ""})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b *table.Set) bool { return a == b })); d != "" {
		t.Errorf("sample (-want +got):\n%s", d)
	}
	for _, method := range []string{"status", "tallies", "loads", "drops", "connections"} {
		if _, err := Take(t.Context(), want.Set, taken{want, method}); err == nil || err.Error() != method {
			t.Errorf("%s fails: %v", method, err)
		}
	}
}
