package ingress

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// objects reads YAML documents; each Ingress is a minute younger than the one
// before, unless it says its time.
func objects(t testing.TB, docs string) Objects {
	t.Helper()
	o := Objects{Class: "contour", Timeout: time.Minute}
	born := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, doc := range strings.Split(docs, "\n---\n") {
		var meta metav1.TypeMeta
		must(t, yaml.Unmarshal([]byte(doc), &meta))
		switch meta.Kind {
		case "Ingress":
			in := decode[networkingv1.Ingress](t, doc)
			if in.CreationTimestamp.IsZero() {
				in.CreationTimestamp = metav1.NewTime(born.Add(time.Duration(i) * time.Minute))
			}
			o.Ingresses = append(o.Ingresses, in)
		case "IngressClass":
			o.Classes = append(o.Classes, decode[networkingv1.IngressClass](t, doc))
		case "Service":
			o.Services = append(o.Services, decode[corev1.Service](t, doc))
		case "EndpointSlice":
			o.Slices = append(o.Slices, decode[discoveryv1.EndpointSlice](t, doc))
		case "Secret":
			o.Secrets = append(o.Secrets, decode[corev1.Secret](t, doc))
		default:
			t.Fatalf("document %d: kind %q: is unknown", i, meta.Kind)
		}
	}
	return o
}

func decode[T any](t testing.TB, doc string) *T {
	t.Helper()
	out := new(T)
	must(t, yaml.UnmarshalStrict([]byte(doc), out))
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ingress is the head of an Ingress of class contour in namespace a.
func ingress(name, spec string) string {
	return "kind: Ingress\nmetadata: {name: " + name + ", namespace: a, annotations: {kubernetes.io/ingress.class: contour}}\nspec:\n" + spec
}

// rule is one rule of a host; paths are "/path Type service port".
func rule(host string, paths ...string) string {
	out := fmt.Sprintf("  - host: %q\n    http:\n      paths:\n", host)
	for _, p := range paths {
		w := strings.Fields(p)
		port := "number: " + w[3]
		if strings.Trim(w[3], "0123456789") != "" {
			port = "name: " + w[3]
		}
		out += fmt.Sprintf("      - {path: %s, pathType: %s, backend: {service: {name: %s, port: {%s}}}}\n", w[0], w[1], w[2], port)
	}
	return out
}

// services are web (80 named http to 8080, 443/UDP) with two endpoints, api (80) with
// one, ending (80) with one that does not say whether it serves, none (80) without one
// and far of type ExternalName.
const services = `
kind: Service
metadata: {name: web, namespace: a}
spec: {ports: [{name: http, port: 80, targetPort: 8080}, {name: quic, port: 443, protocol: UDP}, {name: grpc, port: 9000, appProtocol: kubernetes.io/h2c}]}
---
kind: EndpointSlice
metadata: {name: web-2, namespace: a, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: grpc, port: 9000}]
endpoints: [{addresses: [10.244.0.20]}, {addresses: [10.244.0.21], conditions: {ready: false}}]
---
kind: EndpointSlice
metadata: {name: web-1, namespace: a, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.0.10], conditions: {ready: true}}, {addresses: [10.244.0.20]}]
---
kind: Service
metadata: {name: api, namespace: a}
spec: {ports: [{port: 80}]}
---
kind: EndpointSlice
metadata: {name: api-1, namespace: a, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.0.30], conditions: {ready: false, serving: true, terminating: true}}]
---
kind: Service
metadata: {name: ending, namespace: a}
spec: {ports: [{port: 80}]}
---
kind: EndpointSlice
metadata: {name: ending-1, namespace: a, labels: {kubernetes.io/service-name: ending}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.244.0.40], conditions: {ready: false, terminating: true}}, {addresses: [10.244.0.41], conditions: {ready: false, serving: false, terminating: true}}, {addresses: [10.244.0.42], conditions: {ready: false, serving: true}}]
---
kind: Service
metadata: {name: none, namespace: a}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: far, namespace: a}
spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}
---
`

// text is a table for people, a line for each route and certificate.
func (t *Table) text() string {
	var lines []string
	for host, h := range t.Hosts {
		add := func(kind, path string, r *Route) {
			line := fmt.Sprintf("%s %s %s → %s:%s", cmp.Or(host, "*"), kind, path, r.Upstream.Service, r.Upstream.Port)
			for _, e := range r.Upstream.Endpoints {
				line += " " + e.String()
			}
			if r.Upstream.HTTP2 {
				line += " h2c"
			}
			if r.Upstream.Broken != "" {
				line += " (" + r.Upstream.Broken + ")"
			}
			if r.Redirect {
				line += " redirect"
			}
			if r.Timeout != time.Minute {
				line += " " + r.Timeout.String()
			}
			lines = append(lines, line+" ["+r.Ingress.Name+"]")
		}
		for p, r := range h.Exact {
			add("exact", p, r)
		}
		for p, r := range h.Prefix {
			add("prefix", p+"/", r)
		}
		if h.Fallback != nil {
			add("default", "-", h.Fallback)
		}
	}
	for host, c := range t.Certificates {
		lines = append(lines, fmt.Sprintf("%s certificate %s", cmp.Or(host, "*"), c.Secret))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func texts(problems []Problem) string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.Reason+" "+p.String())
	}
	return strings.Join(lines, "\n")
}

