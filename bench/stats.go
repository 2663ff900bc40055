package bench

import "slices"

// Median returns the middle of xs, the mean of the two middle ones for an even count, 0 for none. It leaves xs as it is.
func Median(xs []float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(xs))
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid]
	}
	return (s[mid-1] + s[mid]) / 2
}

// Spread returns (max − min) / median of xs; 0 for none or a median of 0.
func Spread(xs []float64) float64 {
	m := Median(xs)
	if m == 0 {
		return 0
	}
	return (slices.Max(xs) - slices.Min(xs)) / m
}

// MedianRatio returns the median of xs[i] / base[i], each of the same repeat, over the repeats that both have.
//
// The keys are repeats. ok is false if there is no common repeat with a base other than 0.
func MedianRatio(xs, base map[int]float64) (ratio float64, ok bool) {
	var ratios []float64
	for repeat, x := range xs {
		if b := base[repeat]; b != 0 {
			ratios = append(ratios, x/b)
		}
	}
	return Median(ratios), len(ratios) > 0
}
