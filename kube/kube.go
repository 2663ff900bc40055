package kube

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/weft-net/weft/kube/pod"
	"github.com/weft-net/weft/kube/policy"
	"github.com/weft-net/weft/kube/service"
	"github.com/weft-net/weft/kube/tenant"
	"github.com/weft-net/weft/kube/tracing"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// Options is what Run works with besides the cluster.
type Options struct {
	Store       *store.Store
	Realization writer.Realization
	Tables      tracing.Tables // what Traces are answered from; nil: they are not answered
	Log         *slog.Logger   // nil: silent

	// LeaderElection lets one of several processes run the controllers. The
	// lease is in LeaderNamespace; empty: kube-system.
	LeaderElection  bool
	LeaderNamespace string

	// Collect is how often owners are looked for whose object is gone; 0:
	// every ten minutes.
	Collect time.Duration
}

const (
	leaderID       = "weftd"
	collectDefault = 10 * time.Minute
)

// Run makes a cluster's objects intent until ctx ends; then it returns nil. It
// installs or updates the CRDs of package v1alpha1 first.
//
// A cluster that cannot be reached, or a lease that was lost, is waited for: what
// the store has stays in force meanwhile.
func Run(ctx context.Context, cfg *rest.Config, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	cfg = rest.CopyConfig(cfg)
	if cfg.QPS == 0 {
		cfg.QPS = -1 // the API server shares itself out fairly
	}
	ctrl.SetLogger(logr.FromSlogHandler(o.Log.Handler()))
	deps := writer.Deps{Store: o.Store, Realization: o.Realization, Holds: writer.NewHolds(v1alpha1.DefaultHoldTime, nil), Log: o.Log}
	for wait := time.Second; ; wait = min(2*wait, 15*time.Second) {
		began := time.Now()
		err := run(ctx, cfg, o, deps)
		if ctx.Err() != nil {
			return nil
		}
		o.Log.Error("controllers of Kubernetes objects ended, starting again", "err", err)
		if time.Since(began) > time.Minute {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// Scheme returns the types that the controllers work with.
func Scheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			return nil, fmt.Errorf("scheme: %w", err)
		}
	}
	return s, nil
}

// run is one try.
func run(ctx context.Context, cfg *rest.Config, o Options, deps writer.Deps) error {
	scheme, err := Scheme()
	if err != nil {
		return err
	}
	c, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if err := tenant.Guard(ctx, c, deps); err != nil {
		return err
	}
	if err := Install(ctx, cfg, scheme); err != nil {
		return err
	}
	again := true // names of controllers are those of the try before
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:                        scheme,
		Logger:                        logr.FromSlogHandler(o.Log.Handler()),
		Cache:                         cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		Controller:                    config.Controller{SkipNameValidation: &again},
		Metrics:                       metricsserver.Options{BindAddress: "0"},
		LeaderElection:                o.LeaderElection,
		LeaderElectionID:              leaderID,
		LeaderElectionNamespace:       orDefault(o.LeaderNamespace, "kube-system"),
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return fmt.Errorf("manager: %w", err)
	}
	for _, add := range controllers(o) {
		if err := add(mgr, deps); err != nil {
			return err
		}
	}
	if err := mgr.Add(newCollector(mgr, o, deps)); err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	return mgr.Start(ctx)
}

// controllers returns what adds each controller to a manager.
func controllers(o Options) []func(manager.Manager, writer.Deps) error {
	out := []func(manager.Manager, writer.Deps) error{tenant.Add, pod.Add, service.Add, policy.Add}
	if o.Tables != nil {
		out = append(out, func(mgr manager.Manager, deps writer.Deps) error { return tracing.Add(mgr, deps, o.Tables) })
	}
	return out
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
