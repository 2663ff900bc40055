package ingress

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestCanonicalPath(t *testing.T) {
	for _, tc := range []struct {
		raw, want string
		moved     bool
	}{
		{"/", "/", false},
		{"/a/b", "/a/b", false},
		{"/a//b/", "/a//b/", false},
		{"/%61", "/a", false},
		{"/a%2Fb", "/a%2Fb", false},
		{"/a%2fb/%63", "/a%2Fb/c", false},
		{"/100%25", "/100%25", false},
		{"/a%252Fb", "/a%252Fb", false},
		{"/a/../b", "/b", true},
		{"/a/%2e%2e/b", "/b", true},
		{"/a/./b/.", "/a/b/", true},
		{"/../../x", "/x", true},
		{"/a/..", "/", true},
		{"/a/..b", "/a/..b", false},
		{"/ä", "/ä", false},
		{"/%C3%A4", "/ä", false},
	} {
		u, err := url.ParseRequestURI(tc.raw)
		must(t, err)
		if got, moved := canonicalPath(u); got != tc.want || moved != tc.moved {
			t.Errorf("%s: got %s, %t; want %s, %t", tc.raw, got, moved, tc.want, tc.moved)
		}
	}
}

func TestCanonicalHost(t *testing.T) {
	for host, want := range map[string]string{
		"Shop.Example.COM:8080": "shop.example.com", "shop.example.com.": "shop.example.com", "10.0.0.1": "10.0.0.1",
		"[fd00::1]:80": "fd00::1", "": "", "a:b:c": "a:b:c",
	} {
		if got := canonicalHost(host); got != want {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
}

// matching is a table with paths that are near each other.
func matching(t testing.TB) *Table {
	table, problems := Build(objects(t, strings.TrimPrefix(services, "\n")+
		ingress("exact-host", "  rules:\n"+rule("a.example.com", "/foo Prefix web 80", "/foo Exact api 80", "/foo/bar/ Prefix api 80", "/aaa/bb Prefix web 80", "/x/ Exact web 80"))+
		"---\n"+ingress("wild", "  rules:\n"+rule("*.example.com", "/ Prefix web 80"))+
		"---\n"+ingress("any", "  rules:\n"+rule("", "/any Prefix web 80"))+
		"---\n"+ingress("default", "  defaultBackend: {service: {name: web, port: {number: 80}}}\n")))
	if len(problems) > 0 {
		t.Fatal(texts(problems))
	}
	return table
}

// The examples of the Kubernetes documentation, Ingress, path types and host
// names, are among these.
func TestRoute(t *testing.T) {
	table := matching(t)
	for _, tc := range []struct{ host, path, want string }{
		{"a.example.com", "/foo", "exact-host /foo Exact"},
		{"a.example.com", "/foo/", "exact-host /foo"},
		{"a.example.com", "/foo/x", "exact-host /foo"},
		{"a.example.com", "/foobar", "default"},
		{"a.example.com", "/foo/bar", "exact-host /foo/bar/"},
		{"a.example.com", "/foo/bar/baz", "exact-host /foo/bar/"},
		{"a.example.com", "/foo/barbaz", "exact-host /foo"},
		{"a.example.com", "/aaa/bbb", "default"},
		{"a.example.com", "/aaa/bb/c", "exact-host /aaa/bb"},
		{"a.example.com", "/x", "default"},
		{"a.example.com", "/x/", "exact-host /x/ Exact"},
		{"a.example.com", "/X/", "default"},
		{"a.example.com", "/any", "default"}, // the host is its owner's
		{"b.example.com", "/foo", "wild /"},
		{"c.b.example.com", "/any/x", "any /any"},
		{"c.b.example.com", "/", "default"},
		{"example.com", "/any", "any /any"},
		{"", "/any", "any /any"},
		{"", "/", "default"},
	} {
		got := "none"
		if r := table.Route(tc.host, tc.path); r != nil {
			got = r.Ingress.Name
			if r.Path != "" {
				got += " " + r.Path
			}
			if h := table.Hosts[tc.host]; h != nil && h.Exact[tc.path] == r {
				got += " Exact"
			}
		}
		if got != tc.want {
			t.Errorf("%s %s: got %s, want %s", tc.host, tc.path, got, tc.want)
		}
	}
}

// slowRoute is the specification read word by word: all paths that match, the
// longest wins, an exact one before a prefix.
func slowRoute(h *Host, path string) *Route {
	var best *Route
	length := -1
	for prefix, r := range h.Prefix {
		want, have := strings.Split(prefix, "/"), strings.Split(path, "/")
		matches := len(want) <= len(have)
		for i := 0; matches && i < len(want); i++ {
			matches = want[i] == have[i]
		}
		if matches && len(prefix) > length {
			best, length = r, len(prefix)
		}
	}
	for exact, r := range h.Exact {
		if exact == path {
			best = r
		}
	}
	if best == nil {
		return h.Fallback
	}
	return best
}

func FuzzRoute(f *testing.F) {
	for _, seed := range [][2]string{
		{"a.example.com", "/foo/bar"}, {"b.example.com:80", "/%2e%2e/foo"}, {"", "/any//x"}, {"A.EXAMPLE.com.", "/foo/%2F/.."}, {"[::1]", "/a%25b"},
	} {
		f.Add(seed[0], seed[1])
	}
	table := matching(f)
	f.Fuzz(func(t *testing.T, host, uri string) {
		u, err := url.ParseRequestURI(uri)
		if err != nil {
			return
		}
		name := canonicalHost(host)
		path, moved := canonicalPath(u)
		if !strings.HasPrefix(path, "/") || strings.Contains(path+"/", "/../") || strings.Contains(path+"/", "/./") {
			t.Fatalf("%q: canonical path %q", uri, path)
		}
		got := table.Route(name, path)
		var want *Route
		for _, key := range fits(name) {
			if h := table.Hosts[key]; h != nil {
				want = slowRoute(h, path)
				break
			}
		}
		if want == nil {
			want = table.Hosts[""].Fallback
		}
		if got != want {
			t.Fatalf("%q %q: got %+v, want %+v", name, path, got, want)
		}
		if moved { // what is sent on leads where the table was asked
			out := &url.URL{Path: u.Path, RawPath: u.RawPath}
			uncanonical(out, path)
			back, err := url.ParseRequestURI(out.RequestURI())
			if err != nil {
				t.Fatalf("%q: becomes %q: %v", uri, out.RequestURI(), err)
			}
			if again, moved := canonicalPath(back); again != path || moved {
				t.Fatalf("%q: becomes %q: %q", uri, out.RequestURI(), again)
			}
		}
	})
}

// A rule's path and a request's are read alike.
func FuzzRulePath(f *testing.F) {
	for _, seed := range []string{"", "/", "/a/b", "/a%2Fb", "/100%", "/..", "/a b", "/é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path, err := rulePath(text)
		if err != nil || !strings.HasPrefix(text, "/") {
			return
		}
		u, err := url.ParseRequestURI(text)
		if err != nil || strings.Contains(text, "?") {
			return // no client can ask for it so
		}
		if got, moved := canonicalPath(u); got != path || moved {
			t.Fatalf("%q: rule %q, request %q", text, path, got)
		}
	})
}

func BenchmarkRoute(b *testing.B) {
	table := &Table{Hosts: map[string]*Host{}}
	h := &Host{Exact: map[string]*Route{}, Prefix: map[string]*Route{}}
	for i := range 1000 {
		path := fmt.Sprintf("/service/%d", i)
		h.Prefix[path], h.Longest = &Route{Path: path}, max(h.Longest, len(path))
	}
	table.Hosts["x"] = h
	long := "/service/7" + strings.Repeat("/", 60000)
	for b.Loop() {
		if table.Route("x", long) == nil {
			b.Fatal("no route")
		}
	}
}
