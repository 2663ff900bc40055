package lab

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// TestObserve looks at a connection through a virtual server while its lab
// changes and goes away.
func TestObserve(t *testing.T) {
	s := realSystem(t)
	lab := testLab(t, s, "observe")
	if err := s.Observe(t.Context(), lab, func([]Observed) error { return nil }); err == nil || !strings.Contains(err.Error(), "is not up") {
		t.Errorf("before the lab is up: %v", err)
	}
	up(t, s, labFiles(t, "balanced.yaml", lab))
	for _, name := range []string{"web1", "web2"} {
		(&webServer{name: name}).serve(t, lab)
	}
	awaitAnswers(t, lab, red, "web1", "web2")
	err := s.Observe(t.Context(), lab, func(hosts []Observed) error {
		if len(hosts) != 1 || hosts[0].Host != "host1" {
			t.Fatalf("hosts %+v", hosts)
		}
		h := hosts[0]
		set, err := h.Tables(t.Context())
		if err != nil {
			return err
		}
		names := dataplane.NamesOf(set)
		var members []string
		err = h.Connections(t.Context(), func(c *dataplane.Connection) bool {
			v := names.Server(c.Server)
			if v == nil {
				return true
			}
			_, from := names.Port(c.In)
			members = append(members, names.Member(c.Member).Address())
			if v.Path != "/infra/lb-virtual-servers/web" || c.Tuple.Dst.String() != "172.16.0.80" ||
				!strings.Contains(from, "/interfaces/up") || c.State != pipeline.ConnClosing || c.Reply.Packets == 0 {
				t.Errorf("%s by %s: %+v", from, v.Path, c)
			}
			return true
		})
		slices.Sort(members)
		if members = slices.Compact(members); err != nil || !slices.Equal(members, []string{"10.1.0.5:80", "10.1.0.6:80"}) {
			t.Errorf("members %v, %v", members, err)
		}
		if again, err := h.Tables(t.Context()); err != nil || again != set {
			t.Errorf("the same tables are read again: %v", err)
		}
		// The lab can be changed and taken down meanwhile.
		if err := s.Apply(t.Context(), lab, labFiles(t, "balanced.yaml", lab, "display_name: web2", "display_name: other")); err != nil {
			return err
		}
		now, err := h.Tables(t.Context())
		if err != nil {
			return err
		}
		if now == set || !slices.ContainsFunc(portNames(now), func(n string) bool { return n == "other" }) {
			t.Errorf("tables after a change: %v", portNames(now))
		}
		if _, err := s.Down(context.Background(), lab); err != nil {
			return err
		}
		if _, err := h.Tables(t.Context()); err == nil || !strings.Contains(err.Error(), "is not up any more") {
			t.Errorf("after the lab is down: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func portNames(set *table.Set) (out []string) {
	for _, p := range set.Ports.All() {
		out = append(out, p.Name)
	}
	return out
}
