package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/bench/load"
)

// report has two repeats of one test over raw and t0, t0 at half the rate of raw.
func report() *Report {
	return &Report{
		Date: "2026-01-02", Kernel: "6.18.0", CPU: "cpu", Command: []string{"weft-bench"}, Seconds: 2, Repeats: 2,
		Samples: []Sample{
			{Test: "rr", Path: "raw", Group: GroupRaw, Repeat: 0, Rate: 100, P50: 8, P99: 10, CPU: 8, Busy: 1},
			{Test: "rr", Path: "t0", Group: GroupKernel, Repeat: 0, Rate: 50, P50: 16, P99: 20, CPU: 16, Busy: 1},
			{Test: "rr", Path: "t0", Group: GroupKernel, Repeat: 1, Rate: 40, P50: 18, P99: 22, CPU: 18, Busy: 0.8},
			{Test: "rr", Path: "raw", Group: GroupRaw, Repeat: 1, Rate: 80, P50: 10, P99: 12, CPU: 10, Busy: 1},
			{Test: "udp", Path: "raw", Group: GroupRaw, Repeat: 0, Rate: 500, CPU: 3, Busy: 2},
		},
		tests: Tests(), paths: Paths(),
	}
}

func TestRows(t *testing.T) {
	want := []Row{
		{Path: "raw", Rate: 90, Ratio: 1, HasRatio: true, Spread: 20. / 90, P50: 9, P99: 11, CPU: 9, Busy: 1},
		{Path: "t0", Rate: 45, Ratio: 0.5, HasRatio: true, Spread: 10. / 45, P50: 17, P99: 21, CPU: 17, Busy: 0.9},
	}
	if diff := cmp.Diff(want, report().Rows(Tests()[0]), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRowsWithoutRawHaveNoRatio(t *testing.T) {
	r := report()
	r.Samples = r.Samples[1:3]
	rows := r.Rows(Tests()[0])
	if len(rows) != 1 || rows[0].HasRatio {
		t.Errorf("got %+v, want one row without a ratio", rows)
	}
}

func TestWriteTables(t *testing.T) {
	const want = `2026-01-02, Linux 6.18.0, cpu, 2 × 2 s

request/response, 1 byte TCP, one CPU
  path   k/s  of raw  spread  p50 µs  p99 µs  CPU µs/exchange  CPUs
   raw  90.0    1.00    22 %     9.0    11.0             9.00  1.00
    t0  45.0    0.50    22 %    17.0    21.0            17.00  0.90

UDP packets received, 18 bytes, two CPUs
  path    k/s  of raw  spread  p50 µs  p99 µs  CPU µs/packet  CPUs
   raw  500.0    1.00     0 %       –       –           3.00  2.00
`
	var got bytes.Buffer
	if err := report().WriteTables(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteJSONKeepsEverySample(t *testing.T) {
	var buf bytes.Buffer
	if err := report().WriteJSON(&buf); err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(buf.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*report(), got, cmpopts.IgnoreUnexported(Report{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSampleFromBothSides(t *testing.T) {
	rr, stream := Tests()[0], Tests()[2]
	for _, tc := range []struct {
		name           string
		test           Test
		client, server load.Result
		softirq        time.Duration
		want           Sample
	}{
		{
			"exchanges count at the client", rr,
			load.Result{Ops: 200_000, Seconds: 2, P50: 9, P99: 11, CPU: 0.9}, load.Result{Ops: 200_000, Seconds: 2.1, CPU: 0.8},
			100 * time.Millisecond,
			Sample{Test: "rr", Ops: 200_000, Seconds: 2, Rate: 100, P50: 9, P99: 11, CPU: 9, Busy: 0.9},
		},
		{
			"bytes count at the server", stream,
			load.Result{Seconds: 2, CPU: 1}, load.Result{Ops: 1 << 30, Seconds: 2, CPU: 1},
			0,
			Sample{Test: "stream", Ops: 1 << 30, Seconds: 2, Rate: 4.294967296, CPU: 2e6 / 1024, Busy: 1},
		},
	} {
		got, err := tc.test.sample(tc.client, tc.server, tc.softirq)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if diff := cmp.Diff(tc.want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	if s, err := rr.sample(load.Result{}, load.Result{}, 0); err == nil {
		t.Errorf("nothing counted made %+v", s)
	}
}

func TestConfigIsCheckedBeforeAnythingIsMade(t *testing.T) {
	good := Config{Paths: Paths(), Tests: Tests(), Duration: time.Second, Repeats: 1}
	for want, edit := range map[string]func(*Config){
		"duration: 0s":     func(c *Config) { c.Duration = 0 },
		"duration: 1m0.":   func(c *Config) { c.Duration = time.Minute + time.Millisecond },
		"repeats: 0":       func(c *Config) { c.Repeats = 0 },
		"repeats: 101":     func(c *Config) { c.Repeats = 101 },
		"0 paths, 5 tests": func(c *Config) { c.Paths = nil },
		fmt.Sprintf("%d paths, 0 tests ", len(Paths())): func(c *Config) { c.Tests = nil },
	} {
		c := good
		edit(&c)
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
