package kube

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/internal/kubetest"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/writer"
)

// absent is an API server without objects that is away for some requests.
type absent struct {
	client.Reader
	away int
}

func (a *absent) List(context.Context, client.ObjectList, ...client.ListOption) error {
	if a.away > 0 {
		a.away--
		return errors.New("connection refused")
	}
	return nil
}

// What went while no weftd ran is collected soon, also if the API server is away
// when it starts.
func TestCollectorComesBackSoon(t *testing.T) {
	deps, _ := kubetest.NewDeps(t)
	orphans(t, deps.Store)
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{{Version: "v1"}})
	for _, kind := range []string{writer.Pod, writer.Service, writer.Namespace} {
		mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: kind}, meta.RESTScopeNamespace)
	}
	live := &absent{away: 3}
	c := &collector{
		live: live, mapper: mapper, store: deps.Store, w: writer.New(deps, nil), log: slog.New(slog.DiscardHandler),
		every: time.Hour, retry: time.Millisecond, unknown: map[string]bool{},
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go c.Start(ctx)
	kubetest.Eventually(t, func() string {
		if left := deps.Store.Owners("Pod/"); len(left) > 0 {
			return "left: " + string(left[0])
		}
		return ""
	})
}

// asked is an API server of a cluster with that UID, without objects.
type asked struct {
	absent
	uid types.UID
}

func (a *asked) Get(_ context.Context, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	o.SetUID(a.uid)
	return nil
}

// What a kind that the server does not know has is collected in the second round
// in a row that says so, and nothing at all for another cluster.
func TestCollectorDoubts(t *testing.T) {
	deps, _ := kubetest.NewDeps(t)
	orphans(t, deps.Store)
	domain := intent.Put(ncp.DomainPath("c"), &intent.Domain{Resource: intent.Resource{Tags: []intent.Tag{{Scope: ncp.TagKubernetes, Tag: "mine"}}}})
	if _, problems, err := deps.Store.Replace(t.Context(), writer.SupervisorOwner("default"), domain.Object); err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	live := &asked{uid: "other"}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{{Group: "networking.k8s.io", Version: "v1"}})
	mapper.Add(schema.GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: writer.NetworkPolicy}, meta.RESTScopeNamespace)
	var log strings.Builder
	c := &collector{live: live, mapper: mapper, store: deps.Store, w: writer.New(deps, nil), log: slog.New(slog.NewTextHandler(&log, nil)), unknown: map[string]bool{}}
	has := func(when, prefix string, want bool) {
		t.Helper()
		if got := len(deps.Store.Owners(prefix)) > 0; got != want {
			t.Errorf("%s: %s: is there: %v", when, prefix, got)
		}
	}
	for range 3 {
		if c.collect(t.Context()) {
			t.Error("another cluster: all was looked at")
		}
	}
	for _, part := range []string{"cluster other:", "of cluster mine", "empty --data"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("log: no %q:\n%s", part, log.String())
		}
	}
	has("another cluster", "NetworkPolicy/", true)
	live.uid = "mine"
	if c.collect(t.Context()) {
		t.Error("unknown once: all was looked at")
	}
	has("first round", "NetworkPolicy/", false)
	has("first round", "Pod/", true)
	if !c.collect(t.Context()) {
		t.Error("unknown twice: not all was looked at")
	}
	has("second round", "Pod/", false)
	has("second round", "Supervisor/", false)
}
