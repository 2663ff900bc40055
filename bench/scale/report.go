package scale

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is the outcome of a run, as the JSON file has it.
type Report struct {
	Date      string    `json:"date"`
	Kernel    string    `json:"kernel"`
	CPU       string    `json:"cpu"`
	Command   []string  `json:"command"`
	Size      Size      `json:"size"`
	Load      string    `json:"load_average"` // of the machine before
	Phases    []Phase   `json:"phases"`
	Latencies []Latency `json:"latencies"`

	Weftd      Usage  `json:"weftd"`
	HeapBytes  int64  `json:"weftd_heap_bytes"`
	Agent      Usage  `json:"agent"`
	StoreBytes int64  `json:"store_bytes"` // of weftd's etcd on the disk
	Tables     Tables `json:"tables"`
}

// Tables is how large a node's Set is.
type Tables struct {
	Ports          int `json:"ports"`
	Segments       int `json:"segments"`
	Routers        int `json:"routers"`
	Routes         int `json:"routes"`
	NAT            int `json:"nat"`
	VirtualServers int `json:"virtual_servers"`
	Pools          int `json:"pools"`
	Groups         int `json:"groups"`
	Rulesets       int `json:"rulesets"`
	Rules          int `json:"rules"`
}

// Latency is the samples of one thing.
type Latency struct {
	Name    string    `json:"name"`
	Samples []float64 `json:"ms"` // in the order in which they were taken
}

func newReport(c *Config) (*Report, error) {
	rep := &Report{Date: c.Date, Command: c.Command, Size: c.Size}
	for file, to := range map[string]*string{"/proc/sys/kernel/osrelease": &rep.Kernel, "/proc/cpuinfo": &rep.CPU, "/proc/loadavg": &rep.Load} {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		*to = strings.TrimSpace(string(data))
	}
	for line := range strings.Lines(rep.CPU) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			rep.CPU = strings.TrimSpace(value)
			break
		}
	}
	return rep, nil
}

// add notes one sample.
func (r *Report) add(name string, d time.Duration) {
	i := slices.IndexFunc(r.Latencies, func(l Latency) bool { return l.Name == name })
	if i < 0 {
		i = len(r.Latencies)
		r.Latencies = append(r.Latencies, Latency{Name: name})
	}
	r.Latencies[i].Samples = append(r.Latencies[i].Samples, float64(d.Microseconds())/1000)
}

// Percentile returns the smallest sample that at least p percent are not above;
// 0 if there is none.
func (l Latency) Percentile(p float64) float64 {
	if len(l.Samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(l.Samples))
	return s[max(0, int(math.Ceil(p/100*float64(len(s))))-1)]
}

// String returns p in one line.
func (p Phase) String() string {
	return fmt.Sprintf("%s: %d loaded in %.1f s, in force after %.1f s", p.Name, p.Objects, p.Loaded, p.InForce)
}

const mib = 1 << 20

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%d namespaces, %d pods, %d services, %d network policies; %s, Linux %s, load %s\n\n",
		r.Size.Namespaces, r.Size.Pods, r.Size.Services, r.Size.Policies, r.CPU, r.Kernel, r.Load)
	fmt.Fprintln(t, "loaded\tobjects\tAPI s\tin force s\tobjects/s\tweftd CPU s\tagent CPU s\tweftd MiB\t")
	for _, p := range r.Phases {
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%.1f\t%.0f\t%.1f\t%.1f\t%d\t\n",
			p.Name, p.Objects, p.Loaded, p.InForce, float64(p.Objects)/max(p.InForce, 1e-3), p.WeftdCPU, p.AgentCPU, p.WeftdRSS/mib)
	}
	t.Flush()
	fmt.Fprintln(w)
	fmt.Fprintln(t, "ms\tsamples\tp50\tp90\tp99\tmost\t")
	for _, l := range r.Latencies {
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t\n", l.Name, len(l.Samples), l.Percentile(50), l.Percentile(90), l.Percentile(99), l.Percentile(100))
	}
	t.Flush()
	_, err := fmt.Fprintf(w, `
weftd: %d MiB resident, %d at most, heap %d MiB, %.0f s of CPU; agent: %d MiB, %d at most, %.0f s of CPU; etcd of weftd: %d MiB
tables: %+v
`, r.Weftd.RSSBytes/mib, r.Weftd.MostRSSBytes/mib, r.HeapBytes/mib, r.Weftd.CPUSeconds,
		r.Agent.RSSBytes/mib, r.Agent.MostRSSBytes/mib, r.Agent.CPUSeconds, r.StoreBytes/mib, r.Tables)
	return err
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
