// Package kubelet is a small kubelet for labs: it registers nodes and runs the
// pods that are bound to them as processes of this machine, in network, mount,
// PID, UTS and IPC namespaces of their own, attached by CNI.
//
// Images are no files: a table says which built-in program stands for each. What
// runs in a pod has the machine's programs and the rights of root: it is no
// boundary against anybody, and security contexts and resource limits are not
// looked at.
//
// A pod's first process, pod-init, outlives weft-node. What exists is written
// down before it is made, so that a weft-node that was killed at any moment finds
// its pods again, or takes away what was left of them.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	events "k8s.io/client-go/tools/record"
)

// Config is a node as it shall be.
type Config struct {
	Name        string            // of the node
	Labels      map[string]string // besides the usual ones
	Dir         string            // of its own, made if missing
	API         *rest.Config      // as system:node:<Name>
	Program     string            // file of weft-node
	Ingress     string            // file of weft-ingress; it need not exist
	CNIConfDir  string            // networks, *.conflist; the first one counts
	CNIBinDir   string            // plugins
	NetnsPrefix string            // of the names of pods' network namespaces: <prefix><namespace>.<pod>
	Images      Images            // nil: BuiltIn
	DNS         []netip.Addr      // of Services; none: pods use the machine's
	Hide        []string          // directories of the machine that pods do not see, besides Dir
	Listen      netip.AddrPort    // of the node's server; port 0: a free one
	Caller      string            // common name of the only client of the server
	MaxPods     int
	Backoff     Backoff
	Log         *slog.Logger
}

// Backoff is how long a container waits that ends again and again.
type Backoff struct{ First, Most time.Duration }

// Defaults of Config.
const (
	DefaultCaller  = "kube-apiserver-kubelet-client"
	DefaultMaxPods = 110
)

// complete fills in defaults and says what is wrong.
func (c *Config) complete() error {
	if c.Images == nil {
		c.Images = BuiltIn()
	}
	if c.Caller == "" {
		c.Caller = DefaultCaller
	}
	if c.MaxPods == 0 {
		c.MaxPods = DefaultMaxPods
	}
	if c.Backoff == (Backoff{}) {
		c.Backoff = Backoff{time.Second, time.Minute}
	}
	if !c.Listen.IsValid() {
		c.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Name == "" || len(c.Name) > 253 || strings.ContainsAny(c.Name, "/ "):
		return fmt.Errorf("node %q: name: is no node name (a DNS name)", c.Name)
	case !filepath.IsAbs(c.Dir):
		return fmt.Errorf("node %s: dir: %q: is no absolute path", c.Name, c.Dir)
	case c.NetnsPrefix == "" || strings.Contains(c.NetnsPrefix, "/") || len(c.NetnsPrefix) > 100:
		return fmt.Errorf("node %s: netns prefix: %q: is no prefix of a file name (1 to 100 bytes)", c.Name, c.NetnsPrefix)
	}
	return nil
}

// hidden are the directories that pods do not see.
func (c *Config) hidden() []string { return append(slices.Clone(c.Hide), c.Dir) }

func (c *Config) hostIP() string { return c.Listen.Addr().String() }

// Kubelet is one node.
type Kubelet struct {
	config    Config
	ctx       context.Context // ends with Run
	log       *slog.Logger
	client    kubernetes.Interface
	recorder  events.EventRecorder
	sandboxes *sandboxes
	builder   builder
	lister    corelisters.ServiceLister // set before any pod is told of
	starts    chan struct{}             // one each container that is being started

	mu      sync.Mutex
	pods    map[types.UID]*pod
	workers sync.WaitGroup
}

