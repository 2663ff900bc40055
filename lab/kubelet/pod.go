package kubelet

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// pod makes one pod of the node be as the API says. One goroutine does, run;
// everybody else tells it by mu and wake.
type pod struct {
	node *Kubelet
	dir  string
	wake chan struct{}
	seen atomic.Pointer[view]

	mu       sync.Mutex
	api      *corev1.Pod      // newest; nil: it is gone, or nobody knows yet
	gone     bool             // the API does not have it
	leaving  chan struct{}    // closed once it is to end or is gone
	told     map[string]state // by pod-init, of the sandbox toldBy
	toldBy   string
	lost     string // ID of the sandbox whose pod-init is gone
	released bool

	// Of run alone.
	record   *record
	tokens   tokens
	waiting  map[string]waiting // containers that do not run, and why
	checks   map[string]*checks // by container, of its newest run
	stopping map[string]*stopping
	volumes  map[string]string // where they are
	fresh    time.Time         // when volumes were looked at
	failures int               // of advance, in succession
	retry    time.Time         // until then it does not advance
}

// waiting is why a container does not run.
type waiting struct{ reason, message string }

// stopping is a run that was asked to end.
type stopping struct {
	id       string
	deadline time.Time // then it is killed
}

// view is what others may know of a pod.
type view struct {
	dir     string
	uid     string
	netns   string
	address string
	alive   bool            // its namespaces are there
	runs    map[string]int  // how often containers were started
	going   map[string]bool // containers that run
	streams map[string]corev1.Container
}

func newPod(k *Kubelet, r *record) *pod {
	return &pod{
		node: k, dir: k.podDir(r.UID), wake: make(chan struct{}, 1), leaving: make(chan struct{}), record: r,
		waiting: map[string]waiting{}, checks: map[string]*checks{}, stopping: map[string]*stopping{},
	}
}

// poke makes run look again.
func (p *pod) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// update tells what the API says; nil: it is gone.
func (p *pod) update(api *corev1.Pod) {
	p.mu.Lock()
	if api == nil {
		p.gone = true
	} else {
		p.api = api
	}
	if (p.gone || api.DeletionTimestamp != nil) && !p.released {
		p.released = true
		close(p.leaving)
	}
	p.mu.Unlock()
	p.poke()
}

func (p *pod) current() (api *corev1.Pod, gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.api, p.gone
}

