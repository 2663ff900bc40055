package ingress

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What has begun is finished, new clients are refused.
func TestProxyEndsInOrder(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	slow := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-end
		fmt.Fprint(w, "done")
	})
	p := NewProxy(quiet(), quickLimits(), nil, nil)
	p.SetTable(one("", nil, slow))
	s := &servers{log: quiet(), proxy: p}
	must(t, s.start(Config{HTTP: "127.0.0.1:0", Status: "127.0.0.1:0"}))
	status, addr := s.addresses[0], s.addresses[1]
	if res, err := http.Get("http://" + status + "/readyz"); err != nil || res.StatusCode != 200 {
		t.Fatalf("ready: %v %v", res, err)
	}
	answer := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + addr + "/")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		answer <- string(text)
	}()
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop(0, 10*time.Second) }()
	for {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break // it takes no more connections
		}
		c.Close()
	}
	if res, err := http.Get("http://" + status + "/readyz"); err != nil || res.StatusCode != 503 {
		t.Errorf("ready while it ends: %v %v", res, err)
	}
	close(end)
	if got := <-answer; got != "done" {
		t.Errorf("the request that had begun: %s", got)
	}
	must(t, <-stopped)
	s.wait()
}

func TestStatusServer(t *testing.T) {
	p := NewProxy(quiet(), quickLimits(), nil, nil)
	f := newFront(t, p)
	ask := func(path string) (int, string) {
		res, err := http.Get("http://" + f.servers.addresses[0] + path)
		must(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		must(t, err)
		return res.StatusCode, string(text)
	}
	if code, _ := ask("/healthz"); code != 200 {
		t.Errorf("healthz: %d", code)
	}
	if code, text := ask("/readyz"); code != 503 || text != "it has not read the ingresses yet\n" {
		t.Errorf("readyz: %d %s", code, text)
	}
	p.SetTable(one("x", func(r *Route) { r.Upstream.Broken = "gone" }))
	f.get(t, "http://x/")
	f.get(t, "http://y/")
	_, text := ask("/metrics")
	for _, want := range []string{
		`weft_ingress_requests_total{code="503",ingress="in",namespace="shop"} 1`,
		`weft_ingress_requests_total{code="404",ingress="",namespace=""} 1`,
		"weft_ingress_routes 1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics: no %s", want)
		}
	}
	p.SetTable(&Table{})
	if _, text := ask("/metrics"); strings.Contains(text, `ingress="in"`) {
		t.Error("metrics: an ingress that is gone is still there")
	}
}
