package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/weft-net/weft/kube/v1alpha1"
)

// How long a client may take.
const (
	headerTimeout   = 10 * time.Second  // for a request's headers
	keepAliveClient = 120 * time.Second // between requests
	headerBytes     = 64 << 10
)

// Run serves until ctx ends, and then until what has begun is done. While the
// API server does not answer, what it said last holds.
// Errors: an address can not be served; the API server does not let it read.
func Run(ctx context.Context, cfg *rest.Config, c Config, log *slog.Logger) error {
	mgr, traces, err := open(cfg, log)
	if err != nil {
		return err
	}
	var e Explainer
	var t *Tracer
	if c.Explain {
		t = NewTracer(traces, c.Pod, log)
		e = t
	}
	p := NewProxy(log, c.Limits, c.Trusted, e)
	if t != nil {
		t.traced = p.counts.traced
	}
	f := &follower{
		client: mgr.GetClient(), recorder: mgr.GetEventRecorder("weft-ingress"), log: log, proxy: p,
		class: c.Class, publish: c.Publish, cert: c.Default, timeout: c.Response,
		pairs: map[types.NamespacedName]parsedPair{}, told: map[types.UID]told{},
	}
	if err := f.add(mgr); err != nil {
		return err
	}
	s := &servers{log: log, proxy: p}
	defer s.wait()
	if err := s.start(c); err != nil {
		return errors.Join(err, s.stop(0, 0))
	}
	following, cancel := context.WithCancel(context.WithoutCancel(ctx)) // until the last request is done
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(following) }()
	select {
	case <-ctx.Done():
		log.Info("ending")
		err = s.stop(c.Drain, c.Shutdown)
	case err = <-ended:
		return errors.Join(fmt.Errorf("follows the api server no more: %w", err), s.stop(0, c.Shutdown))
	case err = <-s.broken:
		err = errors.Join(err, s.stop(0, c.Shutdown))
	}
	cancel()
	return errors.Join(err, <-ended)
}

// open returns what follows the API server, and a client for Traces.
func open(cfg *rest.Config, log *slog.Logger) (manager.Manager, client.WithWatch, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, nil, err
	}
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:  scheme,
		Logger:  logr.FromSlogHandler(log.Handler()),
		Metrics: metricsserver.Options{BindAddress: "0"}, // they are served with the proxy's
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&corev1.Secret{}: {Field: fields.OneTermEqualSelector("type", string(corev1.SecretTypeTLS))},
			},
		},
	})
	if err != nil {
		return nil, nil, err
	}
	traces, err := client.NewWithWatch(cfg, client.Options{Scheme: scheme})
	return mgr, traces, err
}

// servers listens for clients, and for those who ask how it is.
type servers struct {
	log    *slog.Logger
	proxy  *Proxy
	broken chan error // an error of a listener

	addresses []string // listened at: status, HTTP, HTTPS, as far as they are
	clients   []*http.Server
	status    *http.Server
	done      sync.WaitGroup

	mu     sync.Mutex
	ending bool
}

// start begins to listen.
// Errors: an address can not be listened at.
func (s *servers) start(c Config) error {
	s.broken = make(chan error, 3)
	if c.Status != "" {
		s.status = &http.Server{Handler: s.statusHandler(), ReadHeaderTimeout: headerTimeout}
		if err := s.listen(s.status, c.Status, false); err != nil {
			return err
		}
	}
	plain := s.server()
	if err := s.listen(plain, c.HTTP, false); err != nil {
		return err
	}
	s.clients = append(s.clients, plain)
	if c.HTTPS == "" {
		return nil
	}
	secure := s.server()
	secure.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.proxy.Certificate, NextProtos: []string{"h2", "http/1.1"}}
	if err := s.listen(secure, c.HTTPS, true); err != nil {
		return err
	}
	s.clients = append(s.clients, secure)
	return nil
}

// server returns a server for clients.
func (s *servers) server() *http.Server {
	return &http.Server{
		Handler: s.proxy, ReadHeaderTimeout: headerTimeout, IdleTimeout: keepAliveClient, MaxHeaderBytes: headerBytes,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // what clients do wrong
	}
}

func (s *servers) listen(h *http.Server, address string, secure bool) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.addresses = append(s.addresses, l.Addr().String())
	s.log.Info("listening", "address", l.Addr().String(), "tls", secure)
	s.done.Go(func() {
		if secure {
			err = h.ServeTLS(l, "", "")
		} else {
			err = h.Serve(l)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.broken <- err
		}
	})
	return nil
}

// statusHandler serves what concerns this program, not its clients.
func (s *servers) statusHandler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(s.proxy.counts.all()...)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{r, ctrlmetrics.Registry}, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.ending:
			http.Error(w, "it is ending", http.StatusServiceUnavailable)
		case !s.proxy.Ready():
			http.Error(w, "it has not read the ingresses yet", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ok")
		}
	})
	return mux
}

// stop ends in order: not ready, no more connections, no more requests. Then
// those that have begun get a time.
func (s *servers) stop(drain, shutdown time.Duration) error {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	for _, h := range s.clients {
		h.SetKeepAlivesEnabled(false)
	}
	time.Sleep(drain)
	ctx, cancel := context.WithTimeout(context.Background(), shutdown)
	defer cancel()
	var wg sync.WaitGroup
	for _, h := range s.clients {
		wg.Go(func() {
			if h.Shutdown(ctx) != nil {
				s.log.Warn("requests are cut off")
				h.Close()
			}
		})
	}
	wg.Wait()
	if s.status != nil {
		return s.status.Close()
	}
	return nil
}

func (s *servers) wait() { s.done.Wait() }
