package load

import "time"

const (
	bucketWidth = 100 * time.Nanosecond
	bucketCount = 100_000 // up to 10 ms
)

// histogram counts latencies in buckets of 0.1 µs; what takes longer than 10 ms shares the last bucket.
type histogram struct {
	buckets [bucketCount]uint32
	total   int64
	longest time.Duration
}

func (h *histogram) add(d time.Duration) {
	h.buckets[min(max(d, 0)/bucketWidth, bucketCount-1)]++
	h.total++
	h.longest = max(h.longest, d)
}

// percentile returns the latency in µs that p (0 < p ≤ 100) percent of the added ones do not exceed, to half a bucket; 0 if
// none was added. In the last bucket it returns the longest latency.
func (h *histogram) percentile(p float64) float64 {
	rank := int64(p / 100 * float64(h.total))
	if float64(rank) < p/100*float64(h.total) {
		rank++
	}
	var seen int64
	for i, n := range h.buckets {
		if seen += int64(n); n == 0 || seen < rank {
			continue
		}
		if i == bucketCount-1 {
			return micros(h.longest)
		}
		return micros(time.Duration(i)*bucketWidth + bucketWidth/2)
	}
	return 0
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
