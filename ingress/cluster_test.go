package ingress

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
)

// contour is the namespace of examples/contour.
const contour = "svc-contour-domain-c8"

// cluster is a real API server and an ingress controller that follows it with
// the rights that examples/contour gives it.
type cluster struct {
	client.WithWatch
	config *rest.Config
	http   string // address of the proxy
	stop   func()
	log    *logs
}

// manifests returns the objects of files.
func manifests(t *testing.T, pattern string) []client.Object {
	t.Helper()
	files, err := filepath.Glob(pattern)
	must(t, err)
	var out []client.Object
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		for doc := range strings.SplitSeq(string(text), "\n---\n") {
			o := &unstructured.Unstructured{}
			must(t, yaml.Unmarshal([]byte(doc), o))
			out = append(out, o)
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s: no manifests", pattern)
	}
	return out
}

// logs is a log that several write.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	dir := need.Kube(t)
	ctrl.SetLogger(logr.Discard())
	crds, err := v1alpha1.CRDs()
	must(t, err)
	server := &envtest.Environment{BinaryAssetsDirectory: dir, CRDs: crds, ControlPlaneStartTimeout: 2 * time.Minute}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{log: &logs{}}
	admin, err := server.Start()
	must(t, err)
	c.config = rest.CopyConfig(admin) // as the manifests let the pod
	c.config.Impersonate.UserName = "system:serviceaccount:" + contour + ":envoy"
	c.config.Impersonate.Groups = []string{"system:serviceaccounts", "system:authenticated"}
	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	must(t, v1alpha1.AddToScheme(scheme))
	c.WithWatch, err = client.NewWithWatch(admin, client.Options{Scheme: scheme})
	must(t, err)
	for _, o := range manifests(t, "../examples/contour/*.yaml") {
		must(t, c.Create(t.Context(), o))
	}
	t.Cleanup(func() {
		if t.Failed() || testing.Verbose() {
			t.Log(c.log)
		}
	})
	return c
}

// run starts the controller, anew if it was there before.
func (c *cluster) run(t *testing.T) {
	t.Helper()
	c.http = closed(t).String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(c.log, nil))
	go func() {
		ended <- Run(ctx, c.config, Config{
			Class: "contour", Publish: types.NamespacedName{Namespace: contour, Name: "envoy"},
			Pod:  types.NamespacedName{Namespace: contour, Name: "envoy-1"},
			HTTP: c.http, Explain: true, Limits: quickLimits(), Response: time.Minute, Shutdown: 5 * time.Second,
		}, log)
	}()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(c.stop)
}

func (c *cluster) make(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		must(t, c.Create(t.Context(), o))
	}
}

// get asks the proxy for a host.
func (c *cluster) get(host string) string {
	r, err := http.NewRequest(http.MethodGet, "http://"+c.http+"/", nil)
	if err != nil {
		return err.Error()
	}
	r.Host = host
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", res.StatusCode, text)
}

// eventually waits until what returns nothing; what it returns is missing.
func eventually(t *testing.T, what func() string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for missing := what(); missing != ""; missing = what() {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s: %s", missing)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func differs(what, got, want string) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("%s: got %q, want %q", what, got, want)
}

// state is an Ingress's addresses and what is wrong with it.
func (c *cluster) state(t *testing.T, name string) string {
	t.Helper()
	in := &networkingv1.Ingress{}
	must(t, c.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: name}, in))
	var out []string
	for _, a := range in.Status.LoadBalancer.Ingress {
		out = append(out, a.IP)
	}
	return strings.TrimSpace(strings.Join(append(out, in.Annotations[ncp.AnnotationErrorIngress]), " "))
}

// ownAddress returns an address of this machine that a slice may have.
func ownAddress(t *testing.T) netip.Addr {
	t.Helper()
	all, err := net.InterfaceAddrs()
	must(t, err)
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr()
		}
	}
	t.Skip("needs an IPv4 address that is no loopback")
	return netip.Addr{}
}

// listening serves h at an address of this machine.
func listening(t *testing.T, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(ownAddress(t), 0).String())
	must(t, err)
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(l.Addr().String())
}

func namespaceOf(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func serviceOf(name string, to netip.AddrPort) (*corev1.Service, *discoveryv1.EndpointSlice) {
	meta := metav1.ObjectMeta{Name: name, Namespace: "shop"}
	slice := meta
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: name}
	return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}},
		&discoveryv1.EndpointSlice{
			ObjectMeta: slice, AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{to.Addr().String()}}},
			Ports:     []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(to.Port())), Protocol: new(corev1.ProtocolTCP)}},
		}
}

func ingressOf(name, host, service string) *networkingv1.Ingress {
	return &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", Annotations: map[string]string{classAnnotation: "contour"}},
		Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{
			HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: "/", PathType: new(networkingv1.PathTypePrefix),
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Number: 80}}},
			}}},
		}}}},
	}
}

// events returns the notes of an Ingress's Events.
func (c *cluster) events(t *testing.T, name string) string {
	t.Helper()
	var list eventsv1.EventList
	must(t, c.List(t.Context(), &list, client.InNamespace("shop")))
	var out []string
	for _, e := range list.Items {
		if e.Regarding.Name == name {
			out = append(out, e.Type+" "+e.Reason+": "+e.Note)
		}
	}
	return strings.Join(out, "; ")
}

