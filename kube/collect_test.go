package kube

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/internal/kubetest"
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
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{writer.Pod, writer.Service, writer.Namespace} {
		mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: kind}, meta.RESTScopeNamespace)
	}
	live := &absent{away: 3}
	c := &collector{
		live: live, mapper: mapper, store: deps.Store, w: writer.New(deps, nil), log: slog.New(slog.DiscardHandler),
		every: time.Hour, retry: time.Millisecond,
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
