package scratch

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/bpf"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/monitor"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

var junk = []any{nil, 0.0, 1.0, 255.0, 256.0, 65535.0, 65536.0, 4294967295.0, "", "10.1.1.10", "10.1.1.1/24", "::1", "fe80::1%eth0", "0.0.0.0/0", "::/0", "10.1.1.10/0", true, "x"}

func mutate(r *rand.Rand, v any, p float64) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = mutate(r, v[k], p)
		}
	case []any:
		for i := range v {
			v[i] = mutate(r, v[i], p)
		}
		if len(v) > 0 && r.Float64() < p {
			v = append(v, v[r.IntN(len(v))])
		}
		if len(v) > 1 && r.Float64() < p {
			v = v[:r.IntN(len(v))]
		}
		return v
	default:
		if r.Float64() < p {
			return junk[r.IntN(len(junk))]
		}
	}
	return v
}

func TestJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	good := testset.WithLB()
	good.Pools[testset.PoolSrv].Monitors = []*table.Monitor{{Path: "/m", Kind: 1}}
	body, _ := table.Encode(good)
	devices := map[table.PortID]bpf.Device{}
	i := uint32(10)
	for id := range good.Ports {
		devices[id] = bpf.Device{IfIndex: i}
		i++
	}
	ok, n := 0, 0
	seen := map[string]bool{}
	e := bpf.NewEncoder()
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); n++ {
		var doc any
		json.Unmarshal(body, &doc)
		doc = mutate(r, doc, []float64{0.001, 0.003, 0.0005}[r.IntN(3)])
		raw, _ := json.Marshal(doc)
		s, err := table.Decode(raw)
		if err != nil {
			continue
		}
		ok++
		func() {
			defer func() {
				if p := recover(); p != nil {
					st := string(debug.Stack())
					key := fmt.Sprint(p)
					for _, l := range strings.Split(st, "\n") {
						if strings.Contains(l, "weft/") && strings.Contains(l, ".go:") && !strings.Contains(l, "scratch") {
							key += " @ " + strings.TrimSpace(l)
							break
						}
					}
					if !seen[key] {
						seen[key] = true
						fmt.Println("PANIC", key)
					}
					e = bpf.NewEncoder()
				}
			}()
			began := time.Now()
			_, err := e.Update(s, devices)
			if d := time.Since(began); d > time.Second {
				fmt.Println("slow", d)
			}
			if err != nil {
				key := err.Error()
				if len(seen) < 40 && !seen[key] {
					seen[key] = true
					fmt.Println("refused", key)
				}
			}
			monitor.Targets(s)
			pipeline.NewIndex(s)
			s.EndpointRows(); s.RuleRows(); s.PoolRows(); s.VIPRows(); s.RouteRows(); s.NATRows()
		}()
	}
	fmt.Println(n, "bodies", ok, "decoded")
}
