package kubelet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// idle is how long a pod that is as it should be is left alone.
const idle = refreshTime

// Reasons why a container waits. Source: kubernetes, pkg/kubelet/container/sync_result.go.
const (
	reasonCreating = "ContainerCreating"
	reasonInit     = "PodInitializing"
	reasonImage    = "ImagePullBackOff"
	reasonConfig   = "CreateContainerConfigError"
	reasonStart    = "RunContainerError"
	reasonCrash    = "CrashLoopBackOff"
)

// advance brings a pod nearer to what the API says, and returns when to look
// again.
func (p *pod) advance(ctx context.Context, api *corev1.Pod) time.Duration {
	if wait := time.Until(p.retry); wait > 0 && !p.record.Sandbox.alive() {
		return wait
	}
	if err := p.ensureSandbox(ctx, api); err != nil {
		return p.failed(ctx, api, "FailedCreatePodSandBox", "pod sandbox: ", err)
	}
	api = p.addressed(api)
	if wait := time.Until(p.retry); wait > 0 && p.volumes == nil {
		return wait
	}
	if p.volumes == nil || time.Since(p.fresh) >= refreshTime {
		limit, cancel := context.WithTimeout(ctx, callTime)
		volumes, err := p.node.builder.volumes(limit, api, filepath.Join(p.dir, "volumes"), &p.tokens)
		cancel()
		if err != nil && p.volumes == nil {
			return p.failed(ctx, api, "FailedMount", "", err)
		}
		if err == nil {
			p.volumes, p.failures = volumes, 0
		}
		p.fresh = time.Now() // what was there stays while the API is away
	}
	next := idle
	if !p.advanceInit(ctx, api, &next) {
		return next
	}
	for i := range api.Spec.Containers {
		next = min(next, p.ensure(ctx, api, &api.Spec.Containers[i], api.Spec.RestartPolicy))
	}
	return next
}

// failed tells people that the pod can not go on for now, and returns when to
// try again.
func (p *pod) failed(ctx context.Context, api *corev1.Pod, reason, what string, err error) time.Duration {
	if ctx.Err() != nil || errors.Is(err, errLeaving) {
		return 0
	}
	p.node.event(api, corev1.EventTypeWarning, reason, what+err.Error())
	for _, c := range allContainers(api) {
		p.waiting[c.Name] = waiting{reasonCreating, what + err.Error()}
	}
	wait := p.later()
	p.retry = time.Now().Add(wait)
	return wait
}

var errLeaving = errors.New("the pod is to end")

// ensureSandbox makes the pod's namespaces, anew if they are lost.
func (p *pod) ensureSandbox(ctx context.Context, api *corev1.Pod) error {
	if box := p.record.Sandbox; box.alive() {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-p.leaving:
			cancel(errLeaving)
		case <-ctx.Done():
		}
	}()
	if err := p.node.sandboxes.create(ctx, p.dir, p.record, hostnameOf(api), api.Spec.HostNetwork); err != nil {
		if errors.Is(context.Cause(ctx), errLeaving) {
			return errLeaving
		}
		return err
	}
	p.volumes, p.failures, p.retry = nil, 0, time.Time{}
	p.follow(p.node.ctx)
	return nil
}

// addressed returns api with the addresses that its status has not yet.
func (p *pod) addressed(api *corev1.Pod) *corev1.Pod {
	api = api.DeepCopy()
	p.addresses(&api.Status)
	return api
}

