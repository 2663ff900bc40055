package load

import (
	"testing"
	"time"
)

func TestPercentiles(t *testing.T) {
	h := new(histogram)
	if got := h.percentile(50); got != 0 {
		t.Errorf("empty: p50 = %v, want 0", got)
	}
	for i := range 100 { // 1 µs, 2 µs … 100 µs, from the slowest
		h.add(time.Duration(100-i) * time.Microsecond)
	}
	for p, want := range map[float64]float64{1: 1.05, 50: 50.05, 50.5: 51.05, 99: 99.05, 99.1: 100.05, 100: 100.05} {
		if got := h.percentile(p); got != want {
			t.Errorf("p%v = %v µs, want %v", p, got, want)
		}
	}
}

func TestPercentileEdges(t *testing.T) {
	for d, want := range map[time.Duration]float64{
		-time.Second:               0.05, // a clock that stepped back
		0:                          0.05,
		99 * time.Nanosecond:       0.05,
		100 * time.Nanosecond:      0.15,
		9999 * time.Microsecond:    9999.05,
		10 * time.Millisecond:      10_000,
		1500 * time.Millisecond:    1_500_000,
		9999_899 * time.Nanosecond: 9999.85,
	} {
		h := new(histogram)
		h.add(d)
		if got := h.percentile(50); got != want {
			t.Errorf("p50 of %v = %v µs, want %v", d, got, want)
		}
	}
}
