package cni

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/internal/netns"
)

// BenchmarkAttach measures the agent's ADD on a node with a thousand ports, of
// which all but one in ten have a pod, as pods come and go ten a second.
func BenchmarkAttach(b *testing.B) {
	const ports, filled, rate = 1000, 900, 10
	n := newNode(b)
	one := namespace(b, "one")
	n.start()
	n.apply(podded(ports))
	attachment := func(i int) *agent.Attachment {
		return &agent.Attachment{
			AttachmentKey: agent.AttachmentKey{Container: fmt.Sprint("c", i), Interface: fmt.Sprint("eth", i)},
			ID:            fmt.Sprint("uid-", i), NetNS: netns.Path(one.Name()),
		}
	}
	attach := func(i int) time.Duration {
		began := time.Now()
		if _, err := n.client.Attach(b.Context(), attachment(i), time.Second); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	work := make(chan int)
	var fill sync.WaitGroup
	began := time.Now()
	for range 8 {
		fill.Go(func() {
			for i := range work {
				attach(i)
			}
		})
	}
	for i := range filled {
		work <- i + 1
	}
	close(work)
	fill.Wait()
	b.Logf("%d pods at once: %s", filled, time.Since(began).Round(time.Millisecond))

	var took []time.Duration
	used := n.used()
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for b.Loop() {
		<-tick.C
		i := filled + 1 + len(took)%(ports-filled)
		if len(took) >= ports-filled {
			if err := n.client.Detach(b.Context(), attachment(i).AttachmentKey); err != nil {
				b.Fatal(err)
			}
		}
		took = append(took, attach(i))
	}
	b.ReportMetric(float64((n.used()-used).Microseconds())/1000/float64(len(took)), "cpu-ms/pod")
	slices.Sort(took)
	for name, part := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99, "max-ms": 1} {
		at := min(int(part*float64(len(took))), len(took)-1)
		b.ReportMetric(float64(took[at].Microseconds())/1000, name)
	}
	b.ReportMetric(0, "ns/op") // it is the time between two pods
}

// used returns the time on a CPU that the agent has had. Source: proc(5), in
// hundredths of a second.
func (n *node) used() time.Duration {
	n.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.process.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	if err := errors.Join(errUser, errSystem); err != nil {
		n.t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