func (p *pod) addresses(s *corev1.PodStatus) {
	s.HostIP = p.node.config.hostIP()
	s.HostIPs = []corev1.HostIP{{IP: s.HostIP}}
	s.PodIP, s.PodIPs = "", nil
	box := p.record.Sandbox
	if box == nil {
		return
	}
	ips := box.IPs
	if box.Netns == "" {
		ips = []string{s.HostIP}
	}
	for _, ip := range ips {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(ips) > 0 {
		s.PodIP = ips[0]
	}
}

// advanceInit runs the init containers, one after the other, and says whether
// all of them are done and sidecars started. It lowers next to when to look again.
func (p *pod) advanceInit(ctx context.Context, api *corev1.Pod, next *time.Duration) bool {
	for i := range api.Spec.InitContainers {
		c := &api.Spec.InitContainers[i]
		if sidecar(c) {
			*next = min(*next, p.ensure(ctx, api, c, corev1.RestartPolicyAlways))
			if started, _ := p.checked(c); !started {
				return p.initialized()
			}
			continue
		}
		if p.initDone(c) || p.initialized() {
			continue
		}
		restart := corev1.RestartPolicyOnFailure
		if api.Spec.RestartPolicy == corev1.RestartPolicyNever {
			restart = corev1.RestartPolicyNever
		}
		*next = min(*next, p.ensure(ctx, api, c, restart))
		return false
	}
	return true
}

// initDone says whether an init container has done its work for the sandbox
// that there is.
func (p *pod) initDone(c *corev1.Container) bool {
	r := p.record.container(c.Name)
	return r.Now != nil && !r.Now.Running && r.Now.Exit == 0 && p.record.Sandbox != nil && r.Box == p.record.Sandbox.ID
}

// initialized says whether a container that is no init container was started in
// the sandbox that there is.
func (p *pod) initialized() bool {
	api, _ := p.current()
	for i := range api.Spec.Containers {
		if r := p.record.container(api.Spec.Containers[i].Name); p.record.Sandbox != nil && r.Box == p.record.Sandbox.ID {
			return true
		}
	}
	return false
}

// ensure makes a container run, again if policy says so, unless it is done. It
// returns when to look again.
func (p *pod) ensure(ctx context.Context, api *corev1.Pod, c *corev1.Container, policy corev1.RestartPolicy) time.Duration {
	r := p.record.container(c.Name)
	if r.running() {
		delete(p.waiting, c.Name)
		return p.keep(ctx, api, c)
	}
	if r.Now != nil && done(r.Now, policy) && (r.Box == p.record.Sandbox.ID || !isInit(api, c)) {
		return idle
	}
	wait := p.backoff(r)
	if w, ok := p.waiting[c.Name]; ok && w.reason != reasonCreating && w.reason != reasonInit && w.reason != reasonCrash {
		wait = max(wait, time.Until(p.retry))
	}
	if wait > 0 {
		if _, ok := p.waiting[c.Name]; !ok {
			text := fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", p.delay(r), c.Name, p.name())
			p.waiting[c.Name] = waiting{reasonCrash, text}
			p.node.event(api, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container "+c.Name)
		}
		return wait
	}
	return p.start(ctx, api, c)
}

// isInit says whether c is to run again in each new sandbox.
func isInit(api *corev1.Pod, c *corev1.Container) bool {
	return slices.ContainsFunc(api.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.Name })
}

// done says whether a run that ended was the last one.
func done(s *state, policy corev1.RestartPolicy) bool {
	return policy == corev1.RestartPolicyNever || policy == corev1.RestartPolicyOnFailure && s.Exit == 0
}

// delay is how long a container that ended again and again waits: the first
// time not at all.
func (p *pod) delay(r *containerRecord) time.Duration {
	b := p.node.config.Backoff
	if r.Now == nil || r.Streak <= 1 {
		return 0
	}
	return min(b.First<<min(r.Streak-2, 20), b.Most)
}

// backoff returns how long a container is to wait yet.
func (p *pod) backoff(r *containerRecord) time.Duration {
	if r.Now == nil {
		return 0
	}
	return time.Until(r.Now.Finished.Add(p.delay(r)))
}

// keep looks after a container that runs.
func (p *pod) keep(ctx context.Context, api *corev1.Pod, c *corev1.Container) time.Duration {
	if p.checks[c.Name] == nil {
		p.check(api, c, wasReady(api, c.Name))
	}
	_, _, dead := p.checks[c.Name].now()
	if dead == "" && p.stopping[c.Name] == nil {
		return idle
	}
	if p.stopping[c.Name] == nil {
		p.node.event(api, corev1.EventTypeNormal, "Killing", fmt.Sprintf("Container %s failed its %s, it will be restarted", c.Name, dead))
	}
	grace := gracePeriod(api)
	if probe := c.LivenessProbe; probe != nil && probe.TerminationGracePeriodSeconds != nil {
		grace = time.Duration(*probe.TerminationGracePeriodSeconds) * time.Second
	}
	return p.stopContainer(ctx, api, c, time.Now().Add(grace))
}

func gracePeriod(api *corev1.Pod) time.Duration {
	if api.Spec.TerminationGracePeriodSeconds == nil {
		return corev1.DefaultTerminationGracePeriodSeconds * time.Second
	}
	return time.Duration(*api.Spec.TerminationGracePeriodSeconds) * time.Second
}

func wasReady(api *corev1.Pod, container string) bool {
	for _, s := range append(api.Status.InitContainerStatuses, api.Status.ContainerStatuses...) {
		if s.Name == container {
			return s.Ready && s.State.Running != nil
		}
	}
	return false
}

// checked returns what probes say of a container that runs.
func (p *pod) checked(c *corev1.Container) (started, ready bool) {
	k := p.checks[c.Name]
	if k == nil || !p.record.container(c.Name).running() {
		return false, false
	}
	started, ready, _ = k.now()
	return started, ready && p.stopping[c.Name] == nil
}

// check begins the probes of a container that runs.
func (p *pod) check(api *corev1.Pod, c *corev1.Container, wasReady bool) {
	ctx, cancel := context.WithCancel(p.node.ctx)
	k := &checks{cancel: cancel}
	p.checks[c.Name] = k
	k.watch(ctx, p.target(c), wasReady, p.poke, func(kind, text string) {
		p.node.event(api, corev1.EventTypeWarning, "Unhealthy", kind+" probe failed: "+text)
	})
}

// start starts a container.
func (p *pod) start(ctx context.Context, api *corev1.Pod, c *corev1.Container) time.Duration {
	refuse := func(reason string, err error) time.Duration {
		p.waiting[c.Name] = waiting{reason, err.Error()}
		p.node.event(api, corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
		p.retry = time.Now().Add(p.later())
		return time.Until(p.retry)
	}
	if _, err := p.node.config.Images.Find(c.Image); err != nil {
		return refuse(reasonImage, err)
	}
	limit, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	n := p.record.container(c.Name).Runs + 1
	s, err := p.node.builder.build(limit, api, c, n, p.dir, p.volumes, p.node.services())
	if err != nil {
		return refuse(reasonConfig, err)
	}
	delete(p.waiting, c.Name)
	p.failures = 0
	p.record.begin(c.Name)
	if err := p.record.save(p.dir); err != nil {
		return refuse(reasonStart, err)
	}
	p.node.starts <- struct{}{}
	_, err = call(p.dir, request{Op: opStart, Spec: s})
	<-p.node.starts
	if err != nil {
		now := time.Now()
		p.record.container(c.Name).end(state{ID: s.ID, Started: now, Finished: now, Exit: 128, Failure: err.Error()})
		return refuse(reasonStart, err)
	}
	p.node.event(api, corev1.EventTypeNormal, "Started", "Started container "+c.Name)
	p.check(api, c, false)
	if c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
		go p.postStart(api, p.target(c), s.ID)
	}
	return idle
}

// postStart runs a container's first hook. One that fails ends the container.
func (p *pod) postStart(api *corev1.Pod, t target, run string) {
	err := t.hook(p.node.ctx, t.container.Lifecycle.PostStart)
	if err == nil || p.node.ctx.Err() != nil {
		return
	}
	p.node.event(api, corev1.EventTypeWarning, "FailedPostStartHook", fmt.Sprintf("container %s: %v", t.container.Name, err))
	call(t.dir, request{Op: opSignal, Container: t.container.Name, Run: run, Signal: 15})
}

// finish takes away what a pod that has done its work, or failed, does not need
// any more. Its logs stay until it is deleted.
func (p *pod) finish(ctx context.Context, api *corev1.Pod) time.Duration {
	if p.record.Sandbox == nil {
		return time.Hour
	}
	if p.record.Sandbox.alive() {
		if wait := p.stop(ctx, api, time.Now().Add(gracePeriod(api))); wait > 0 {
			return wait
		}
	}
	if err := p.node.sandboxes.remove(ctx, p.dir, p.record); err != nil {
		p.node.event(api, corev1.EventTypeWarning, "FailedKillPod", err.Error())
		return p.later()
	}
	return 0
}

// terminate ends a pod that is to be deleted, and deletes it once nothing of it
// runs.
func (p *pod) terminate(ctx context.Context, api *corev1.Pod) time.Duration {
	if p.record.Sandbox != nil && p.record.Sandbox.alive() {
		end := api.DeletionTimestamp.Add(time.Second) // its fraction of a second was cut off
		if wait := p.stop(ctx, api, end); wait > 0 {
			return wait
		}
	}
	if p.record.Sandbox != nil {
		if err := p.node.sandboxes.remove(ctx, p.dir, p.record); err != nil {
			p.node.event(api, corev1.EventTypeWarning, "FailedKillPod", err.Error())
			return p.later()
		}
	}
	if err := p.observe(); err != nil { // what ran has ended
		return p.later()
	}
	if err := p.report(ctx, api); err != nil {
		return p.later()
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	now := int64(0)
	err := p.node.client.CoreV1().Pods(api.Namespace).Delete(ctx, api.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &api.UID},
	})
	if gone(err) {
		p.update(nil)
		return 0
	}
	if err != nil {
		return p.later()
	}
	return 5 * time.Second // the API tells when it is gone
}
