package main

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// family is a metric of weftd.
type family struct{ desc *prometheus.Desc }

func newFamily(name, help string, labels ...string) family {
	return family{prometheus.NewDesc("weftd_"+name, help, labels, nil)}
}

func (f family) gauge(ch chan<- prometheus.Metric, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(f.desc, prometheus.GaugeValue, value, labels...)
}

// collector tells how a daemon is.
type collector struct {
	d                                    *daemon
	version, compiled, objects, problems family
	connected, acked, refused            family
}

// metrics answers with how weftd is, in the form of Prometheus.
func (d *daemon) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{
		d:         d,
		version:   newFamily("store_version", "Version of the intent that is stored."),
		objects:   newFamily("store_objects", "Objects that are stored."),
		compiled:  newFamily("compiled_version", "Latest version that was compiled."),
		problems:  newFamily("compile_problems", "Warnings of the compiler."),
		connected: newFamily("node_connected", "Whether the agent of a node is connected.", "node"),
		acked:     newFamily("node_version", "Version that a node has in force.", "node"),
		refused:   newFamily("node_refuses", "Whether a node refuses what it shall do.", "node"),
	}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range []family{c.version, c.objects, c.compiled, c.problems, c.connected, c.acked, c.refused} {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.d.store.Read(func(t *intent.Tree, v store.Version) {
		c.version.gauge(ch, float64(v))
		c.objects.gauge(ch, float64(t.Len()))
	})
	c.compiled.gauge(ch, float64(c.d.control.Version()))
	c.problems.gauge(ch, float64(len(c.d.control.Problems())))
	for _, n := range c.d.control.Nodes() {
		c.connected.gauge(ch, number(n.Connected), n.Name)
		c.acked.gauge(ch, float64(n.Version), n.Name)
		c.refused.gauge(ch, number(n.Refused != 0), n.Name)
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
