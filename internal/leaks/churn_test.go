package leaks_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Bounds of the churn; the environment variables WEFT_SEED, WEFT_SECONDS and
// WEFT_AWAY, in seconds too, choose others.
const (
	churnTime  = 75 * time.Second
	serverAway = 20 * time.Second
)

// number reads an environment variable, for longer runs and other seeds.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %q: is not a number", name, v)
	}
	return n
}

// seconds reads a time as number does.
func seconds(t *testing.T, name string, otherwise time.Duration) time.Duration {
	t.Helper()
	return time.Duration(number(t, name, uint64(otherwise/time.Second))) * time.Second
}

// TestChurn makes, deletes and makes again objects of all kinds in any order
// while every process of the lab is killed at any moment and the API server is
// away for a while. In the end all is as the objects ask for, and when they are
// gone, as on a fresh start.
func TestChurn(t *testing.T) {
	l := startLab(t)
	seed := number(t, "WEFT_SEED", uint64(time.Now().UnixNano()))
	length, away := seconds(t, "WEFT_SECONDS", churnTime), seconds(t, "WEFT_AWAY", serverAway)
	t.Logf("WEFT_SEED=%d", seed)
	fresh := l.snapshot()

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { l.killAny(ctx, rand.New(rand.NewPCG(seed, 1)), length, away) })
	for i := range spaces {
		all.Go(func() { l.churn(ctx, rand.New(rand.NewPCG(seed, uint64(2+i))), i) })
	}
	all.Go(func() { l.reconfigure(ctx, rand.New(rand.NewPCG(seed, 100))) })
	all.Wait()
	l.up()
	l.await("the Supervisor", l.restore)

	for i := range spaces {
		l.await("the end state of "+spaces[i], func() error { return l.finish(i) })
	}
	for _, space := range spaces {
		l.await(space+": deployments", func() error {
			_, err := run(t.Context(), "", "kubectl", "-n", space, "rollout", "status", "deployment", "--timeout=5s")
			return err
		})
	}
	l.revive()
	l.settled()
	l.reaches()

	l.await("delete all", func() error {
		args := append([]string{"delete", "namespace", "--ignore-not-found", "--timeout=60s"}, spaces...)
		if _, err := run(t.Context(), "", "kubectl", args...); err != nil {
			return err
		}
		_, err := run(t.Context(), "", "kubectl", "delete", "namespacenetworks.weft.dev", "--all", "--timeout=60s")
		return err
	})
	l.equals(fresh)
}

// spaces are the namespaces of the churn.
var spaces = []string{"churn-0", "churn-1", "churn-2"}

// objects returns those of a namespace, each of which comes and goes by itself.
// choose returns a number below n; 0 is the choice of the end state.
func objects(i int, choose func(n int) int) map[string]string {
	space := spaces[i]
	return map[string]string{
		// Now and then two namespaces want the same egress address.
		"namespace/" + space: "kind: Namespace\napiVersion: v1\nmetadata: {name: " + space + ", annotations: {" + []string{"", "ncp/static_snat_ip: 10.223.136.200"}[choose(2)] + "}}",
		"pod/named": "kind: Pod\napiVersion: v1\nmetadata: {name: named, namespace: " + space + ", labels: {app: named}}\n" +
			"spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: nginx}]}",
		"pod/ends": "kind: Pod\napiVersion: v1\nmetadata: {name: ends, namespace: " + space + "}\n" +
			"spec: {restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{name: c, image: busybox, command: [sleep, \"2\"]}]}",
		"deployment/web": fmt.Sprintf(`kind: Deployment
apiVersion: apps/v1
metadata: {name: web, namespace: %s}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {terminationGracePeriodSeconds: %d, containers: [{name: c, image: nginx}]}`, space, 1+choose(3), choose(2)),
		"deployment/client": fmt.Sprintf(`kind: Deployment
apiVersion: apps/v1
metadata: {name: client, namespace: %s}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client, cluster.x-k8s.io/cluster-name: g%d}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: busybox, command: [sleep, infinity]}]}`, space, choose(2)),
		"service/inside": "kind: Service\napiVersion: v1\nmetadata: {name: inside, namespace: " + space + "}\nspec: {selector: {app: web}, ports: [{port: 80}]}",
		"service/outside": fmt.Sprintf("kind: Service\napiVersion: v1\nmetadata: {name: outside, namespace: %s}\nspec: {type: LoadBalancer, externalTrafficPolicy: Local, %s selector: {app: web}, ports: [{port: %d, targetPort: 80}]}",
			space, []string{"", "loadBalancerIP: 10.15.8.200,"}[choose(2)], 80+choose(2)),
		"networkpolicy/from-0": fmt.Sprintf(`kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata: {name: from-0, namespace: %s}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: churn-%d}}}]}]}`, space, choose(2)),
		"networkpolicy/egress": "kind: NetworkPolicy\napiVersion: networking.k8s.io/v1\nmetadata: {name: egress, namespace: " + space + "}\nspec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress]}",
		"namespacenetwork/" + space: fmt.Sprintf("kind: NamespaceNetwork\napiVersion: weft.dev/v1alpha1\nmetadata: {name: %s}\nspec: {%s}", space, []string{
			"snatToIngress: true", "loadBalancerSize: MEDIUM", "subnetPrefix: 29",
			fmt.Sprintf("namespaceNetworkCIDRs: [10.%d.0.0/23], egressCIDRs: [10.223.136.%d/30]", 200+i, 240+4*i),
		}[choose(4)]),
	}
}

