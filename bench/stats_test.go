package bench

import "testing"

func TestMedianAndSpread(t *testing.T) {
	for _, tc := range []struct {
		xs             []float64
		median, spread float64
	}{
		{nil, 0, 0},
		{[]float64{7}, 7, 0},
		{[]float64{3, 1, 2}, 2, 1},
		{[]float64{10, 2, 4, 6}, 5, 1.6},
		{[]float64{-1, 0, 1}, 0, 0},
		{[]float64{5, 5, 5, 500}, 5, 99},
	} {
		if got := Median(tc.xs); got != tc.median {
			t.Errorf("Median(%v) = %v, want %v", tc.xs, got, tc.median)
		}
		if got := Spread(tc.xs); got != tc.spread {
			t.Errorf("Spread(%v) = %v, want %v", tc.xs, got, tc.spread)
		}
	}
}

func TestMedianLeavesItsArgument(t *testing.T) {
	xs := []float64{3, 1, 2}
	Median(xs)
	if xs[0] != 3 || xs[1] != 1 || xs[2] != 2 {
		t.Errorf("Median sorted its argument: %v", xs)
	}
}

func TestMedianRatioComparesWithinOneRepeat(t *testing.T) {
	for name, tc := range map[string]struct {
		xs, base map[int]float64
		ratio    float64
		ok       bool
	}{
		// The machine slows down by half each repeat: the ratio of the medians would be 0.5 too, the ratios show it exactly.
		"drift": {map[int]float64{0: 50, 1: 25, 2: 12.5}, map[int]float64{0: 100, 1: 50, 2: 25}, 0.5, true},
		// Medians alone would say 60/100.
		"other order":       {map[int]float64{0: 60, 1: 90, 2: 20}, map[int]float64{0: 80, 1: 100, 2: 200}, 0.75, true},
		"missing repeat":    {map[int]float64{0: 1, 2: 3}, map[int]float64{1: 1, 2: 6}, 0.5, true},
		"no common repeat":  {map[int]float64{0: 1}, map[int]float64{1: 1}, 0, false},
		"base of 0 ignored": {map[int]float64{0: 1, 1: 4}, map[int]float64{0: 0, 1: 2}, 2, true},
		"nothing":           {nil, nil, 0, false},
	} {
		ratio, ok := MedianRatio(tc.xs, tc.base)
		if ratio != tc.ratio || ok != tc.ok {
			t.Errorf("%s: got %v %v, want %v %v", name, ratio, ok, tc.ratio, tc.ok)
		}
	}
}
