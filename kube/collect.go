package kube

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/weft-net/weft/kube/tenant"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// groupOf returns the API group of a kind of owners.
func groupOf(kind string) string {
	switch kind {
	case writer.Supervisor:
		return v1alpha1.Group
	case writer.NetworkPolicy:
		return "networking.k8s.io"
	case writer.AdminNetworkPolicy, writer.BaselineAdminPolicy, writer.ClusterNetworkPolicy:
		return "policy.networking.k8s.io"
	}
	return ""
}

// collector takes away what owners have whose object is gone, on start and from
// time to time. Controllers see what goes while they run; this is for what went
// while none did.
type collector struct {
	live   client.Reader // asks the server, no cache
	mapper meta.RESTMapper
	store  *store.Store
	w      *writer.Writer
	log    *slog.Logger
	every  time.Duration
	retry  time.Duration // after a round in which something could not be looked at

	unknown map[string]bool // kinds that the server did not know in the last round
}

// collectRetry is the collector's retry: the API server may be away when this
// process starts.
const collectRetry = 10 * time.Second

func newCollector(mgr manager.Manager, o Options, deps writer.Deps) *collector {
	c := &collector{live: mgr.GetAPIReader(), mapper: mgr.GetRESTMapper(), store: o.Store, w: writer.New(deps, nil), log: o.Log, every: o.Collect, retry: collectRetry, unknown: map[string]bool{}}
	if c.every <= 0 {
		c.every = collectDefault
	}
	return c
}

// Start implements manager.Runnable.
func (c *collector) Start(ctx context.Context) error {
	for {
		next := c.every
		if !c.collect(ctx) {
			next = min(next, c.retry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(next):
		}
	}
}

// collect is one round; whether all kinds could be looked at. One that cannot be
// listed is left as it is. Of another cluster than the store's nothing follows:
// there all objects are missing.
func (c *collector) collect(ctx context.Context) (complete bool) {
	if err := tenant.CheckCluster(ctx, c.live, c.store); err != nil {
		if ctx.Err() == nil {
			c.log.Error("owners whose object is gone are not looked for", "err", err)
		}
		return false
	}
	complete = true
	for _, kind := range writer.Kinds() {
		if err := c.kind(ctx, schema.GroupKind{Group: groupOf(kind), Kind: kind}); err != nil && ctx.Err() == nil {
			c.log.Error("owners whose object is gone cannot be looked for", "kind", kind, "err", err)
			complete = false
		}
	}
	return complete
}

// kind collects the owners of one kind. They are read before the objects, so
// that one whose object comes meanwhile is not taken for an orphan.
func (c *collector) kind(ctx context.Context, kind schema.GroupKind) error {
	owners := c.store.Owners(writer.Prefix(kind.Kind, types.NamespacedName{}))
	if len(owners) == 0 {
		return nil
	}
	there, err := c.objects(ctx, kind)
	if err != nil {
		return err
	}
	for _, o := range owners {
		if there[o] {
			continue
		}
		out, err := c.w.Delete(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
		c.log.Info("owner without object", "owner", o, "gone", out.Written(), "why", out.Message)
	}
	return nil
}

// page is how many objects are asked for at once.
const page = 500

// objects returns the owners that the cluster has objects of a kind for. A kind
// that the cluster does not know has none, if it says so twice in a row: a server
// that starts, or whose extensions are away, may not know its kinds for a moment.
func (c *collector) objects(ctx context.Context, kind schema.GroupKind) (map[store.Owner]bool, error) {
	out := map[store.Owner]bool{}
	mapping, err := c.mapper.RESTMapping(kind)
	before, unknown := c.unknown[kind.Kind], meta.IsNoMatchError(err)
	c.unknown[kind.Kind] = unknown
	if unknown && before {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("mapping: %w", err)
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(mapping.GroupVersionKind.GroupVersion().WithKind(kind.Kind + "List"))
	for {
		if err := c.live.List(ctx, list, client.Limit(page), client.Continue(list.Continue)); err != nil {
			return nil, fmt.Errorf("list: %w", err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			if kind.Kind == writer.Supervisor {
				out[writer.SupervisorOwner(o.Name)] = true
			}
			out[writer.Owner(kind.Kind, o)] = true
		}
		if list.Continue == "" {
			return out, nil
		}
		list.Items = slices.Clip(list.Items[:0])
	}
}