// answers plays weftd: every Trace is answered with a drop.
func (c *cluster) answers(t *testing.T) {
	w, err := c.Watch(t.Context(), &v1alpha1.TraceList{})
	must(t, err)
	go func() {
		for e := range w.ResultChan() {
			if tr, ok := e.Object.(*v1alpha1.Trace); ok && tr.Status.Phase == "" && e.Type != "DELETED" {
				tr.Status = drops(tr)
				if err := c.Status().Update(context.Background(), tr); err != nil {
					t.Errorf("trace: %v", err)
				}
			}
		}
	}()
	t.Cleanup(w.Stop)
}

func TestControllerFollowsTheCluster(t *testing.T) {
	whole := t
	shop := listening(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "shop") })
	other := listening(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "other") })
	c := newCluster(t)
	c.run(t)
	eventually(t, func() string { return differs("no ingress", c.get("x"), "404 no ingress has rules for host \"x\"\n") })

	c.make(t, namespaceOf("shop"), ingressOf("shop", "x", "web"))
	eventually(t, func() string {
		return differs("state", c.state(t, "shop"), "NotFound: spec.rules[0].http.paths[0].backend.service.name: service shop/web does not exist")
	})
	eventually(t, func() string {
		return differs("events", c.events(t, "shop"), "Warning NotFound: spec.rules[0].http.paths[0].backend.service.name: service shop/web does not exist")
	})
	envoy := &corev1.Service{}
	must(t, c.Get(t.Context(), types.NamespacedName{Namespace: contour, Name: "envoy"}, envoy))
	envoy.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.15.8.9"}}
	must(t, c.Status().Update(t.Context(), envoy))
	web, slice := serviceOf("web", shop)
	c.make(t, web, slice)
	eventually(t, func() string { return differs("answer", c.get("x"), "200 shop") })
	eventually(t, func() string { return differs("state", c.state(t, "shop"), "10.15.8.9") }) // mended without a restart

	t.Run("conflict", func(t *testing.T) {
		elder := &networkingv1.Ingress{}
		must(t, c.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: "shop"}, elder))
		for time.Since(elder.CreationTimestamp.Time) < time.Second { // times have no fractions
			time.Sleep(50 * time.Millisecond)
		}
		svc, slice := serviceOf("other", other)
		c.make(t, svc, slice, ingressOf("late", "x", "other"))
		eventually(t, func() string {
			return differs("state", c.state(t, "late"), "10.15.8.9 Conflict: spec.rules[0].http.paths[0].path: / of host x is that of ingress shop/shop, which is older")
		})
		must(t, c.Delete(t.Context(), ingressOf("shop", "", "")))
		eventually(t, func() string { return differs("answer", c.get("x"), "200 other") })
		eventually(t, func() string { return differs("state", c.state(t, "late"), "10.15.8.9") })
	})
	t.Run("class", func(t *testing.T) {
		in := &networkingv1.Ingress{}
		key := types.NamespacedName{Namespace: "shop", Name: "late"}
		must(t, c.Get(t.Context(), key, in))
		in.Annotations[classAnnotation] = "nginx"
		must(t, c.Update(t.Context(), in))
		eventually(t, func() string {
			return differs("state", c.state(t, "late"), "") + differs("answer", c.get("x"), "404 no ingress has rules for host \"x\"\n")
		})
		must(t, c.Get(t.Context(), key, in))
		in.Annotations[classAnnotation] = "contour"
		must(t, c.Update(t.Context(), in))
		eventually(t, func() string { return differs("answer", c.get("x"), "200 other") })
	})
	t.Run("a restart changes nothing", func(t *testing.T) {
		in := &networkingv1.Ingress{}
		key := types.NamespacedName{Namespace: "shop", Name: "late"}
		eventually(t, func() string { return differs("state", c.state(t, "late"), "10.15.8.9") })
		must(t, c.Get(t.Context(), key, in))
		before := in.ResourceVersion
		c.stop()
		c.run(whole)
		eventually(t, func() string { return differs("answer", c.get("x"), "200 other") })
		must(t, c.Get(t.Context(), key, in))
		if in.ResourceVersion != before {
			t.Errorf("version %s became %s", before, in.ResourceVersion)
		}
	})
	t.Run("the shop of the seed", func(t *testing.T) {
		for _, file := range []string{"namespace", "deployment", "service", "ingress", "networkpolicy"} {
			c.make(t, manifests(t, "../examples/hackazon/"+file+".yaml")...)
		}
		eventually(t, func() string {
			return differs("answer", c.get("hackazon.cpod-nsxv8.az-stc.cloud-garage.net"),
				"503 service ns-hackazon-app/hackazon-l4 has no ready endpoint for port 80\nthis is asked for by ingress ns-hackazon-app/hackazon-ingress\n")
		})
	})
	t.Run("dropped", func(t *testing.T) {
		c.answers(t)
		slice := &discoveryv1.EndpointSlice{}
		must(t, c.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: "other"}, slice))
		slice.Endpoints[0].Addresses[0], slice.Ports[0].Port = ownAddress(t).String(), new(int32(1)) // refuses
		must(t, c.Update(t.Context(), slice))
		want := fmt.Sprintf("503 upstream connection failure: connection refused at %s:1 of service shop/other port 80\n"+
			"dropped by rule 1005 deny-all-ingress of /infra/domains/domain-c8/security-policies/is_1 at port ns-hackazon-app/shop-1\n", ownAddress(t))
		eventually(t, func() string { return differs("answer", c.get("x"), want) })
		eventually(t, func() string {
			var list v1alpha1.TraceList
			must(t, c.List(t.Context(), &list))
			return differs("traces left", fmt.Sprint(len(list.Items)), "0")
		})
	})
}