func TestBuild(t *testing.T) {
	for _, tc := range []struct {
		name, docs, want, problems string
	}{
		{
			name: "seed: one host, prefix /",
			docs: ingress("shop", "  rules:\n"+rule("shop.example.com", "/ Prefix web 80")),
			want: "shop.example.com prefix / → a/web:80 10.244.0.10:8080 10.244.0.20:8080 [shop]",
		},
		{
			name: "path types, port by name, longest prefix kept apart",
			docs: ingress("shop", "  rules:\n"+rule("x", "/a Exact web http", "/a Prefix api 80", "/a/b/ Prefix web http", "/c ImplementationSpecific api 80")),
			want: `x exact /a → a/web:http 10.244.0.10:8080 10.244.0.20:8080 [shop]
x prefix /a/ → a/api:80 10.244.0.30:80 [shop]
x prefix /a/b/ → a/web:http 10.244.0.10:8080 10.244.0.20:8080 [shop]
x prefix /c/ → a/api:80 10.244.0.30:80 [shop]`,
		},
		{
			name: "a default backend is that of its hosts, without rules of all",
			docs: ingress("one", "  defaultBackend: {service: {name: api, port: {number: 80}}}\n  rules:\n"+rule("x", "/a Prefix web 80")) +
				"---\n" + ingress("all", "  defaultBackend: {service: {name: web, port: {number: 80}}}\n") +
				"---\n" + ingress("late", "  defaultBackend: {service: {name: web, port: {number: 80}}}\n"),
			want: `* default - → a/web:80 10.244.0.10:8080 10.244.0.20:8080 [all]
x default - → a/api:80 10.244.0.30:80 [one]
x prefix /a/ → a/web:80 10.244.0.10:8080 10.244.0.20:8080 [one]`,
			problems: "Conflict ingress a/late: spec.defaultBackend: the default backend of all hosts is that of ingress a/all, which is older",
		},
		{
			name: "conflict: the older wins, the rest of the other is served",
			docs: ingress("young", "  rules:\n"+rule("x", "/ Prefix api 80", "/young Prefix web 80")) + "---\n" +
				strings.Replace(ingress("old", "  rules:\n"+rule("x", "/ Prefix web 80")), "name: old", `name: old, creationTimestamp: "2020-01-01T00:00:00Z"`, 1),
			want: `x prefix / → a/web:80 10.244.0.10:8080 10.244.0.20:8080 [old]
x prefix /young/ → a/web:80 10.244.0.10:8080 10.244.0.20:8080 [young]`,
			problems: "Conflict ingress a/young: spec.rules[0].http.paths[0].path: / of host x is that of ingress a/old, which is older",
		},
		{
			name:     "the same path twice in one ingress, with and without its last slash",
			docs:     ingress("shop", "  rules:\n"+rule("x", "/a Prefix web 80", "/a/ Prefix api 80")),
			want:     "x prefix /a/ → a/web:80 10.244.0.10:8080 10.244.0.20:8080 [shop]",
			problems: "Conflict ingress a/shop: spec.rules[0].http.paths[1].path: /a/ is twice in the rules of host x; the first is served",
		},
		{
			name: "what is named and not there",
			docs: ingress("shop", "  rules:\n"+rule("x", "/1 Prefix gone 80", "/2 Prefix web 81", "/3 Prefix web quic", "/4 Prefix none 80", "/5 Prefix far 80", "/6 Prefix web metrics")),
			want: `x prefix /1/ → a/gone:80 (service a/gone does not exist) [shop]
x prefix /2/ → a/web:81 (service a/web has no TCP port 81 (80 http, 9000 grpc)) [shop]
x prefix /3/ → a/web:quic (port quic of service a/web is UDP (TCP)) [shop]
x prefix /4/ → a/none:80 (service a/none has no ready endpoint for port 80) [shop]
x prefix /5/ → a/far:80 (service a/far is of type ExternalName, which is not served (a type with endpoints)) [shop]
x prefix /6/ → a/web:metrics (service a/web has no TCP port metrics (80 http, 9000 grpc)) [shop]`,
			problems: `NotFound ingress a/shop: spec.rules[0].http.paths[0].backend.service.name: service a/gone does not exist
NotFound ingress a/shop: spec.rules[0].http.paths[1].backend.service.port: service a/web has no TCP port 81 (80 http, 9000 grpc)
Unsupported ingress a/shop: spec.rules[0].http.paths[2].backend.service.port: port quic of service a/web is UDP (TCP)
Unsupported ingress a/shop: spec.rules[0].http.paths[4].backend.service.name: service a/far is of type ExternalName, which is not served (a type with endpoints)
NotFound ingress a/shop: spec.rules[0].http.paths[5].backend.service.port: service a/web has no TCP port metrics (80 http, 9000 grpc)`,
		},
		{
			name: "HTTP/2 without TLS by appProtocol",
			docs: ingress("shop", "  rules:\n"+rule("x", "/ Prefix web grpc")),
			want: "x prefix / → a/web:grpc 10.244.0.20:9000 h2c [shop]",
		},
		{
			name: "endpoints that end serve unless they say no",
			docs: ingress("shop", "  rules:\n"+rule("x", "/ Prefix ending 80")),
			want: "x prefix / → a/ending:80 10.244.0.40:80 [shop]",
		},
		{
			name: "annotations",
			docs: strings.Replace(ingress("shop", "  rules:\n"+rule("x", "/ Prefix web 80")), "annotations: {", `annotations: {ncp/http-redirect: "True", projectcontour.io/response-timeout: 90s, ncp/use-regex: "true", `, 1) +
				"---\n" + strings.Replace(ingress("bad", "  rules:\n"+rule("y", "/ Prefix web 80")), "annotations: {", `annotations: {ingress.kubernetes.io/force-ssl-redirect: "yes", projectcontour.io/response-timeout: "3", `, 1) +
				"---\n" + strings.Replace(ingress("slow", "  rules:\n"+rule("z", "/ Prefix web 80")), "annotations: {", `annotations: {projectcontour.io/response-timeout: infinity, `, 1),
			want: `x prefix / → a/web:80 10.244.0.10:8080 10.244.0.20:8080 redirect 1m30s [shop]
y prefix / → a/web:80 10.244.0.10:8080 10.244.0.20:8080 [bad]
z prefix / → a/web:80 10.244.0.10:8080 10.244.0.20:8080 0s [slow]`,
			problems: `Invalid ingress a/bad: metadata.annotations[ingress.kubernetes.io/force-ssl-redirect]: "yes": is no truth value (true, false)
Invalid ingress a/bad: metadata.annotations[projectcontour.io/response-timeout]: "3": is no time (such as 30s, or infinity)
Unsupported ingress a/shop: metadata.annotations[ncp/use-regex]: is not served: paths reach the service as they are (none)`,
		},
		{
			name: "rules that ask for nothing",
			docs: ingress("none", "  rules: []\n") + "---\n" + ingress("empty", "  rules: [{host: x}]\n") +
				"---\n" + ingress("res", "  defaultBackend: {resource: {kind: Bucket, name: b}}\n  rules: [{host: 'y'}]\n") +
				"---\n" + ingress("dots", "  rules:\n"+rule("z", "/a/../b Prefix web 80", "a Prefix web 80")),
			want: "y default - → /: (a backend that is no service is not served (service)) [res]",
			problems: `Invalid ingress a/dots: spec.rules[0].http.paths[0].path: "/a/../b": has an element . or .. (none) (a path such as /app)
Invalid ingress a/dots: spec.rules[0].http.paths[1].path: "a": begins with no slash (a path such as /app)
Invalid ingress a/empty: spec.rules[0].http: is empty and there is no defaultBackend (paths)
Invalid ingress a/none: spec: has neither rules nor a defaultBackend (one of them)
Unsupported ingress a/res: spec.defaultBackend.resource: a backend that is no service is not served (service)`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			table, problems := Build(objects(t, strings.TrimPrefix(services, "\n")+tc.docs))
			if diff := gocmp.Diff(tc.want, table.text()); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
			if diff := gocmp.Diff(tc.problems, texts(problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBuildCertificates(t *testing.T) {
	tlsOf := func(secret string, hosts ...string) string {
		return fmt.Sprintf("  tls: [{secretName: %s, hosts: [%s]}]\n", secret, strings.Join(hosts, ", "))
	}
	o := objects(t, strings.TrimPrefix(services, "\n")+
		ingress("one", tlsOf("x", "x.example.com")+"  rules:\n"+rule("x.example.com", "/ Prefix web 80"))+
		"---\n"+ingress("wild", tlsOf("wild", `"*.example.com"`)+"  rules:\n"+rule("*.example.com", "/ Prefix web 80"))+
		"---\n"+ingress("late", tlsOf("wild", "x.example.com")+"  rules:\n"+rule("x.example.com", "/late Prefix web 80"))+
		"---\n"+ingress("own", "  tls: [{secretName: 'y'}]\n  rules:\n"+rule("y.example.net", "/ Prefix web 80"))+
		"---\n"+ingress("wrong", tlsOf("x", "other.example.org")+"  rules:\n"+rule("other.example.org", "/ Prefix web 80"))+
		"---\n"+ingress("gone", tlsOf("gone", "g")+"  rules:\n"+rule("g", "/ Prefix web 80"))+
		"---\n"+ingress("broken", tlsOf("broken", "b")+"  rules:\n"+rule("b", "/ Prefix web 80"))+
		"---\n"+ingress("nosecret", "  tls: [{hosts: [n]}]\n  rules:\n"+rule("n", "/ Prefix web 80")))
	o.Secrets = []*corev1.Secret{
		secret(t, "x", "x.example.com"), secret(t, "wild", "*.example.com"), secret(t, "y", "y.example.net"), secret(t, "default", "localhost"),
		{ObjectMeta: metav1.ObjectMeta{Name: "broken", Namespace: "a"}, Data: map[string][]byte{"tls.crt": []byte("x")}},
	}
	o.Default = types.NamespacedName{Namespace: "a", Name: "default"}
	table, problems := Build(o)
	got := map[string]string{}
	for host, c := range table.Certificates {
		got[host] = c.Secret.Name
	}
	want := map[string]string{"": "default", "x.example.com": "x", "*.example.com": "wild", "y.example.net": "y", "other.example.org": "x"}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("certificates (-want +got):\n%s", diff)
	}
	wantProblems := `Invalid ingress a/broken: spec.tls[0].secretName: secret a/broken: tls.key: is empty (PEM)
NotFound ingress a/gone: spec.tls[0].secretName: secret a/gone of type kubernetes.io/tls does not exist
Conflict ingress a/late: spec.tls[0].hosts: the certificate of host x.example.com is that of secret a/x, whose ingress is older
Invalid ingress a/nosecret: spec.tls[0].secretName: is empty (a secret of type kubernetes.io/tls)
Invalid ingress a/wrong: spec.tls[0].hosts: the certificate of secret a/x is not for other.example.org (x.example.com); it is shown all the same`
	if diff := gocmp.Diff(wantProblems, texts(problems)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	for host, want := range map[string]string{"x.example.com": "x", "any.example.com": "wild", "a.b.example.com": "default", "": "default"} {
		if got := table.Certificate(host); got != table.Certificates[nameOfCertificate(table, want)].TLS {
			t.Errorf("certificate of %q is not that of %s", host, want)
		}
	}
}

func nameOfCertificate(t *Table, secret string) string {
	for host, c := range t.Certificates {
		if c.Secret.Name == secret && host != "other.example.org" {
			return host
		}
	}
	return "?"
}

// A Table and its problems depend on the objects, not on their order.
func TestBuildIsTheSameInAnyOrder(t *testing.T) {
	docs := strings.TrimPrefix(services, "\n")
	for i := range 6 { // as old, in several namespaces, for the same paths
		docs += strings.Replace(ingress(fmt.Sprintf("in%d", i), "  defaultBackend: {service: {name: api, port: {number: 80}}}\n  rules:\n"+rule("x", "/ Prefix web 80", "/a Exact gone 80")),
			"namespace: a", fmt.Sprintf(`namespace: %c, creationTimestamp: "2026-01-01T00:00:00Z"`, 'a'+i%2), 1) + "---\n"
	}
	o := objects(t, strings.TrimSuffix(docs, "---\n"))
	table, problems := Build(o)
	wantTable, wantProblems := table.text(), texts(problems)
	if !strings.Contains(wantTable, "[in0]") || !strings.Contains(wantProblems, "is that of ingress a/in0") {
		t.Errorf("in0 does not win:\n%s\n%s", wantTable, wantProblems)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		r.Shuffle(len(o.Ingresses), func(i, j int) { o.Ingresses[i], o.Ingresses[j] = o.Ingresses[j], o.Ingresses[i] })
		r.Shuffle(len(o.Slices), func(i, j int) { o.Slices[i], o.Slices[j] = o.Slices[j], o.Slices[i] })
		r.Shuffle(len(o.Services), func(i, j int) { o.Services[i], o.Services[j] = o.Services[j], o.Services[i] })
		table, problems := Build(o)
		if diff := gocmp.Diff(wantTable+"\n"+wantProblems, table.text()+"\n"+texts(problems)); diff != "" {
			t.Fatalf("(-first +shuffled):\n%s", diff)
		}
	}
}

func TestServed(t *testing.T) {
	class := func(name, controller string, isDefault bool, age int) *networkingv1.IngressClass {
		c := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(-age), 0))}}
		c.Spec.Controller = controller
		if isDefault {
			c.Annotations = map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}
		}
		return c
	}
	one := func(name, annotation, className string) *networkingv1.Ingress {
		in := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "a"}}
		if annotation != "" {
			in.Annotations = map[string]string{classAnnotation: annotation}
		}
		if className != "" {
			in.Spec.IngressClassName = &className
		}
		return in
	}
	all := []*networkingv1.Ingress{
		one("by-annotation", "contour", ""), one("by-name", "", "contour"), one("other-annotation", "nginx", "contour"),
		one("other-name", "", "nginx"), one("alias", "", "public"), one("none", "", ""), one("both", "contour", "nginx"),
	}
	for _, tc := range []struct {
		name    string
		classes []*networkingv1.IngressClass
		want    string
	}{
		{"no class objects", nil, "both by-annotation by-name"},
		{"ours", []*networkingv1.IngressClass{class("contour", Controller, false, 1), class("public", Controller, false, 1)}, "alias both by-annotation by-name"},
		{"ours is the default", []*networkingv1.IngressClass{class("contour", Controller, true, 1)}, "both by-annotation by-name none"},
		{"another is the younger default", []*networkingv1.IngressClass{class("contour", Controller, true, 2), class("nginx", "nginx", true, 1)}, "both by-annotation by-name"},
		{"the class is another controller's", []*networkingv1.IngressClass{class("contour", "projectcontour.io/contour", true, 1)}, "both by-annotation"},
	} {
		var got []string
		for _, in := range Served("contour", tc.classes, all) {
			got = append(got, in.Name)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: got %v, want %s", tc.name, got, tc.want)
		}
	}
}

func TestNamesAreAllThatBuildReads(t *testing.T) {
	o := objects(t, ingress("one", "  defaultBackend: {service: {name: d, port: {number: 80}}}\n  tls: [{secretName: s}]\n  rules:\n"+rule("x", "/ Prefix p 80")))
	got := map[object]bool{}
	names(o.Ingresses[0], got)
	var list []string
	for k := range maps.Keys(got) {
		list = append(list, k.kind+" "+k.String())
	}
	slices.Sort(list)
	if diff := gocmp.Diff([]string{"Secret a/s", "Service a/d", "Service a/p"}, list); diff != "" {
		t.Error(diff)
	}
}
