// Package kubetest gives tests of controllers a real API server, a store in
// memory, and a realization that does as it is told.
package kubetest

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// Env is an API server that has Weft's CRDs, for the time of one test.
type Env struct {
	Config *rest.Config
	Client client.Client // asks the server, no cache
	Scheme *runtime.Scheme
}

// Start starts an API server, or skips the test where there is none. A test
// package starts one and runs its cases as subtests: it takes seconds. extra
// makes the scheme know more types.
func Start(t testing.TB, extra ...func(*runtime.Scheme) error) *Env {
	t.Helper()
	dir := need.Kube(t)
	crds, err := v1alpha1.CRDs()
	check(t, err)
	return StartWith(t, dir, crds, extra...)
}

// StartWith is Start with other CRDs, such as none.
func StartWith(t testing.TB, dir string, crds []*apiextensionsv1.CustomResourceDefinition, extra ...func(*runtime.Scheme) error) *Env {
	t.Helper()
	e := &Env{Scheme: runtime.NewScheme()}
	for _, add := range append([]func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, apiextensionsv1.AddToScheme}, extra...) {
		check(t, add(e.Scheme))
	}
	ctrl.SetLogger(logr.FromSlogHandler(logHandler()))
	server := &envtest.Environment{
		BinaryAssetsDirectory: dir, CRDs: crds, Scheme: e.Scheme,
		ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: time.Minute,
	}
	cfg, err := server.Start()
	t.Cleanup(func() { check(t, server.Stop()) })
	check(t, err)
	cfg.QPS, cfg.Burst = 1000, 1000
	e.Config = cfg
	e.Client, err = client.New(cfg, client.Options{Scheme: e.Scheme})
	check(t, err)
	return e
}

// logHandler shows the controllers' log if WEFT_TEST_LOG is set.
func logHandler() slog.Handler {
	if os.Getenv("WEFT_TEST_LOG") == "" {
		return slog.DiscardHandler
	}
	return slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})
}

// NewDeps returns what controllers have in common: a store in memory, which is
// closed when the test ends, and a realization that says Realized. Nothing is
// held.
func NewDeps(t testing.TB) (writer.Deps, *Realization) {
	t.Helper()
	s, err := store.New(t.Context(), store.NewMemory(), slog.New(slog.DiscardHandler))
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	r := NewRealization()
	return writer.Deps{Store: s, Realization: r, Holds: writer.NewHolds(0, nil), Log: slog.New(logHandler())}, r
}

// Manage runs controllers until stop is called or the test ends. Doing it again
// with the same deps is a restart of the process.
func (e *Env) Manage(t testing.TB, deps writer.Deps, add ...func(manager.Manager, writer.Deps) error) (stop func()) {
	t.Helper()
	skip := true
	mgr, err := ctrl.NewManager(e.Config, ctrl.Options{
		Scheme: e.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: &skip},
	})
	check(t, err)
	for _, fn := range add {
		check(t, fn(mgr, deps))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := mgr.Start(ctx); err != nil {
			t.Errorf("manager: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// DeleteNamespace deletes a namespace and plays the namespace controller of
// kube-controller-manager, which is not there: it deletes the pods in it and
// ends it.
func (e *Env) DeleteNamespace(t testing.TB, name string) {
	t.Helper()
	ctx := t.Context()
	check(t, client.IgnoreNotFound(e.Client.Delete(ctx, &corev1.Namespace{ObjectMeta: objectMeta(name)})))
	check(t, e.Client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(name), client.GracePeriodSeconds(0)))
	kube, err := kubernetes.NewForConfig(e.Config)
	check(t, err)
	ns, err := kube.CoreV1().Namespaces().Get(ctx, name, getOptions())
	if client.IgnoreNotFound(err) == nil && err != nil {
		return
	}
	check(t, err)
	ns.Spec.Finalizers = nil
	_, err = kube.CoreV1().Namespaces().Finalize(ctx, ns, updateOptions())
	check(t, client.IgnoreNotFound(err))
}

// Eventually waits until what returns nothing; what it returns is what is
// missing. It fails the test after 20 s.
func Eventually(t testing.TB, what func() string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		missing := what()
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 20 s: %s", missing)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Realization does as it is told. It is safe for concurrent use.
type Realization struct {
	mu      sync.Mutex
	state   writer.State
	message string
	changed chan struct{}
}

// NewRealization returns one that says Realized.
func NewRealization() *Realization {
	return &Realization{state: writer.Realized, changed: make(chan struct{})}
}

// Set makes it say a state of every version.
func (r *Realization) Set(s writer.State, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.message = s, message
	close(r.changed)
	r.changed = make(chan struct{})
}

// State implements writer.Realization.
func (r *Realization) State(store.Version) (writer.State, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state, r.message
}

// Changed implements writer.Realization.
func (r *Realization) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// Supervisor returns one with the addresses that the project's stories use.
// Its Tier-0 is Tier0 of this package.
func Supervisor() *v1alpha1.Supervisor {
	return &v1alpha1.Supervisor{
		ObjectMeta: objectMeta(v1alpha1.DefaultSupervisor),
		Spec: v1alpha1.SupervisorSpec{
			NamespaceNetworkCIDRs: []v1alpha1.CIDR{"10.244.0.0/20"},
			ServiceCIDR:           "10.96.0.0/23",
			IngressCIDRs:          []v1alpha1.CIDR{"172.16.1.0/24"},
			EgressCIDRs:           []v1alpha1.CIDR{"172.16.2.0/24"},
			Tier0Path:             Tier0Path,
			EdgeClusterPath:       EdgeClusterPath,
		},
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
