package ingress

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weft-net/weft/kube/ncp"
)

// What people write on an Ingress.
const (
	classAnnotation    = "kubernetes.io/ingress.class"
	redirectAnnotation = "ingress.kubernetes.io/force-ssl-redirect"
	timeoutAnnotation  = "projectcontour.io/response-timeout"
)

// unsupported is what people may expect to work and does not.
var unsupported = []string{ncp.AnnotationUseRegex, "ingress.kubernetes.io/rewrite-target", "nginx.ingress.kubernetes.io/rewrite-target"}

// Controller is the controller that an IngressClass names to be served here.
const Controller = "weft.dev/ingress"

// Objects is what a Table is made of. Order does not matter; nothing is changed
// or kept but by reference.
type Objects struct {
	Class     string // that is served
	Ingresses []*networkingv1.Ingress
	Classes   []*networkingv1.IngressClass
	Services  []*corev1.Service
	Slices    []*discoveryv1.EndpointSlice
	Secrets   []*corev1.Secret

	Default types.NamespacedName // Secret of the certificate for all other hosts; zero: there is none
	Timeout time.Duration        // of routes that do not say theirs
	// KeyPair returns what a Secret holds; nil: KeyPair. A caller that builds
	// often may remember what it returned.
	KeyPair func(*corev1.Secret) (*tls.Certificate, error)
}

// The reasons of a Problem, as Events have them.
const (
	ReasonConflict    = "Conflict"    // another Ingress was first
	ReasonNotFound    = "NotFound"    // what it names does not exist
	ReasonInvalid     = "Invalid"     // it can not be understood
	ReasonUnsupported = "Unsupported" // it can not be served
)

// Problem is something in an Ingress that is not done as it asks. All else of
// it is.
type Problem struct {
	Ingress types.NamespacedName
	Field   string
	Reason  string
	Text    string // the fact, and in brackets what is allowed
}

// String returns p as one line.
func (p Problem) String() string {
	return "ingress " + p.Ingress.String() + ": " + p.Field + ": " + p.Text
}

// Build makes the Table that objects ask for and says what in them is not done,
// by Ingress and field. Equal objects give equal results, in whatever order
// they come.
//
// Of two Ingresses that ask for the same path of a host, or for two
// certificates of one, the older is served; if they are as old, the one whose
// namespace and name come first.
func Build(o Objects) (*Table, []Problem) {
	b := newBuilder(o)
	for _, in := range b.served {
		b.ingress(in)
	}
	if o.Default != (types.NamespacedName{}) {
		if c, f := b.certificate(o.Default); f != nil {
			b.problems = append(b.problems, Problem{Field: "default certificate", Reason: f.reason, Text: f.text})
		} else if b.table.Certificates[""] == nil {
			b.table.Certificates[""] = c
		}
	}
	slices.SortStableFunc(b.table.Ingresses, compareNames)
	slices.SortStableFunc(b.problems, func(x, y Problem) int {
		return cmp.Or(compareNames(x.Ingress, y.Ingress), strings.Compare(x.Field, y.Field), strings.Compare(x.Text, y.Text))
	})
	b.problems = slices.Compact(b.problems)
	return b.table, b.problems
}

func compareNames(x, y types.NamespacedName) int {
	return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Name, y.Name))
}

// builder is one Build in work.
type builder struct {
	Objects
	table     *Table
	problems  []Problem
	served    []*networkingv1.Ingress // those of the class, the winners first
	services  map[types.NamespacedName]*corev1.Service
	slices    map[types.NamespacedName][]*discoveryv1.EndpointSlice // by Service
	secrets   map[types.NamespacedName]*corev1.Secret
	upstreams map[upstreamKey]*foundUpstream
	keyPair   func(*corev1.Secret) (*tls.Certificate, error)
}

