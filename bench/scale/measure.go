package scale

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/kube/ncp"
)

// Names of what is measured.
const (
	policyStored   = "policy: create → in the store"
	policyEnforced = "policy: create → in force in the kernel"
	packetStopped  = "policy: create → the first packet is dropped"
	packetPasses   = "policy: delete → the first packet passes"
	podAdd         = "pod: CNI ADD, by weft-cni → it can send"
	podCreated     = "pod: create → it can send"
)

// measure takes all samples.
func (r *rig) measure(ctx context.Context, rep *Report) error {
	for _, step := range []struct {
		name string
		do   func(context.Context, *Report) error
	}{{"policies", r.measurePolicies}, {"packets", r.measurePackets}, {"pods", r.measurePods}} {
		if err := r.idle(ctx); err != nil {
			return err
		}
		r.c.Progress("measuring " + step.name)
		if err := step.do(ctx, rep); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// idle waits until weftd and the agent do nothing, but not for ever.
func (r *rig) idle(ctx context.Context) error {
	const pause, few, longest = 2 * time.Second, 0.1, 60
	r.c.Progress("waiting until all is quiet")
	if _, err := r.settle(ctx); err != nil {
		return err
	}
	for range longest {
		before, err := r.mark(ctx)
		if err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		after, err := r.mark(ctx)
		if err != nil {
			return err
		}
		if after.weftd.CPUSeconds-before.weftd.CPUSeconds+after.agent.CPUSeconds-before.agent.CPUSeconds < few*pause.Seconds() {
			return nil
		}
	}
	return nil
}

// measurePolicies makes policies like those that are there, one after another,
// and takes them away.
func (r *rig) measurePolicies(ctx context.Context, rep *Report) (err error) {
	var made []*netv1.NetworkPolicy
	defer func() {
		for _, p := range made {
			err = errors.Join(err, r.kube.NetworkingV1().NetworkPolicies(p.Namespace).Delete(context.WithoutCancel(ctx), p.Name, metav1.DeleteOptions{}))
		}
	}()
	for n := range r.c.Samples {
		p := r.c.policy(r.c.Policies + n*7) // of all kinds, in all namespaces
		p.Name = ""
		p.GenerateName = "sample-"
		start := time.Now()
		have, err := r.kube.NetworkingV1().NetworkPolicies(p.Namespace).Create(ctx, p, created)
		if err != nil {
			return err
		}
		made = append(made, have)
		path := ncp.NetworkPolicyIsolationPath(clusterID, string(have.UID))
		revision, err := r.stored(ctx, path)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", have.Namespace, have.Name, err)
		}
		rep.add(policyStored, time.Since(start))
		if err := r.enforced(ctx, revision); err != nil {
			return fmt.Errorf("%s/%s: %w", have.Namespace, have.Name, err)
		}
		rep.add(policyEnforced, time.Since(start))
	}
	return nil
}

// Waits for one sample.
const (
	sampleTime = 30 * time.Second
	glance     = 2 * time.Millisecond // between two looks
)

// stored waits until weftd has an object, and returns the version that wrote it.
func (r *rig) stored(ctx context.Context, path string) (int64, error) {
	var o struct {
		Revision int64 `json:"_revision"`
	}
	err := r.until(ctx, func() (bool, error) {
		err := r.ask(ctx, http.MethodGet, "/policy/api/v1"+path, nil, &o)
		if errors.Is(err, errMissing) {
			return false, nil
		}
		return err == nil, err
	})
	return o.Revision, err
}

// enforced waits until the agent acknowledged a version, which it does when the
// kernel goes by it.
func (r *rig) enforced(ctx context.Context, version int64) error {
	return r.until(ctx, func() (bool, error) {
		s, err := r.status(ctx)
		if err != nil {
			return false, err
		}
		has, err := s.inForce()
		return has >= version, err
	})
}

func (r *rig) until(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, sampleTime)
	defer cancel()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", sampleTime, ctx.Err())
		case <-time.After(glance):
		}
	}
}

// machine is a pod that has a network namespace.
type machine struct {
	pod  *corev1.Pod
	ns   *netns.Namespace
	addr netip.Addr // once it is attached
}

// machine returns a pod that is not there yet, and where it will be.
func (r *rig) machine(namespace, name string, labels map[string]string) (*machine, error) {
	ns, err := netns.New(Prefix + name)
	if err != nil {
		return nil, err
	}
	p := r.c.pod(0)
	p.ObjectMeta = metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}
	return &machine{pod: p, ns: ns}, nil
}

// run makes the pod and attaches it, as its kubelet would. It returns when each
// of the two began.
func (r *rig) run(ctx context.Context, m *machine) (create, add time.Time, err error) {
	create = time.Now()
	have, err := r.kube.CoreV1().Pods(m.pod.Namespace).Create(ctx, m.pod, created)
	if err != nil {
		return create, add, err
	}
	add = time.Now()
	m.addr, err = r.plugin.add(ctx, m, string(have.UID))
	return create, add, err
}

// remove takes a pod away.
func (r *rig) remove(ctx context.Context, m *machine) error {
	now := int64(0)
	err := r.kube.CoreV1().Pods(m.pod.Namespace).Delete(ctx, m.pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	return errors.Join(err, r.plugin.del(ctx, m), m.ns.Close(), netns.Delete(m.ns.Name()))
}

// measurePods makes pods at a rate, and takes them away when all run.
func (r *rig) measurePods(ctx context.Context, rep *Report) error {
	machines := make([]*machine, 0, r.c.Samples)
	prefix := fmt.Sprintf("pod-%x-", time.Now().Unix()) // those that a run left, which did not come to its end, are not in the way
	for i := range r.c.Samples {
		labels := map[string]string{appLabel: appOf(i), tierLabel: tierOf(i), "pod-template-hash": "5d8f7c"}
		m, err := r.machine(namespaceName(i*7%r.c.Namespaces), prefix+strconv.Itoa(i), labels)
		if err != nil {
			return err
		}
		machines = append(machines, m)
	}
	var mu sync.Mutex
	var running sync.WaitGroup
	var failed error
	tick := time.NewTicker(time.Second / time.Duration(r.c.Rate))
	defer tick.Stop()
	for _, m := range machines {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		running.Go(func() {
			create, add, err := r.run(ctx, m)
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", m.pod.Name, err))
				return
			}
			rep.add(podCreated, now.Sub(create))
			rep.add(podAdd, now.Sub(add))
			running.Go(func() { r.report(ctx, types.NamespacedName{Namespace: m.pod.Namespace, Name: m.pod.Name}, m.addr) })
		})
	}
	running.Wait()
	for _, m := range machines {
		failed = errors.Join(failed, r.remove(ctx, m))
	}
	return failed
}