// Run is a node until ctx ends. Its pods go on then, for another Run.
// Errors: another process is this node; its server or the API can not be used.
func Run(ctx context.Context, c Config) error {
	if err := c.complete(); err != nil {
		return err
	}
	unlock, err := own(c.Dir)
	if err != nil {
		return fmt.Errorf("node %s: %w", c.Name, err)
	}
	defer unlock()
	client, err := kubernetes.NewForConfig(c.API)
	if err != nil {
		return fmt.Errorf("node %s: %w", c.Name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := &Kubelet{
		config: c, ctx: ctx, log: c.Log.With("node", c.Name), client: client, sandboxes: newSandboxes(c),
		builder: builder{objects{client}, c}, pods: map[types.UID]*pod{},
		starts: make(chan struct{}, 8),
	}
	broadcaster := events.NewBroadcaster(events.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	k.recorder = broadcaster.NewRecorder(scheme(), corev1.EventSource{Component: "kubelet", Host: c.Name})

	if err := k.load(); err != nil {
		return fmt.Errorf("node %s: %w", c.Name, err)
	}
	server, err := k.newServer()
	if err != nil {
		return fmt.Errorf("node %s: server: %w", c.Name, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.serve(ctx) }()
	go k.heartbeat(ctx, server.port())
	go k.follow(ctx)
	err = <-ended
	cancel()
	k.workers.Wait()
	if err != nil {
		return fmt.Errorf("node %s: %w", c.Name, err)
	}
	return nil
}

// Purge takes away all that a node has on this machine: its pods with their
// processes and attachments. The API is not told. Of c only Dir and what is said
// of CNI and names counts.
func Purge(ctx context.Context, c Config) error {
	unlock, err := own(c.Dir)
	if err != nil {
		return fmt.Errorf("node %s: %w", c.Name, err)
	}
	defer unlock()
	all, err := records(filepath.Join(c.Dir, "pods"))
	if err != nil {
		return fmt.Errorf("node %s: %w", c.Name, err)
	}
	boxes := newSandboxes(c)
	var problems []error
	for name, r := range all {
		dir := filepath.Join(c.Dir, "pods", name)
		err := boxes.remove(ctx, dir, r)
		if err == nil {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("pod %s/%s: %w", r.Namespace, r.Name, err))
		}
	}
	return errors.Join(problems...)
}

// own takes the only right to a node's directory.
func own(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Join(dir, "pods"), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("dir %s: another process runs this node: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// scheme knows the objects that events are about.
func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := corev1.AddToScheme(s); err != nil {
		panic(err) // it is the same every time
	}
	return s
}

func (k *Kubelet) podDir(uid string) string { return filepath.Join(k.config.Dir, "pods", uid) }

// load takes over the pods that an earlier Run left.
func (k *Kubelet) load() error {
	all, err := records(filepath.Join(k.config.Dir, "pods"))
	if err != nil {
		return err
	}
	for _, r := range all {
		k.begin(r)
	}
	return nil
}

// begin starts the worker of a pod. The caller holds mu, or is the first.
func (k *Kubelet) begin(r *record) *pod {
	p := newPod(k, r)
	k.pods[types.UID(r.UID)] = p
	k.workers.Go(func() {
		p.run(k.ctx)
		if k.ctx.Err() == nil { // it is gone
			k.mu.Lock()
			delete(k.pods, types.UID(r.UID))
			k.mu.Unlock()
		}
	})
	return p
}

// follow tells workers what the API says of their pods, until ctx ends. The API
// may be away: until it is there, pods stay as they are.
func (k *Kubelet) follow(ctx context.Context) {
	all := informers.NewSharedInformerFactory(k.client, 0)
	synced := all.Core().V1().Services().Informer().HasSynced
	k.lister = all.Core().V1().Services().Lister()
	selector := fields.OneTermEqualSelector("spec.nodeName", k.config.Name).String()
	list := cache.NewListWatchFromClient(k.client.CoreV1().RESTClient(), "pods", corev1.NamespaceAll, fields.ParseSelectorOrDie(selector))
	pods := cache.NewSharedInformer(list, &corev1.Pod{}, 0)
	// Before the services are known, containers would miss their variables.
	all.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), synced) {
		return
	}
	registration, err := pods.AddEventHandler(k.handler())
	if err != nil {
		k.log.Error("pods: informer", "error", err) // it was stopped before it began
		return
	}
	go pods.Run(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return
	}
	known := map[types.UID]bool{}
	for _, o := range pods.GetStore().List() {
		known[o.(*corev1.Pod).UID] = true
	}
	k.mu.Lock()
	var lost []types.UID
	for uid, p := range k.pods {
		if api, _ := p.current(); api == nil && !known[uid] {
			lost = append(lost, uid)
		}
	}
	k.mu.Unlock()
	for _, uid := range lost {
		k.gone(uid)
	}
}

// handler tells workers what an informer of pods sees. A pod that went while the
// API was away, when another one of its name had come already, is told of as a
// change of the one to the other.
func (k *Kubelet) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { k.update(o.(*corev1.Pod)) },
		UpdateFunc: func(before, o any) {
			if was, is := before.(*corev1.Pod), o.(*corev1.Pod); was.UID != is.UID {
				k.gone(was.UID)
			}
			k.update(o.(*corev1.Pod))
		},
		DeleteFunc: func(o any) {
			if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			k.gone(o.(*corev1.Pod).UID)
		},
	}
}

// update tells the worker of a pod, which it starts if it is new.
func (k *Kubelet) update(api *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pods[api.UID]
	if p == nil {
		r := &record{UID: string(api.UID), Namespace: api.Namespace, Name: api.Name, Containers: map[string]*containerRecord{}}
		if err := k.remember(api, r); err != nil {
			k.log.Error("pod: record", "pod", api.Namespace+"/"+api.Name, "error", err)
		}
		p = k.begin(r)
	}
	p.update(api)
}

// remember writes the record of a new pod. If the node lost what it knew, the
// API still has how often containers ran.
func (k *Kubelet) remember(api *corev1.Pod, r *record) error {
	for _, s := range append(slices.Clone(api.Status.InitContainerStatuses), api.Status.ContainerStatuses...) {
		if s.ContainerID != "" {
			r.container(s.Name).Runs = int(s.RestartCount) + 1
		}
	}
	dir := k.podDir(r.UID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return r.save(dir)
}

func (k *Kubelet) gone(uid types.UID) {
	k.mu.Lock()
	p := k.pods[uid]
	k.mu.Unlock()
	if p != nil {
		p.update(nil)
	}
}

// find returns the pod of a name that others may see.
func (k *Kubelet) find(namespace, name, uid string) (*view, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.pods {
		api, gone := p.current()
		if gone || api == nil || api.Namespace != namespace || api.Name != name || uid != "" && string(api.UID) != uid {
			continue
		}
		if v := p.seen.Load(); v != nil {
			return v, nil
		}
	}
	return nil, fmt.Errorf("pod %s/%s: is not on node %s", namespace, name, k.config.Name)
}

// callTime bounds one call of the API.
const callTime = 15 * time.Second

// services returns all Services of the cluster.
func (k *Kubelet) services() []*corev1.Service {
	list, err := k.lister.List(labels.Everything())
	if err != nil {
		return nil // it reads memory
	}
	slices.SortFunc(list, func(a, b *corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (k *Kubelet) event(about runtime.Object, kind, reason, text string) {
	k.recorder.Event(about, kind, reason, text)
}
