package kubelettest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// pod is one as kubectl shows it.
type pod struct {
	Metadata struct{ Name, Namespace, UID string }
	Spec     struct{ NodeName string }
	Status   struct {
		PodIP             string
		ContainerStatuses []struct {
			Ready        bool
			RestartCount int
		}
	}
}

// podsOf returns a namespace's pods with a label, or all, by name.
func (s *site) podsOf(t *testing.T, namespace string, selector ...string) []pod {
	t.Helper()
	var list struct{ Items []pod }
	args := append([]string{"get", "pods", "--namespace", namespace, "-o", "json"}, selector...)
	if err := json.Unmarshal([]byte(s.must(t, args...)), &list); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(list.Items, func(a, b pod) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	return list.Items
}

// servers returns the pods of the deployment.
func (s *site) servers(t *testing.T) []pod { return s.podsOf(t, "tenant", "--selector=app=web") }

// pods makes the tenants and waits for their pods, which are on both nodes.
func pods(t *testing.T, s *site) {
	s.must(t, "apply", "-f", "testdata/tenants.yaml")
	s.available(t, "web")
	for namespace, name := range map[string]string{"tenant": "client", "other": "stranger"} {
		s.must(t, "wait", "--namespace", namespace, "--for=condition=Ready", "pod/"+name, "--timeout", stepTime.String())
	}
	var on []string
	for _, p := range s.servers(t) {
		on = append(on, p.Spec.NodeName)
	}
	slices.Sort(on)
	if diff := gocmp.Diff(nodeNames, on); diff != "" {
		t.Fatalf("nodes of the servers (-want +got):\n%s", diff)
	}
	client := s.client(t)
	n := s.nodes[slices.Index(nodeNames, client.Spec.NodeName)]
	s.watchLog = n.file(fmt.Sprintf("pod-logs/tenant_client_%s/web/0.log", client.Metadata.UID))
}

// available returns when a deployment of the tenant has all its pods.
func (s *site) available(t *testing.T, name string) {
	t.Helper()
	s.must(t, "rollout", "status", "--namespace", "tenant", "deployment/"+name, "--timeout", stepTime.String())
}

// client returns the pod that asks the service all the time.
func (s *site) client(t *testing.T) pod {
	t.Helper()
	found := s.podsOf(t, "tenant", "--selector=app=client")
	if len(found) != 1 {
		t.Fatalf("%d clients, want one", len(found))
	}
	return found[0]
}

// ask lets a pod ask an address and returns the answer.
func (s *site) ask(namespace, from, address string) (string, error) {
	return s.kubectl("exec", "--namespace", namespace, from, "--", "/web", "ask", "http://"+address+"/")
}

const serviceAddress = "10.96.1.10" // testdata/tenants.yaml

// service asks both servers by their own addresses and by the service's, from
// one pod. Each sees the address that the kubelet reports of that pod.
func service(t *testing.T, s *site) {
	client := s.client(t)
	var want []string
	for _, server := range s.servers(t) {
		answer := server.Metadata.Name + " " + client.Status.PodIP
		want = append(want, answer)
		await(t, "answer of "+server.Metadata.Name, stepTime, func() error { // it may not listen yet
			said, err := s.ask("tenant", "client", server.Status.PodIP)
			if err == nil && said != answer {
				err = fmt.Errorf("it says %q, want %q", said, answer)
			}
			return err
		})
	}
	await(t, "every server answers for the service", stepTime, func() error {
		lines, _ := s.watched(t, 0)
		for _, answer := range want {
			if !slices.Contains(lines, "ok "+answer) {
				return fmt.Errorf("%d answers, none is %q", len(lines), answer)
			}
		}
		return nil
	})
	if said, err := s.ask("tenant", "client", serviceAddress); err != nil || !slices.Contains(want, said) {
		t.Errorf("the service says %q (%v), want one of %q", said, err, want)
	}
}

// isolation asks a server from another tenant: no answer, and the rule that
// isolates the tenant counts what it drops.
func isolation(t *testing.T, s *site) {
	server := s.servers(t)[0]
	before := s.denied(t)
	if said, err := s.ask("other", "stranger", server.Status.PodIP); err == nil {
		t.Errorf("another tenant's pod gets the answer %q, want none", said)
	}
	await(t, "count of the isolation", stepTime, func() error {
		if now := s.denied(t); now <= before {
			return fmt.Errorf("its rule dropped %v before and %v now", before, now)
		}
		return nil
	})
}

// denied returns how many packets the rule that isolates the tenant dropped.
func (s *site) denied(t *testing.T) float64 {
	t.Helper()
	uid := s.must(t, "get", "namespace", "tenant", "-o", "jsonpath={.metadata.uid}")
	resp, err := http.Get("http://" + metricsAddress + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if !strings.HasPrefix(line, "weft_rule_hits_total{") || !strings.Contains(line, "/is_"+uid+"/rules/deny-all-ingress") {
			continue
		}
		fields := strings.Fields(line)
		n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 0
}

// policy lets the stranger in by a NetworkPolicy.
func policy(t *testing.T, s *site) {
	stranger := s.podsOf(t, "other")[0]
	server := s.servers(t)[0]
	s.must(t, "apply", "-f", "testdata/policy.yaml")
	want := server.Metadata.Name + " " + stranger.Status.PodIP
	await(t, "a pod that the policy lets in", stepTime, func() error {
		said, err := s.ask("other", "stranger", server.Status.PodIP)
		if err == nil && said != want {
			err = fmt.Errorf("the server says %q, want %q", said, want)
		}
		return err
	})
}

// restarts kills both kubelets, and the agent while they come back. Meanwhile
// every request is answered; afterwards pods are as before, and both nodes take
// more.
func restarts(t *testing.T, s *site) {
	before := s.podsOf(t, "tenant")
	_, start := s.watched(t, 0)
	for _, n := range s.nodes {
		n.kubelet.kill(t)
	}
	s.answered(t, 50)
	for _, n := range s.nodes {
		n.kubelet.start(t)
	}
	s.follower.kill(t)
	s.answered(t, 50)
	s.follower.start(t)
	await(t, "agent", startTime, s.agentReady(t))
	s.must(t, "apply", "-f", "testdata/late.yaml")
	s.available(t, "late")
	for _, p := range s.podsOf(t, "tenant", "--selector=app=late") {
		want := p.Metadata.Name + " " + s.client(t).Status.PodIP
		if said, err := s.ask("tenant", "client", p.Status.PodIP); err != nil || said != want {
			t.Errorf("%s says %q (%v), want %q", p.Metadata.Name, said, err, want)
		}
	}
	if diff := gocmp.Diff(before, s.podsOf(t, "tenant", "--selector=app!=late")); diff != "" {
		t.Errorf("pods (-before +after):\n%s", diff)
	}
	lines, _ := s.watched(t, start)
	for _, line := range lines {
		if !strings.HasPrefix(line, "ok ") {
			t.Errorf("a request in between: %s", line)
		}
	}
	t.Logf("%d requests in between", len(lines))
}

// answered waits until n more requests of the client have their answer, or not.
func (s *site) answered(t *testing.T, n int) {
	t.Helper()
	_, start := s.watched(t, 0)
	await(t, "requests", stepTime, func() error {
		if lines, _ := s.watched(t, start); len(lines) < n {
			return fmt.Errorf("%d of %d", len(lines), n)
		}
		return nil
	})
}

// deletion deletes the tenants and compares what is there with what was before
// them.
func deletion(t *testing.T, s *site) {
	kinds(s.empty, s.inventory(t), func(kind string, before, now []string) {
		if len(now) <= len(before) {
			t.Errorf("%s: %d, and %d before there were pods: nothing can be missing", kind, len(now), len(before))
		}
	})
	s.must(t, "delete", "namespace", "tenant", "other", "--timeout", stepTime.String())
	await(t, "nothing left", stepTime, func() error {
		if diff := gocmp.Diff(s.empty, s.inventory(t)); diff != "" {
			return fmt.Errorf("before the tenants and after them (-before +after):\n%s", diff)
		}
		return nil
	})
}

// watched returns what the client wrote behind the first seen bytes of its log,
// a line a request, and how long the log is. It asks no kubelet.
func (s *site) watched(t *testing.T, seen int) (lines []string, now int) {
	t.Helper()
	data, err := os.ReadFile(s.watchLog)
	if err != nil {
		t.Fatal(err)
	}
	now = bytes.LastIndexByte(data, '\n') + 1 // the last line may be half written
	for line := range strings.Lines(string(data[seen:now])) {
		// Each line begins with time, stream and tag. Source: Kubernetes, KEP 156, CRI log format.
		if fields := strings.SplitN(strings.TrimSpace(line), " ", 4); len(fields) == 4 {
			lines = append(lines, fields[3])
		}
	}
	return lines, now
}
