package writer

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// How soon a request that is blocked comes back when the tree changed: at
// first, at most, and without any change, as held addresses become free by time
// alone.
const (
	soonest = 50 * time.Millisecond
	latest  = 5 * time.Second
	anyway  = 20 * time.Second
)

// waiting is the requests whose outcome may become another.
type waiting struct {
	deps Deps
	news chan struct{} // a wait came in

	mu      sync.Mutex
	queue   workqueue.TypedRateLimitingInterface[reconcile.Request] // nil: not started
	version store.Version                                           // the newest commit that was heard of
	pending map[reconcile.Request]expected                          // wait for another state of a version
	blocked map[reconcile.Request]store.Version                     // wait for a commit behind a version
	tries   map[reconcile.Request]int                               // how often a request was blocked in a row
}

// expected is the state of a version that was last told.
type expected struct {
	version store.Version
	state   State
}

func newWaiting(deps Deps) *waiting {
	return &waiting{
		deps: deps, news: make(chan struct{}, 1), pending: map[reconcile.Request]expected{},
		blocked: map[reconcile.Request]store.Version{}, tries: map[reconcile.Request]int{},
	}
}

// Source brings back the requests that were given to Await. A controller watches
// it by WatchesRawSource.
func (w *Writer) Source() source.Source {
	return source.Func(func(ctx context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		w.waiting.start(ctx, q)
		return nil
	})
}

// Await brings the request back as soon as its outcome may be another, and
// returns what the reconciler shall return: a request that is blocked comes back
// after a while in any case. An outcome that is realized ends the wait.
func (w *Writer) Await(r reconcile.Request, o Outcome) reconcile.Result {
	return w.waiting.add(r, o)
}

func (w *waiting) add(r reconcile.Request, o Outcome) reconcile.Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pending, r)
	delete(w.blocked, r)
	if !o.blocked {
		delete(w.tries, r)
		if o.State != Realized {
			w.pending[r] = expected{o.Version, o.State}
			select {
			case w.news <- struct{}{}:
			default:
			}
		}
		return reconcile.Result{}
	}
	w.tries[r]++
	w.blocked[r] = o.seen
	w.retry(r)
	return reconcile.Result{RequeueAfter: anyway}
}

// retry brings back a blocked request if there was a commit since.
func (w *waiting) retry(r reconcile.Request) {
	if w.queue == nil || w.blocked[r] >= w.version {
		return
	}
	delete(w.blocked, r)
	w.queue.AddAfter(r, min(soonest<<min(w.tries[r]-1, 16), latest))
}

// start follows realization and store until ctx ends.
func (w *waiting) start(ctx context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	var v store.Version
	w.deps.Store.Read(func(_ *intent.Tree, now store.Version) { v = now })
	w.mu.Lock()
	w.queue, w.version = q, v
	w.mu.Unlock()
	go w.follow(ctx, v)
	go w.realize(ctx)
}

// follow retries what is blocked whenever there is a commit.
func (w *waiting) follow(ctx context.Context, v store.Version) {
	for e := range w.deps.Store.Watch(ctx, v) {
		w.mu.Lock()
		w.version = e.Version
		for r := range w.blocked {
			w.retry(r)
		}
		w.mu.Unlock()
	}
}

// realize brings back what has another state than it knows.
func (w *waiting) realize(ctx context.Context) {
	for {
		changed := w.deps.Realization.Changed()
		w.settle()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-w.news:
		}
	}
}

// settle brings back the requests whose version has another state than they
// know.
func (w *waiting) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	states := map[store.Version]State{}
	for r, e := range w.pending {
		s, ok := states[e.version]
		if !ok {
			s, _ = w.deps.Realization.State(e.version)
			states[e.version] = s
		}
		if s != e.state {
			delete(w.pending, r)
			w.queue.Add(r)
		}
	}
}

// Changes brings requests whenever there is a commit. fn returns those that the
// changed paths concern; nil paths: everything may be another. A request comes
// after the delay, once for all commits meanwhile.
func Changes(deps Deps, delay time.Duration, fn func(paths []string) []reconcile.Request) source.Source {
	return source.Func(func(ctx context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		var v store.Version
		deps.Store.Read(func(_ *intent.Tree, now store.Version) { v = now })
		go func() {
			for e := range deps.Store.Watch(ctx, v) {
				for _, r := range fn(e.Changed) {
					q.AddAfter(r, delay)
				}
			}
		}()
		return nil
	})
}
