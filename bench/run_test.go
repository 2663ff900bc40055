package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/safchain/ethtool"

	"github.com/weft-net/weft/bench/load"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
)

// TestMain lets the test binary be the load process that Run starts.
func TestMain(m *testing.M) {
	if load.Requested(os.Args) {
		if err := load.Main(os.Args, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// smoke measures raw in all tests for a moment.
func smoke() Config {
	return Config{Paths: Paths()[:1], Tests: Tests(), Duration: 50 * time.Millisecond, Repeats: 1}
}

func checkNoneLeft(t *testing.T) {
	t.Helper()
	if left, err := netns.List(Prefix); err != nil || len(left) > 0 {
		t.Errorf("namespaces left: %v, %v", left, err)
	}
}

func TestRunMeasuresEveryTest(t *testing.T) {
	need.Root(t)
	leftover, err := netns.New(Prefix + "raw-client") // of a run that was killed
	if err != nil {
		t.Fatal(err)
	}
	leftover.Close()
	var steps []string
	c := smoke()
	c.Progress = func(done, total int, test, path string) {
		steps = append(steps, fmt.Sprintf("%d/%d %s %s", done, total, test, path))
	}
	rep, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	checkNoneLeft(t)
	if diff := cmp.Diff([]string{"0/5 rr raw", "1/5 crr raw", "2/5 stream raw", "3/5 rr32 raw", "4/5 udp raw"}, steps); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	for _, test := range c.Tests {
		rows := rep.Rows(test)
		if len(rows) != 1 {
			t.Fatalf("%s: %d rows, want 1", test.Kind, len(rows))
		}
		r := rows[0]
		latency := test.Kind != load.Stream && test.Kind != load.Datagrams
		if r.Rate <= 0 || r.Ratio != 1 || r.CPU <= 0 || r.Busy <= 0 || latency != (r.P50 > 0) || r.P99 < r.P50 {
			t.Errorf("%s: %+v", test.Kind, r)
		}
	}
}

func TestAllPathsPassTraffic(t *testing.T) {
	need.Root(t)
	need.Tool(t, "nft")
	c := smoke()
	c.Paths, c.Tests = Paths(), Tests()[:1]
	rep, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	checkNoneLeft(t)
	if len(rep.Samples) != len(c.Paths) {
		t.Errorf("%d samples, want %d", len(rep.Samples), len(c.Paths))
	}
}

func TestRunCleansUpWhenInterrupted(t *testing.T) {
	need.Root(t)
	ctx, cancel := context.WithCancel(t.Context())
	c := smoke()
	c.Duration = time.Minute
	c.Progress = func(done, total int, test, path string) { time.AfterFunc(50*time.Millisecond, cancel) }
	began := time.Now()
	if _, err := Run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the interrupt took %v", took)
	}
	checkNoneLeft(t)
}

func TestRunCleansUpAfterAPanicAndABuilderThatFails(t *testing.T) {
	need.Root(t)
	refused := errors.New("refused")
	c := smoke()
	c.Paths = append(c.Paths, Entry{Name: "broken", Group: GroupWeft,
		Build: func(context.Context) (*Path, error) { return nil, refused }})
	if _, err := Run(t.Context(), c); !errors.Is(err, refused) {
		t.Errorf("error %v, want %v", err, refused)
	}
	checkNoneLeft(t)

	c = smoke()
	c.Progress = func(int, int, string, string) { panic("progress") }
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		Run(t.Context(), c)
	}()
	checkNoneLeft(t)
}

func TestOffloadsAreOffForASegmentedStreamAndThenRestored(t *testing.T) {
	need.Root(t)
	p, err := Paths()[0].Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	before := on(t, p)
	if before == 0 {
		t.Fatal("a new link has no offload on: the test shows nothing")
	}
	restore, err := segment(p)
	if err != nil {
		t.Fatal(err)
	}
	if n := on(t, p); n != 0 {
		t.Errorf("%d offloads are still on", n)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if n := on(t, p); n != before {
		t.Errorf("%d offloads are on again, want %d", n, before)
	}
}

func TestAFailedClientEndsItsServer(t *testing.T) {
	need.Root(t)
	c := smoke()
	c.Tests = c.Tests[:1]
	c.Paths = []Entry{{Name: "routeless", Group: GroupRaw, Build: build("routeless", func(tp *topology) (a, b *node, addr string) {
		a, b = tp.node("client"), tp.node("server")
		tp.link(a, "eth0", "10.0.1.2/24", b, "eth0", "10.0.2.2/24")
		return a, b, "10.0.2.2"
	})}}
	began := time.Now()
	_, err := Run(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "connect: network is unreachable") {
		t.Errorf("error %v, want the client's", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	checkNoneLeft(t)
}

// on counts the offloads that are on at both ends of p.
func on(t *testing.T, p *Path) int {
	t.Helper()
	n := 0
	for _, ns := range []*netns.Namespace{p.Client, p.Server} {
		err := withEthtool(ns, func(e *ethtool.Ethtool) error {
			features, err := e.Features("eth0")
			for _, name := range offloads {
				if features[name] {
					n++
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestASecondRunIsRefused(t *testing.T) {
	need.Root(t)
	unlock, err := lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := Run(t.Context(), smoke()); err == nil {
		t.Error("two runs at once")
	}
}
