package scale

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-net/weft/table"
)

// Phase is one kind of objects, loaded as fast as the API server takes them.
type Phase struct {
	Name     string  `json:"name"`
	Objects  int     `json:"objects"`
	Loaded   float64 `json:"loaded_seconds"`  // until the API server had them all
	InForce  float64 `json:"inforce_seconds"` // until the agent had what follows from them in force
	Commits  int64   `json:"commits"`         // of the store meanwhile; of etcd's revisions
	WeftdCPU float64 `json:"weftd_cpu_seconds"`
	AgentCPU float64 `json:"agent_cpu_seconds"`
	WeftdRSS int64   `json:"weftd_rss_bytes"` // at the end
}

var created = metav1.CreateOptions{}

// load makes everything that is there before something is measured.
func (r *rig) load(ctx context.Context, rep *Report) error {
	r.pods = make([]known, r.c.Pods)
	addrs := make([]netip.Addr, r.c.Pods)
	phases := []struct {
		name string
		n    int
		make func(ctx context.Context, i int) error
	}{
		{"namespaces", r.c.Namespaces, func(ctx context.Context, i int) error {
			if _, err := r.kube.CoreV1().Namespaces().Create(ctx, namespace(i), created); err != nil {
				return err
			}
			_, err := r.kube.CoreV1().ServiceAccounts(namespaceName(i)).Create(ctx, account(i), created)
			return err
		}},
		{"pods", r.c.Pods, func(ctx context.Context, i int) error {
			p := r.c.pod(i)
			have, err := r.kube.CoreV1().Pods(p.Namespace).Create(ctx, p, created)
			if err == nil {
				r.pods[i] = known{types.NamespacedName{Namespace: have.Namespace, Name: have.Name}, have.UID}
			}
			return err
		}},
		{"pods run", r.c.Pods, func(ctx context.Context, i int) error {
			return r.report(ctx, r.pods[i].name, addrs[i])
		}},
		{"services", r.c.Services, func(ctx context.Context, i int) error {
			s := r.c.service(i)
			if _, err := r.kube.CoreV1().Services(s.Namespace).Create(ctx, s, created); err != nil {
				return err
			}
			_, err := r.kube.DiscoveryV1().EndpointSlices(s.Namespace).Create(ctx, r.c.endpoints(i, addrs), created)
			return err
		}},
		{"network policies", r.c.Policies, func(ctx context.Context, i int) error {
			p := r.c.policy(i)
			_, err := r.kube.NetworkingV1().NetworkPolicies(p.Namespace).Create(ctx, p, created)
			return err
		}},
	}
	for _, p := range phases {
		phase, err := r.phase(ctx, p.name, p.n, p.make)
		rep.Phases = append(rep.Phases, phase)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if p.name == "pods" {
			if addrs, err = r.addresses(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// resume waits until what an earlier run loaded is in force again.
func (r *rig) resume(ctx context.Context, rep *Report) error {
	phase, err := r.phase(ctx, "everything again", r.c.Namespaces+r.c.Pods+r.c.Services+r.c.Policies, nil)
	rep.Phases = append(rep.Phases, phase)
	return err
}

// report makes a pod Running, as its kubelet would.
func (r *rig) report(ctx context.Context, name types.NamespacedName, a netip.Addr) error {
	pods := r.kube.CoreV1().Pods(name.Namespace)
	body := fmt.Sprintf(`{"status":{"phase":"Running","podIP":"%s","podIPs":[{"ip":"%s"}],"conditions":[{"type":"Ready","status":"True"}]}}`, a, a)
	_, err := pods.Patch(ctx, name.Name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}, "status")
	return err
}

// addresses returns those of the pods that were loaded, by number.
// Errors: one of them has none.
func (r *rig) addresses(ctx context.Context) ([]netip.Addr, error) {
	set, err := r.tables(ctx)
	if err != nil {
		return nil, err
	}
	ports := map[table.PortID]string{}
	for id, p := range set.Ports.All() {
		ports[id] = p.Attachment
	}
	byUID := map[string]netip.Addr{}
	for key, e := range set.Endpoints.All() {
		byUID[ports[e.Port]] = key.Addr
	}
	out := make([]netip.Addr, len(r.pods))
	for i, p := range r.pods {
		if out[i] = byUID[string(p.uid)]; !out[i].IsValid() {
			return nil, fmt.Errorf("pod %s: has no address in the tables of %s", p.name, node)
		}
	}
	return out, nil
}

// phase makes n objects and waits until all that follows is in force. A nil make:
// they are there.
func (r *rig) phase(ctx context.Context, name string, n int, make func(context.Context, int) error) (p Phase, err error) {
	p = Phase{Name: name, Objects: n}
	before, err := r.mark(ctx)
	if err != nil {
		return p, err
	}
	start := time.Now()
	if make != nil {
		if err := r.each(ctx, name, n, make); err != nil {
			return p, err
		}
	}
	p.Loaded = time.Since(start).Seconds()
	r.c.Progress(fmt.Sprintf("%s: waiting until they are in force", name))
	at, err := r.settle(ctx)
	if err != nil {
		return p, err
	}
	p.InForce = max(p.Loaded, at.Sub(start).Seconds())
	after, err := r.mark(ctx)
	if err != nil {
		return p, err
	}
	p.Commits, p.WeftdCPU, p.AgentCPU = after.version-before.version, after.weftd.CPUSeconds-before.weftd.CPUSeconds, after.agent.CPUSeconds-before.agent.CPUSeconds
	p.WeftdRSS = after.weftd.RSSBytes
	r.c.Progress(p.String())
	return p, nil
}

// each calls make for 0 to n-1, as many at a time as the configuration says.
func (r *rig) each(ctx context.Context, name string, n int, make func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var running sync.WaitGroup
	for range min(r.c.Parallel, n) {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := make(ctx, i); err != nil {
					cancel(err)
				}
				if i > 0 && i%2000 == 0 {
					r.c.Progress(fmt.Sprintf("%s: %d of %d", name, i, n))
				}
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// Times of settle.
const (
	quiet       = 3 * time.Second
	settledTime = time.Hour
)

// settle waits until the agent has in force what weftd has, and nothing was
// committed for a while. It returns since when.
func (r *rig) settle(ctx context.Context) (since time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, settledTime)
	defer cancel()
	last := int64(-1)
	for {
		s, err := r.status(ctx)
		if err != nil {
			return since, err
		}
		has, err := s.inForce()
		switch {
		case err != nil:
			return since, err
		case has < s.Version:
			last = -1
		case s.Version != last:
			last, since = s.Version, time.Now()
		case time.Since(since) > quiet:
			return since, nil
		}
		select {
		case <-ctx.Done():
			return since, fmt.Errorf("node %s: has version %d in force, the store is at %d: %w", node, has, s.Version, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// mark is what was used until now.
type mark struct {
	version      int64
	weftd, agent Usage
}

func (r *rig) mark(ctx context.Context) (m mark, err error) {
	s, err := r.status(ctx)
	if err != nil {
		return m, err
	}
	m.version = s.Version
	if m.weftd, err = r.weftd.usage(); err != nil {
		return m, err
	}
	m.agent, err = r.agent.usage()
	return m, err
}
