package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/pipeline"
)

// slowDriver takes its time to count.
type slowDriver struct{ *fakeDriver }

func (d slowDriver) Tallies(context.Context) (map[pipeline.TallyKey]pipeline.Tally, error) {
	time.Sleep(20 * time.Millisecond)
	return nil, nil
}

// Whoever may read metrics does not keep tables from coming into force.
func TestHostileScrapes(t *testing.T) {
	dir := t.TempDir()
	fake, network := newFakes()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	a := newAgent(t.Context(), slog.New(slog.DiscardHandler), s, slowDriver{fake}, network, fakeLinks, &attachments{})
	defer a.close()
	if err := a.Apply(t.Context(), of(pooled(1))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var scrapes sync.WaitGroup
	for range 300 { // six seconds, if one after another
		scrapes.Go(func() { a.sample(ctx) })
	}
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	for i := range 3 {
		if err := a.Apply(t.Context(), of(pooled(2+i))); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("three Sets took %s", took)
	}
	cancel() // who gives up waits no longer
	began = time.Now()
	scrapes.Wait()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("scrapes went on for %s", took)
	}
}

// Many tables at once come into force one after another; what is told last is
// what came last.
func TestHostileTables(t *testing.T) {
	dir := t.TempDir()
	d, _ := newFakes()
	c := &Client{Socket: filepath.Join(dir, "socket")}
	stop := program(t, d, "--dir", dir, "--socket", c.Socket, "--monitors", "weft-test-none")
	await(t, c)
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			if i%2 == 0 { // refused, in between
				body := fmt.Appendf(nil, `{"tables":{"Pools":[null,%d]}}`, i)
				if c.do(t.Context(), http.MethodPut, tablesPath, body, nil) == nil {
					t.Error("a null is a pool")
				}
				return
			}
			set := plain()
			set.Node = fmt.Sprint("host", i)
			if err := c.Apply(t.Context(), &Tables{Set: set}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n, _ := d.applied()
	told, err := c.InForce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if last := d.sets[n-1].Node; n != 16 || told.Set.Node != last {
		t.Errorf("%d Sets; %s is told, %s came last", n, told.Set.Node, last)
	}
	if code, log := stop(); code != 0 {
		t.Errorf("it ends with %d: %s", code, log)
	}
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if stored, _, err := s.tables(); err != nil || stored.Set.Node != told.Set.Node {
		t.Errorf("stored: %v, want %s", err, told.Set.Node)
	}
}
