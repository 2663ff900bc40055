package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// Report is the outcome of a run, as the JSON file has it.
type Report struct {
	Date    string   `json:"date"`
	Kernel  string   `json:"kernel"`
	CPU     string   `json:"cpu"`
	Command []string `json:"command"`
	Seconds float64  `json:"seconds"` // of one sample
	Repeats int      `json:"repeats"`
	Samples []Sample `json:"samples"` // in the order in which they were taken

	tests []Test
	paths []Entry
}

// Row sums up one path in one test.
type Row struct {
	Path     string
	Rate     float64 // median, in the test's unit
	Ratio    float64 // to the raw path, see MedianRatio; valid iff HasRatio
	HasRatio bool
	Spread   float64 // of the rate
	P50, P99 float64 // µs, medians; 0 if not measured
	CPU      float64 // µs per Test.Op, median
	Busy     float64 // CPUs, median
}

func newReport(c Config) (*Report, error) {
	kernel, err := kernelRelease()
	if err != nil {
		return nil, err
	}
	cpu, err := cpuModel()
	if err != nil {
		return nil, err
	}
	return &Report{
		Date: c.Date, Kernel: kernel, CPU: cpu, Command: c.Command, Seconds: c.Duration.Seconds(), Repeats: c.Repeats,
		tests: c.Tests, paths: c.Paths,
	}, nil
}

// Rows sums up test, a row for each path that was measured, in the order of the configuration.
func (r *Report) Rows(test Test) []Row {
	var rows []Row
	base := r.rates(test, GroupRaw)
	for _, e := range r.paths {
		var p50, p99, cpu, busy []float64
		rates := map[int]float64{}
		for _, s := range r.Samples {
			if s.Test == string(test.Kind) && s.Path == e.Name {
				rates[s.Repeat] = s.Rate
				p50, p99 = append(p50, s.P50), append(p99, s.P99)
				cpu, busy = append(cpu, s.CPU), append(busy, s.Busy)
			}
		}
		if len(rates) == 0 {
			continue
		}
		all := slices.Collect(maps.Values(rates))
		row := Row{
			Path: e.Name, Rate: Median(all), Spread: Spread(all),
			P50: Median(p50), P99: Median(p99), CPU: Median(cpu), Busy: Median(busy),
		}
		row.Ratio, row.HasRatio = MedianRatio(rates, base)
		rows = append(rows, row)
	}
	return rows
}

// rates returns the rate of each repeat over the path of group.
func (r *Report) rates(test Test, group string) map[int]float64 {
	rates := map[int]float64{}
	for _, s := range r.Samples {
		if s.Test == string(test.Kind) && s.Group == group {
			rates[s.Repeat] = s.Rate
		}
	}
	return rates
}

// WriteTables prints one table per test.
func (r *Report) WriteTables(w io.Writer) error {
	fmt.Fprintf(w, "%s, Linux %s, %s, %d × %g s\n", r.Date, r.Kernel, r.CPU, r.Repeats, r.Seconds)
	for _, t := range r.tests {
		rows := r.Rows(t)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n", t.Title)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(tw, "path\t%s\tof raw\tspread\tp50 µs\tp99 µs\tCPU µs/%s\tCPUs\t\n", t.Unit, t.Op)
		for _, row := range rows {
			fmt.Fprintf(tw, "%s\t%.1f\t%s\t%.0f %%\t%s\t%s\t%.2f\t%.2f\t\n", row.Path, row.Rate, optional(row.Ratio, 2, row.HasRatio),
				row.Spread*100, optional(row.P50, 1, row.P50 > 0), optional(row.P99, 1, row.P99 > 0), row.CPU, row.Busy)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func optional(x float64, digits int, ok bool) string {
	if !ok {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, x)
}

// WriteJSON writes the report with every sample.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
