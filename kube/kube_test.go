package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/kube/internal/kubetest"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// start runs Run until stop is called or the test ends.
func start(t *testing.T, env *kubetest.Env, deps writer.Deps) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := Run(ctx, env.Config, Options{Store: deps.Store, Realization: deps.Realization, Log: deps.Log, LeaderElection: true})
		if err != nil {
			t.Errorf("run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// orphans puts what a namespace had into a store, as a process did that knew it.
func orphans(t *testing.T, s *store.Store) {
	t.Helper()
	replace := func(owner store.Owner, objects ...intent.Change) {
		var list []intent.Object
		for _, c := range objects {
			list = append(list, c.Object)
		}
		_, problems, err := s.Replace(t.Context(), owner, list...)
		if err != nil || len(problems) > 0 {
			t.Fatal(err, problems)
		}
	}
	replace("Namespace/old/u1", intent.Put("/infra/segments/seg_u1_0", &intent.Segment{Subnets: []intent.SegmentSubnet{{GatewayAddress: "10.9.0.1/28"}}}))
	replace("Pod/old/p/u2", intent.Put("/infra/segments/seg_u1_0/ports/u2", &intent.SegmentPort{
		AddressBindings: []intent.AddressBinding{{IPAddress: "10.9.0.2", MACAddress: "04:50:56:00:00:02"}},
	}))
	replace("Service/old/s/u3", intent.Put("/infra/lb-pools/s", &intent.LBPool{}))
	replace("NetworkPolicy/old/n/u4", intent.Put("/infra/domains/default/groups/n", &intent.Group{
		Expression: []intent.Expression{&intent.PathExpression{Paths: []string{"/infra/segments/seg_u1_0"}}},
	}))
	replace("AdminNetworkPolicy/a/u5", intent.Put("/infra/domains/default/groups/a", &intent.Group{}))
	replace("Strange/x/y/z", intent.Put("/infra/domains/default/groups/strange", &intent.Group{}))
}

func TestRun(t *testing.T) {
	dir := need.Kube(t)
	env := kubetest.StartWith(t, dir, nil)
	deps, _ := kubetest.NewDeps(t)
	kubetest.Provider(t, deps.Store)
	orphans(t, deps.Store)
	stop := start(t, env, deps)
	kubetest.Eventually(t, func() string { return missingTypes(t, env) })

	owners := func(want ...string) {
		t.Helper()
		kubetest.Eventually(t, func() string {
			var have []string
			for _, o := range deps.Store.Owners("") {
				have = append(have, string(o))
			}
			if strings.Join(have, " ") != strings.Join(want, " ") {
				return fmt.Sprintf("owners %q, want %q", have, want)
			}
			return ""
		})
	}
	owners("Strange/x/y/z")

	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	sup := kubetest.Supervisor()
	sup.Spec.SystemNamespaces = []string{"kube-*", "default"}
	check(env.Client.Create(t.Context(), sup))
	check(env.Client.Create(t.Context(), kubetest.Namespace("red", nil)))
	kubetest.Eventually(t, func() string {
		var ns corev1.Namespace
		check(env.Client.Get(t.Context(), types.NamespacedName{Name: "red"}, &ns))
		if ns.Annotations[ncp.AnnotationSubnet(0)] == "" {
			return fmt.Sprint("no network: ", ns.Annotations, ns.Status.Conditions)
		}
		return ""
	})
	stop()

	// Everything goes while nobody looks, and the definitions are those of an
	// older process.
	env.DeleteNamespace(t, "red")
	check(env.Client.Delete(t.Context(), sup))
	var crd apiextensionsv1.CustomResourceDefinition
	check(env.Client.Get(t.Context(), types.NamespacedName{Name: "supervisors.weft.dev"}, &crd))
	crd.Spec.Versions[0].AdditionalPrinterColumns = nil
	check(env.Client.Update(t.Context(), &crd))
	stop = start(t, env, deps)
	owners("Strange/x/y/z")
	check(env.Client.Get(t.Context(), types.NamespacedName{Name: "supervisors.weft.dev"}, &crd))
	if len(crd.Spec.Versions[0].AdditionalPrinterColumns) == 0 {
		t.Error("the definition was not updated")
	}
	stop()

	// The same again changes nothing.
	generation := crd.Generation
	scheme, err := Scheme()
	check(err)
	check(Install(t.Context(), env.Config, scheme))
	check(env.Client.Get(t.Context(), types.NamespacedName{Name: "supervisors.weft.dev"}, &crd))
	if crd.Generation != generation {
		t.Error("the definition was updated though nothing changed")
	}
}

func missingTypes(t *testing.T, env *kubetest.Env) string {
	for _, list := range []client.ObjectList{&v1alpha1.SupervisorList{}, &v1alpha1.NamespaceNetworkList{}, &v1alpha1.TraceList{}} {
		if err := env.Client.List(t.Context(), list); err != nil {
			return err.Error()
		}
	}
	return ""
}

// A cluster that is not there is waited for, and Run ends when it shall.
func TestRunWithoutCluster(t *testing.T) {
	asked := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		http.Error(w, "not now", http.StatusServiceUnavailable)
	}))
	defer server.Close()
	deps, _ := kubetest.NewDeps(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- Run(ctx, &rest.Config{Host: server.URL}, Options{Store: deps.Store, Realization: deps.Realization})
	}()
	<-asked
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Run did not end")
	}
}

func TestDefinitions(t *testing.T) {
	crds, err := v1alpha1.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range crds {
		names = append(names, c.Name)
		if c.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Description == "" {
			t.Errorf("%s: spec has no description", c.Name)
		}
	}
	if got := strings.Join(names, " "); got != "namespacenetworks.weft.dev supervisors.weft.dev traces.weft.dev" {
		t.Error(got)
	}
}
