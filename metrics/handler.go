package metrics

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler answers each request with the metrics of a Sample that take returns
// then; with status 500 if it can not.
func Handler(take func(context.Context) (*Sample, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := take(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		registry := prometheus.NewRegistry()
		registry.MustRegister(collector{viewOf(s)}) // names are checked by a test
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}

// collector gives a Sample to Prometheus.
type collector struct{ view *view }

// Describe implements prometheus.Collector. It tells nothing: there are no
// labels before there is a Sample.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for i := range Families {
		f := &Families[i]
		desc := prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
		kind := prometheus.GaugeValue
		if f.Type == Counter {
			kind = prometheus.CounterValue
		}
		for _, r := range f.values(c.view) {
			m, err := prometheus.NewConstMetric(desc, kind, r.value, r.labels...)
			if err != nil {
				m = prometheus.NewInvalidMetric(desc, err)
			}
			out <- m
		}
	}
}