// churn makes and deletes objects of a namespace. What the API server refuses,
// because it is away or the namespace is not there, is tried another time.
func (l *testLab) churn(ctx context.Context, r *rand.Rand, i int) {
	for ctx.Err() == nil {
		var put []string
		all := objects(i, r.IntN)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			switch n := r.IntN(10); {
			case n < 4:
				put = append(put, all[name])
			case n == 4 && (!strings.HasPrefix(name, "namespace/") || r.IntN(2) == 0):
				run(ctx, "", "kubectl", "-n", spaces[i], "delete", name, "--ignore-not-found", "--wait=false")
			}
		}
		if len(put) > 0 {
			run(ctx, strings.Join(put, "\n---\n"), "kubectl", "apply", "-f", "-")
		}
		pause(ctx, time.Duration(r.IntN(1500))*time.Millisecond)
	}
}

// killAny kills processes of the lab and brings them back; once, in the middle,
// the API server is away for as long as away says.
func (l *testLab) killAny(ctx context.Context, r *rand.Rand, length, away time.Duration) {
	parts := []string{"weftd", "agent-host1", "nodes", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd", "forwarder"}
	middle := time.Now().Add(length / 3)
	for ctx.Err() == nil {
		pause(ctx, time.Duration(r.IntN(4000))*time.Millisecond)
		if time.Now().After(middle) {
			l.kill("kube-apiserver")
			pause(ctx, away)
			middle = time.Now().Add(length)
		}
		for range 1 + r.IntN(3) {
			l.kill(parts[r.IntN(len(parts))])
			pause(ctx, time.Duration(r.IntN(500))*time.Millisecond)
		}
		pause(ctx, time.Duration(r.IntN(2000))*time.Millisecond)
		if ctx.Err() != nil {
			return
		}
		if _, err := run(context.WithoutCancel(ctx), "", "weft", "lab", "up", l.file); err != nil {
			l.t.Error(err)
			return
		}
	}
}

// supervisor returns the Supervisor of the lab's file.
func (l *testLab) supervisor() string {
	data, err := os.ReadFile(l.file)
	if err != nil {
		l.t.Fatal(err)
	}
	documents := strings.Split(string(data), "\n---\n")
	return documents[len(documents)-1]
}

// restore makes the Supervisor what the lab's file says.
func (l *testLab) restore() error {
	if _, err := run(l.t.Context(), l.supervisor(), "kubectl", "replace", "-f", "-"); err == nil {
		return nil
	}
	_, err := run(l.t.Context(), l.supervisor(), "kubectl", "create", "-f", "-")
	return err
}

// reconfigure changes the Supervisor, to what is allowed and what is not, and
// deletes it and makes it again.
func (l *testLab) reconfigure(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(r.IntN(8000))*time.Millisecond)
		switch n := r.IntN(6); n {
		case 0:
			run(ctx, "", "kubectl", "delete", "supervisor", "default", "--wait=false")
			pause(ctx, time.Duration(r.IntN(4000))*time.Millisecond)
			l.restore()
		case 5:
			l.restore()
		default:
			run(ctx, "", "kubectl", "patch", "supervisor", "default", "--type=merge", "-p", []string{
				`{"spec":{"addressHoldTime":"0s"}}`, `{"spec":{"namespaceNetworkCIDRs":["10.244.0.0/20","10.246.0.0/20"]}}`,
				`{"spec":{"egressCIDRs":["10.223.136.0/24","10.15.8.128/25"]}}`, `{"spec":{"isolation":false,"snatToIngress":true}}`,
			}[n-1])
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// finish makes a namespace what the end state wants: its own network for the
// last, a policy in the second that lets the first in, and in all a web server,
// a client and services.
func (l *testLab) finish(i int) error {
	space := spaces[i]
	_, err := run(l.t.Context(), "", "kubectl", "-n", space, "delete", "--ignore-not-found", "--timeout=60s",
		"deployment/web", "deployment/client", "pod/named", "pod/ends",
		"service/inside", "service/outside", "networkpolicy/from-0", "networkpolicy/egress")
	if err != nil {
		return err
	}
	if _, err := run(l.t.Context(), "", "kubectl", "delete", "namespacenetworks.weft.dev", space, "--ignore-not-found"); err != nil {
		return err
	}
	var texts []string
	for name, text := range objects(i, func(int) int { return 0 }) {
		policy := strings.HasPrefix(name, "networkpolicy/")
		if !strings.HasPrefix(name, "namespacenetwork/") && (!policy || name == "networkpolicy/from-0" && i == 1) {
			texts = append(texts, text)
		}
	}
	// The namespace may be about to go, and take all with it.
	if _, err := run(l.t.Context(), strings.Join(texts, "\n---\n"), "kubectl", "apply", "-f", "-"); err != nil {
		return err
	}
	phase, err := run(l.t.Context(), "", "kubectl", "get", "namespace", space, "-o", "jsonpath={.status.phase}")
	if err == nil && phase != "Active" {
		err = fmt.Errorf("namespace %s: is %s", space, phase)
	}
	return err
}

// reaches tries real connections.
func (l *testLab) reaches() {
	l.t.Helper()
	get := func(from, to string) error {
		_, err := run(l.t.Context(), "", "kubectl", "-n", from, "exec", "deployment/client", "--", "curl", "-sf", "-o", "/dev/null", "--max-time", "3", "http://"+to+"/")
		return err
	}
	field := func(space, what, path string) string {
		return l.kubectl("", "-n", space, "get", what, "-o", "jsonpath="+path)
	}
	for i, from := range spaces {
		l.await(from+" outside", func() error { return get(from, outsideWeb) })
		if i != 1 { // whose web servers only the first may reach
			l.await(from+" to its service", func() error { return get(from, field(from, "svc/inside", "{.spec.clusterIP}")) })
		}
		next := spaces[(i+1)%len(spaces)]
		l.await(from+" to the load balancer of "+next, func() error {
			return get(from, field(next, "svc/outside", "{.status.loadBalancer.ingress[0].ip}"))
		})
	}
	web := func(space string) string {
		return strings.Fields(field(space, "pods", "{.items[?(@.metadata.labels.app==\"web\")].status.podIP}"))[0]
	}
	for _, tc := range []struct {
		from, to string
		want     bool
	}{
		{"churn-0", "churn-1", true}, {"churn-2", "churn-1", false}, {"churn-1", "churn-0", false}, {"churn-0", "churn-2", false}, {"churn-2", "churn-2", true},
	} {
		if err := get(tc.from, web(tc.to)); (err == nil) != tc.want {
			l.t.Errorf("%s to a pod of %s: %v (want it to work: %t)", tc.from, tc.to, err, tc.want)
		}
	}
}
