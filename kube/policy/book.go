package policy

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// portName is a named port. A name means another port for each protocol.
type portName struct {
	namespace string // of the pods that count; empty: of all namespaces
	proto     corev1.Protocol
	name      string
}

// String returns <namespace>/<PROTO>/<name>, as indexes have it.
func (n portName) String() string { return n.namespace + "/" + string(n.proto) + "/" + n.name }

// portNames returns the named ports of a pod and their numbers, as the tags of
// its port have them. The names have no namespace.
func portNames(pod *corev1.Pod) map[portName][]int32 {
	var out map[portName][]int32
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range list {
			for _, p := range c.Ports {
				if p.Name == "" {
					continue
				}
				if out == nil {
					out = map[portName][]int32{}
				}
				n := portName{proto: cmp.Or(p.Protocol, corev1.ProtocolTCP), name: p.Name}
				out[n] = append(out[n], p.ContainerPort)
			}
		}
	}
	return out
}

// book knows which numbers pods have for named ports: those of each namespace, and
// those of all. It follows the events of pods, all of which have come before a
// controller looks at its first request.
type book struct {
	mu    sync.Mutex
	pods  map[portName]map[int32]map[types.UID]struct{}
	wants func(context.Context, portName) []reconcile.Request // who uses a named port
}

func newBook(wants func(context.Context, portName) []reconcile.Request) *book {
	return &book{pods: map[portName]map[int32]map[types.UID]struct{}{}, wants: wants}
}

// numbers implements NamedPorts.
func (b *book) numbers(namespace string, proto corev1.Protocol, name string) []int32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.pods[portName{namespace, proto, name}]))
}

// set notes what a pod has and returns the names whose numbers changed by it.
func (b *book) set(pod *corev1.Pod, gone bool) []portName {
	b.mu.Lock()
	defer b.mu.Unlock()
	var changed []portName
	for name, numbers := range portNames(pod) {
		for _, name.namespace = range []string{"", pod.Namespace} {
			before := len(b.pods[name])
			for _, n := range numbers {
				b.note(name, n, pod.UID, gone)
			}
			if len(b.pods[name]) != before {
				changed = append(changed, name)
			}
			if len(b.pods[name]) == 0 {
				delete(b.pods, name)
			}
		}
	}
	return changed
}

func (b *book) note(name portName, n int32, uid types.UID, gone bool) {
	if gone {
		delete(b.pods[name][n], uid)
		if len(b.pods[name][n]) == 0 {
			delete(b.pods[name], n)
		}
		return
	}
	if b.pods[name] == nil {
		b.pods[name] = map[int32]map[types.UID]struct{}{}
	}
	if b.pods[name][n] == nil {
		b.pods[name][n] = map[types.UID]struct{}{}
	}
	b.pods[name][n][uid] = struct{}{}
}

// handler keeps the book and brings the requests of policies that use a name
// whose numbers changed. The ports of a pod never change.
func (b *book) handler() handler.EventHandler {
	follow := func(ctx context.Context, pod *corev1.Pod, gone bool, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		for _, name := range b.set(pod, gone) {
			for _, r := range b.wants(ctx, name) {
				q.Add(r)
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			if pod, ok := e.Object.(*corev1.Pod); ok {
				follow(ctx, pod, false, q)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			before, ok1 := e.ObjectOld.(*corev1.Pod)
			after, ok2 := e.ObjectNew.(*corev1.Pod)
			if ok1 && ok2 && before.UID != after.UID { // gone and made anew while nobody looked
				follow(ctx, before, true, q)
				follow(ctx, after, false, q)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			if pod, ok := e.Object.(*corev1.Pod); ok {
				follow(ctx, pod, true, q)
			}
		},
	}
}
