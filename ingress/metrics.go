package ingress

import (
	"iter"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// counts is what a Proxy counts.
type counts struct {
	requests *prometheus.CounterVec
	seconds  prometheus.Histogram
	failures *prometheus.CounterVec
	routes   prometheus.Gauge
	problems prometheus.Gauge
	traces   *prometheus.CounterVec
}

func newCounts() *counts {
	return &counts{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weft_ingress_requests_total",
			Help: "Requests answered, by the Ingress whose rule took them and status. Empty: no rule did.",
		}, []string{"namespace", "ingress", "code"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "weft_ingress_request_seconds",
			Help:    "Time from a request's headers to the end of its response.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weft_ingress_upstream_failures_total",
			Help: "Requests that no endpoint answered: connect (not reached), response_timeout, reset, client_gone.",
		}, []string{"reason"}),
		routes:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "weft_ingress_routes", Help: "Paths and default backends that are served."}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{Name: "weft_ingress_problems", Help: "What Ingresses ask for and does not work."}),
		traces: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weft_ingress_traces_total",
			Help: "Traces made to explain why an endpoint is not reached, by whether there was an answer.",
		}, []string{"answered"}),
	}
}

func (c *counts) all() []prometheus.Collector {
	return []prometheus.Collector{c.requests, c.seconds, c.failures, c.routes, c.problems, c.traces}
}

// request counts an answer; a nil route: no rule took the request.
func (c *counts) request(r *Route, status int, took time.Duration) {
	var of types.NamespacedName
	if r != nil {
		of = r.Ingress
	}
	c.requests.WithLabelValues(of.Namespace, of.Name, strconv.Itoa(status)).Inc()
	c.seconds.Observe(took.Seconds())
}

func (c *counts) failure(reason string) { c.failures.WithLabelValues(reason).Inc() }

func (c *counts) traced(answered bool) { c.traces.WithLabelValues(strconv.FormatBool(answered)).Inc() }

// forget drops the rows of Ingresses that are not served any more.
func (c *counts) forget(old, t *Table) {
	n := 0
	for range t.routes() {
		n++
	}
	c.routes.Set(float64(n))
	if old == nil {
		return
	}
	served := map[types.NamespacedName]bool{}
	for _, in := range t.Ingresses {
		served[in] = true
	}
	for _, in := range old.Ingresses {
		if !served[in] {
			c.requests.DeletePartialMatch(prometheus.Labels{"namespace": in.Namespace, "ingress": in.Name})
		}
	}
}

// routes gives all routes of a table; one that several hosts share comes
// several times.
func (t *Table) routes() iter.Seq[*Route] {
	return func(yield func(*Route) bool) {
		for _, h := range t.Hosts {
			for _, list := range []map[string]*Route{h.Exact, h.Prefix} {
				for _, r := range list {
					if !yield(r) {
						return
					}
				}
			}
			if h.Fallback != nil && !yield(h.Fallback) {
				return
			}
		}
	}
}