func newBuilder(o Objects) *builder {
	b := &builder{
		Objects:   o,
		table:     &Table{Hosts: map[string]*Host{}, Certificates: map[string]*Certificate{}},
		services:  map[types.NamespacedName]*corev1.Service{},
		slices:    map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
		secrets:   map[types.NamespacedName]*corev1.Secret{},
		upstreams: map[upstreamKey]*foundUpstream{},
		keyPair:   o.KeyPair,
	}
	if b.keyPair == nil {
		b.keyPair = KeyPair
	}
	for _, s := range o.Services {
		b.services[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = s
	}
	for _, s := range o.Slices {
		name := types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
		b.slices[name] = append(b.slices[name], s)
	}
	for _, s := range o.Secrets {
		b.secrets[types.NamespacedName{Namespace: s.Namespace, Name: s.Name}] = s
	}
	b.served = Served(o.Class, o.Classes, o.Ingresses)
	return b
}

// ingress adds what one Ingress asks for.
func (b *builder) ingress(in *networkingv1.Ingress) {
	w := ask{b, in, name(in), Route{Ingress: name(in), Timeout: b.Timeout}}
	b.table.Ingresses = append(b.table.Ingresses, w.name)
	w.annotations()
	var fallback *Route
	if be := in.Spec.DefaultBackend; be != nil {
		fallback = w.route("", "spec.defaultBackend", be)
	}
	if fallback == nil && len(in.Spec.Rules) == 0 {
		w.problem("spec", ReasonInvalid, "has neither rules nor a defaultBackend (one of them)")
	}
	if len(in.Spec.Rules) == 0 && fallback != nil {
		w.fallback("", "spec.defaultBackend", fallback)
	}
	for i := range in.Spec.Rules {
		r := &in.Spec.Rules[i]
		field := fmt.Sprintf("spec.rules[%d]", i)
		if fallback != nil {
			w.fallback(r.Host, "spec.defaultBackend", fallback)
		}
		if r.HTTP == nil {
			if fallback == nil {
				w.problem(field+".http", ReasonInvalid, "is empty and there is no defaultBackend (paths)")
			}
			continue
		}
		for j := range r.HTTP.Paths {
			w.path(r.Host, fmt.Sprintf("%s.http.paths[%d]", field, j), &r.HTTP.Paths[j])
		}
	}
	for i := range in.Spec.TLS {
		w.tls(fmt.Sprintf("spec.tls[%d]", i), &in.Spec.TLS[i])
	}
}

func name(in *networkingv1.Ingress) types.NamespacedName {
	return types.NamespacedName{Namespace: in.Namespace, Name: in.Name}
}

// ask is what one Ingress asks for.
type ask struct {
	*builder
	in       *networkingv1.Ingress
	name     types.NamespacedName
	template Route // what all its routes have
}

func (w *ask) problem(field, reason, format string, args ...any) {
	w.problems = append(w.problems, Problem{w.name, field, reason, fmt.Sprintf(format, args...)})
}

// annotations reads what the template has from annotations.
func (w *ask) annotations() {
	a := w.in.Annotations
	field := func(key string) string { return "metadata.annotations[" + key + "]" }
	for _, key := range []string{redirectAnnotation, ncp.AnnotationHTTPRedirect} {
		text, ok := a[key]
		if !ok {
			continue
		}
		on, err := strconv.ParseBool(text)
		if err != nil {
			w.problem(field(key), ReasonInvalid, "%q: is no truth value (true, false)", text)
		}
		w.template.Redirect = w.template.Redirect || on
	}
	if text, ok := a[timeoutAnnotation]; ok {
		d, err := time.ParseDuration(text)
		switch {
		case text == "infinity":
			w.template.Timeout = 0
		case err != nil || d < 0:
			w.problem(field(timeoutAnnotation), ReasonInvalid, "%q: is no time (such as 30s, or infinity)", text)
		default:
			w.template.Timeout = d
		}
	}
	for _, key := range unsupported {
		if _, ok := a[key]; ok {
			w.problem(field(key), ReasonUnsupported, "is not served: paths reach the service as they are (none)")
		}
	}
}

// route returns the way to a backend; what stops it is a problem of field.
func (w *ask) route(path, field string, be *networkingv1.IngressBackend) *Route {
	r := w.template
	r.Path = path
	u, f := w.upstream(w.in.Namespace, be)
	if f != nil {
		w.problem(field+"."+f.field, f.reason, "%s", f.text)
	}
	r.Upstream = u
	return &r
}

// host returns the rules of a host, made if nobody named it yet.
func (w *ask) host(name string) *Host {
	h := w.table.Hosts[name]
	if h == nil {
		h = &Host{Exact: map[string]*Route{}, Prefix: map[string]*Route{}}
		w.table.Hosts[name] = h
	}
	return h
}

// fallback gives a host its default backend.
func (w *ask) fallback(host, field string, r *Route) {
	h := w.host(host)
	if h.Fallback == nil {
		h.Fallback = r
	} else if h.Fallback.Ingress != w.name {
		w.problem(field, ReasonConflict, "the default backend of %s is that of ingress %s, which is older", hostText(host), h.Fallback.Ingress)
	}
}

// path adds one path of a rule.
func (w *ask) path(host, field string, p *networkingv1.HTTPIngressPath) {
	path, err := rulePath(p.Path)
	if err != nil {
		w.problem(field+".path", ReasonInvalid, "%v (a path such as /app)", err)
		return
	}
	h := w.host(host)
	exact := p.PathType != nil && *p.PathType == networkingv1.PathTypeExact
	list := h.Exact
	if !exact {
		list, path = h.Prefix, strings.TrimRight(path, "/")
	}
	r := w.route(cmp.Or(p.Path, "/"), field+".backend", &p.Backend)
	if taken := list[path]; taken != nil {
		if taken.Ingress == w.name {
			w.problem(field+".path", ReasonConflict, "%s is twice in the rules of %s; the first is served", r.Path, hostText(host))
			return
		}
		w.problem(field+".path", ReasonConflict, "%s of %s is that of ingress %s, which is older", r.Path, hostText(host), taken.Ingress)
		return
	}
	list[path] = r
	if !exact {
		h.Longest = max(h.Longest, len(path))
	}
}

// tls adds one certificate.
func (w *ask) tls(field string, t *networkingv1.IngressTLS) {
	if t.SecretName == "" {
		w.problem(field+".secretName", ReasonInvalid, "is empty (a secret of type %s)", corev1.SecretTypeTLS)
		return
	}
	c, f := w.certificate(types.NamespacedName{Namespace: w.in.Namespace, Name: t.SecretName})
	if f != nil {
		w.problem(field+"."+f.field, f.reason, "%s", f.text)
		return
	}
	hosts := t.Hosts
	if len(hosts) == 0 {
		for _, r := range w.in.Spec.Rules {
			hosts = append(hosts, r.Host)
		}
	}
	for _, host := range hosts {
		host = strings.ToLower(host)
		if taken := w.table.Certificates[host]; taken != nil && taken.Secret != c.Secret {
			w.problem(field+".hosts", ReasonConflict, "the certificate of %s is that of secret %s, whose ingress is older", hostText(host), taken.Secret)
			continue
		}
		if host != "" && !c.covers(host) {
			w.problem(field+".hosts", ReasonInvalid, "the certificate of secret %s is not for %s (%s); it is shown all the same", c.Secret, host, strings.Join(c.TLS.Leaf.DNSNames, ", "))
		}
		w.table.Certificates[host] = c
	}
}

func hostText(host string) string {
	if host == "" {
		return "all hosts"
	}
	return "host " + host
}

// wildcard returns the domain of a name such as *.example.com.
func wildcard(host string) (string, bool) { return strings.CutPrefix(host, "*.") }