// run makes the pod be as the API says until it is gone and nothing is left of
// it, or ctx ends.
func (p *pod) run(ctx context.Context) {
	if p.record.Sandbox.alive() {
		p.adopt()
		p.follow(ctx)
	}
	for {
		next, done := p.sync(ctx)
		if done || ctx.Err() != nil {
			p.stopChecks()
			return
		}
		timer := time.NewTimer(next)
		select {
		case <-p.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// adopt notes that a run was begun, but never came to be, when weft-node was
// killed in between.
func (p *pod) adopt() {
	s, err := open(p.dir, request{Op: opWatch})
	if err != nil {
		return // follow finds out what became of it
	}
	defer s.close()
	r, err := s.receive()
	if err != nil {
		return
	}
	for name, c := range p.record.Containers {
		if told, ok := r.Containers[name]; c.running() && (!ok || told.ID != c.Now.ID) {
			now := time.Now()
			c.end(state{ID: c.Now.ID, Started: now, Finished: now, Exit: 128, Failure: "the node's kubelet was killed while it started"})
		}
	}
}

// follow tells run what pod-init says of the sandbox.
func (p *pod) follow(ctx context.Context) {
	box := p.record.Sandbox
	id := box.ID
	go func() {
		defer p.poke()
		for ctx.Err() == nil && box.alive() {
			p.listen(ctx, id)
			pause(ctx, 50*time.Millisecond) // it is ending, or was about to listen
		}
		if ctx.Err() == nil {
			p.mu.Lock()
			p.lost = id
			p.mu.Unlock()
		}
	}()
}

// listen hears one pod-init until it is silent.
func (p *pod) listen(ctx context.Context, id string) {
	s, err := open(p.dir, request{Op: opWatch})
	if err != nil {
		return
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	for {
		r, err := s.receive()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.told, p.toldBy = r.Containers, id
		p.mu.Unlock()
		p.poke()
	}
}

// sync does one step, and says when to look again at the latest.
func (p *pod) sync(ctx context.Context) (next time.Duration, done bool) {
	api, gone := p.current()
	if err := p.observe(); err != nil {
		p.node.log.Error("pod: record", "pod", p.name(), "error", err)
		return time.Second, false
	}
	defer p.publish(api)
	switch {
	case gone:
		return p.forget(ctx)
	case api == nil:
		return time.Minute, false // until the API said so, it stays as it is
	case api.DeletionTimestamp != nil:
		next = p.terminate(ctx, api)
	case p.phase(api) == corev1.PodFailed || p.phase(api) == corev1.PodSucceeded:
		next = p.finish(ctx, api)
	default:
		next = p.advance(ctx, api)
	}
	if err := p.report(ctx, api); err != nil {
		p.node.log.Warn("pod: status", "pod", p.name(), "error", err)
		next = min(next, 2*time.Second)
	}
	return max(next, time.Millisecond), false
}

func (p *pod) name() string { return p.record.Namespace + "/" + p.record.Name }

// observe notes what pod-init told, and that runs ended with their sandbox.
func (p *pod) observe() error {
	p.mu.Lock()
	told, by, lost := p.told, p.toldBy, p.lost
	p.mu.Unlock()
	box := p.record.Sandbox
	changed := false
	for name, c := range p.record.Containers {
		if !c.running() {
			continue
		}
		s, ok := told[name]
		switch {
		case box == nil || c.Box != box.ID || lost == box.ID:
			c.end(state{ID: c.Now.ID, Started: c.Now.Started, Finished: time.Now(), Exit: 137, Signal: 9, Failure: "the pod's first process ended"})
		case by == box.ID && ok && s.ID == c.Now.ID && !s.Running:
			c.end(s)
		default:
			continue
		}
		changed = true
		p.ended(name, c)
	}
	if !changed {
		return nil
	}
	return p.record.save(p.dir)
}

// ended drops what belonged to a run that goes on no more.
func (p *pod) ended(name string, c *containerRecord) {
	if checks := p.checks[name]; checks != nil {
		checks.cancel()
		delete(p.checks, name)
	}
	delete(p.stopping, name)
	if c.Runs > 2 { // of two runs the logs can be asked for
		old := logPath(p.dir, name, c.Runs-2)
		os.Remove(old)
		os.Remove(old + ".old")
	}
}

func (p *pod) stopChecks() {
	for _, c := range p.checks {
		c.cancel()
	}
}

// publish shows others how the pod is.
func (p *pod) publish(api *corev1.Pod) {
	v := &view{dir: p.dir, uid: p.record.UID, runs: map[string]int{}, going: map[string]bool{}, streams: map[string]corev1.Container{}}
	if box := p.record.Sandbox; box != nil {
		v.netns, v.alive = box.Netns, box.PID != 0
		if len(box.IPs) > 0 {
			v.address = box.IPs[0]
		}
	}
	for name, c := range p.record.Containers {
		v.runs[name], v.going[name] = c.Runs, c.running()
	}
	if api != nil {
		for _, c := range allContainers(api) {
			v.streams[c.Name] = *c
		}
	}
	p.seen.Store(v)
}

// allContainers returns the init containers, then the others.
func allContainers(api *corev1.Pod) []*corev1.Container {
	var out []*corev1.Container
	for i := range api.Spec.InitContainers {
		out = append(out, &api.Spec.InitContainers[i])
	}
	for i := range api.Spec.Containers {
		out = append(out, &api.Spec.Containers[i])
	}
	return out
}

// forget removes all of a pod that the API does not have.
func (p *pod) forget(ctx context.Context) (time.Duration, bool) {
	if err := p.node.sandboxes.remove(ctx, p.dir, p.record); err != nil {
		p.node.log.Warn("pod: remove", "pod", p.name(), "error", err)
		return p.later(), false
	}
	if err := os.RemoveAll(p.dir); err != nil {
		p.node.log.Warn("pod: remove", "pod", p.name(), "error", err)
		return p.later(), false
	}
	return 0, true
}

// later returns how long to wait after one more failure.
func (p *pod) later() time.Duration {
	p.failures++
	return min(time.Second<<min(p.failures-1, 5), 30*time.Second)
}

// target is where probes and hooks of c act.
func (p *pod) target(c *corev1.Container) target {
	t := target{dir: p.dir, container: c}
	if box := p.record.Sandbox; box != nil {
		t.netns = box.Netns
		if len(box.IPs) > 0 {
			t.address = box.IPs[0]
		}
	}
	return t
}

// stop asks the running containers to end until deadline, and returns when to
// look again; 0: none runs. Sidecars end after the others.
func (p *pod) stop(ctx context.Context, api *corev1.Pod, deadline time.Time) time.Duration {
	var main, sidecars []*corev1.Container
	for i, c := range allContainers(api) {
		if !p.record.container(c.Name).running() {
			continue
		}
		if i < len(api.Spec.InitContainers) && sidecar(c) {
			sidecars = append(sidecars, c)
		} else {
			main = append(main, c)
		}
	}
	if len(main) == 0 {
		main = sidecars
	}
	next := time.Duration(0)
	for _, c := range main {
		wait := p.stopContainer(ctx, api, c, deadline)
		if next == 0 || wait < next {
			next = wait
		}
	}
	return next
}

// stopContainer asks a container to end, once, and kills it when deadline is
// over. It returns when to look again.
func (p *pod) stopContainer(ctx context.Context, api *corev1.Pod, c *corev1.Container, deadline time.Time) time.Duration {
	run := p.record.container(c.Name).Now
	s := p.stopping[c.Name]
	if s == nil || s.id != run.ID {
		s = &stopping{id: run.ID, deadline: deadline}
		p.stopping[c.Name] = s
		p.node.event(api, corev1.EventTypeNormal, "Killing", "Stopping container "+c.Name)
		go p.ask(ctx, api, p.target(c), run.ID, deadline)
	}
	if deadline.Before(s.deadline) {
		s.deadline = deadline
	}
	left := time.Until(s.deadline)
	if left > 0 {
		return left
	}
	if _, err := call(p.dir, request{Op: opSignal, Container: c.Name, Run: run.ID, Signal: 9}); err != nil {
		p.node.log.Warn("pod: kill", "pod", p.name(), "container", c.Name, "error", err)
	}
	return time.Second
}

// ask runs a container's last hook, until deadline, and then asks it to end.
func (p *pod) ask(ctx context.Context, api *corev1.Pod, t target, run string, deadline time.Time) {
	c := t.container
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		hook, cancel := context.WithDeadline(ctx, deadline)
		if err := t.hook(hook, c.Lifecycle.PreStop); err != nil {
			p.node.event(api, corev1.EventTypeWarning, "FailedPreStopHook", fmt.Sprintf("container %s: %v", c.Name, err))
		}
		cancel()
	}
	if _, err := call(t.dir, request{Op: opSignal, Container: c.Name, Run: run, Signal: 15}); err != nil {
		p.node.log.Warn("pod: stop", "pod", api.Namespace+"/"+api.Name, "container", c.Name, "error", err)
	}
}

func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
