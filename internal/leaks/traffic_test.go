package leaks_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netns"
)

// steady is a namespace whose pods speak to each other while parts are killed.
const steady = `
apiVersion: v1
kind: Namespace
metadata: {name: steady}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: steady}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: busybox, command: [sleep, infinity]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: steady}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: nginx}]}
---
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: steady, labels: {app: c}}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: nginx}]}
---
apiVersion: v1
kind: Service
metadata: {name: c, namespace: steady}
spec: {selector: {app: c}, ports: [{port: 80}]}
`

// The service has a pod of its own: a client that speaks to a pod both directly
// and by a service may choose one source port for both, and then the second
// connection is dropped as tuple_in_use.

// outsideWeb is a web server of the lab, outside of the tenants' network.
const outsideWeb = "192.168.178.222:80"

// TestPacketsGoOn kills weftd and the agent again and again, while a pod pings
// another, keeps one connection, and makes new ones to a pod, a service and a
// machine outside: nothing is lost.
func TestPacketsGoOn(t *testing.T) {
	l := startLab(t)
	l.kubectl(steady, "apply", "-f", "-")
	l.kubectl("", "-n", "steady", "wait", "--for=condition=Ready", "pod/a", "pod/b", "pod/c", "--timeout=60s")
	l.settled()
	pod := l.kubectl("", "-n", "steady", "get", "pod", "b", "-o", "jsonpath={.status.podIP}")
	service := l.kubectl("", "-n", "steady", "get", "svc", "c", "-o", "jsonpath={.spec.clusterIP}")
	space := "weft-" + l.name + "-pod-steady.a"

	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	kept := &stream{name: "established connection", space: space, to: pod + ":80", keep: true}
	streams := []*stream{
		kept, {name: "connections to a pod", space: space, to: pod + ":80"},
		{name: "connections to a service", space: space, to: service + ":80"}, {name: "connections outside", space: space, to: outsideWeb},
	}
	for _, s := range streams {
		all.Go(func() { s.run(ctx) })
	}
	pinged := make(chan string, 1)
	ping := exec.Command("ip", "netns", "exec", space, "ping", "-i", "0.02", "-q", pod)
	var said strings.Builder
	ping.Stdout, ping.Stderr = &said, &said
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { ping.Wait(); pinged <- said.String() }()

	for _, parts := range [][]string{{"weftd"}, {"agent-host1"}, {"weftd", "agent-host1"}, {"agent-host1", "nodes"}} {
		for _, p := range parts {
			l.kill(p)
		}
		time.Sleep(time.Second) // without them
		l.up()
	}
	stop()
	ping.Process.Signal(os.Interrupt)
	all.Wait()
	for _, s := range streams {
		t.Logf("%s: %d", s.name, s.done)
		if s.err != nil || s.done == 0 {
			t.Errorf("%s: after %d: %v", s.name, s.done, s.err)
		}
	}
	if text := <-pinged; !strings.Contains(text, " 0% packet loss") {
		t.Errorf("ping: %s", text)
	}
	l.settled()
	if n, err := retransmitted(space); n != "0" || err != nil {
		t.Errorf("TCP segments sent again: %s, %v (0)", n, err)
	}
}

// stream makes requests in a network namespace, one after the other, until one
// fails.
type stream struct {
	name, space, to string
	keep            bool // one connection for all
	done            int
	err             error
}

func (s *stream) run(ctx context.Context) {
	n, err := netns.Open(s.space)
	if err != nil {
		s.err = err
		return
	}
	defer n.Close()
	var conn net.Conn
	for ctx.Err() == nil {
		if conn == nil {
			s.err = n.Do(func() (err error) {
				conn, err = net.DialTimeout("tcp", s.to, 5*time.Second) // of an address: on this thread
				return err
			})
		}
		if s.err == nil {
			s.err = ask(conn)
		}
		if s.err != nil {
			return
		}
		if !s.keep {
			conn.Close()
			conn = nil
		}
		s.done++
		time.Sleep(20 * time.Millisecond)
	}
	if conn != nil {
		conn.Close()
	}
}

// ask makes one request.
func ask(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

// retransmitted returns how many TCP segments a namespace sent again.
// Source: proc_pid_net(5), snmp; RFC 4022, tcpRetransSegs.
func retransmitted(space string) (n string, err error) {
	s, err := netns.Open(space)
	if err != nil {
		return "", err
	}
	defer s.Close()
	var data []byte
	err = s.Do(func() (err error) {
		data, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	})
	var heads []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "Tcp:" {
			continue
		}
		if heads == nil {
			heads = fields
			continue
		}
		for i, h := range heads {
			if h == "RetransSegs" && i < len(fields) {
				return fields[i], err
			}
		}
	}
	return "", fmt.Errorf("tcp: RetransSegs: is not told: %w", err)
}
