package kubelet

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/weft-net/weft/lab/cluster"
)

func testExec(r *rig) {
	r.run("shell", "busybox:1.36", "command: [sleep, infinity]", "")
	for _, tc := range []struct {
		stdin string
		args  []string
		want  string
		code  int
	}{
		{"", []string{"--", "sh", "-c", "echo out; echo err >&2; exit 7"}, "out\nerr\ncommand terminated with exit code 7", 7},
		{"to the shell", []string{"-i", "--", "cat"}, "to the shell", 0},
		{"", []string{"--", "hostname"}, "shell", 0},
		{"", []string{"--", "ls", "/.machine"}, "ls: cannot access '/.machine': No such file or directory\ncommand terminated with exit code 2", 2},
		{"", []string{"--", "no-such-program"}, `executable file not found in $PATH`, 1},
		{"", []string{"--", "sh", "-c", "sleep 100 & echo left"}, "left", 0},
		{"", []string{"--", "sh", "-c", "kill -9 $$"}, "command terminated with exit code 137", 137},
	} {
		got, err := r.try(tc.stdin, append([]string{"exec", "shell"}, tc.args...)...)
		code := 0
		if exit, ok := err.(*exec.ExitError); ok {
			code = exit.ExitCode()
		}
		// Of two streams the order is not kept.
		lines, want := strings.Split(got, "\n"), strings.Split(tc.want, "\n")
		slices.Sort(lines)
		slices.Sort(want)
		if code != tc.code || !strings.Contains(strings.Join(lines, "\n"), strings.Join(want, "\n")) {
			r.t.Errorf("exec %v: code %d, %q; want %d, %q", tc.args, code, got, tc.code, tc.want)
		}
	}
	// Nobody sees a pod's processes in another namespace, and the pod is alone.
	if got := r.kubectl("exec", "shell", "--", "sh", "-c", "cat /proc/1/comm; ls /proc | grep -c '^[0-9]'"); !strings.HasPrefix(got, "weft-node") && !strings.HasPrefix(got, "kubelet.test") {
		r.t.Errorf("first process: %q", got)
	}
	testExecWhoseCallerGoes(r)
}

// testExecWhoseCallerGoes calls the node as the API server does, and goes.
func testExecWhoseCallerGoes(r *rig) {
	base := filepath.Join(r.cluster.Dir, "pki", "kubelet-client")
	config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true, CertFile: base + ".crt", KeyFile: base + ".key"}}
	port := r.kubectl("get", "node", nodeName, "-o", "jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}")
	at := &url.URL{Scheme: "https", Host: "127.0.0.1:" + port, Path: "/exec/default/shell/main", RawQuery: "command=sleep&command=4711&output=1"}
	executor, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, at)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard}) }()
	await := func(want string) {
		r.t.Helper()
		r.until(10*time.Second, func() error {
			out, _ := r.try("", "exec", "shell", "--", "pgrep", "-fc", "sleep 471[1]")
			if got, _, _ := strings.Cut(out, "\n"); got != want {
				return fmt.Errorf("%s processes of exec, want %s", got, want)
			}
			return nil
		})
	}
	await("1")
	cancel()
	<-done
	await("0")
}

func testTerminal(r *rig) {
	r.run("tty", "alpine", "command: [sleep, infinity]", "")
	term := r.terminal("exec", "-it", "tty", "--", "sh", "-c",
		`test -t 0 && test -t 1 && echo terminal; read x; stty size; echo got $x; read y; stty size; exit 5`)
	term.await("terminal")
	io.WriteString(term.master, "typed\n")
	term.await("33 77")
	term.await("got typed")
	pty.Setsize(term.master, &pty.Winsize{Rows: 20, Cols: 60})
	time.Sleep(time.Second) // nothing tells when the size got through kubectl and the API server
	io.WriteString(term.master, "more\n")
	term.await("20 60")
	if err := term.cmd.Wait(); term.cmd.ProcessState.ExitCode() != 5 {
		r.t.Errorf("exit code %d (%v), want 5", term.cmd.ProcessState.ExitCode(), err)
	}
}

// terminal is kubectl on a terminal.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	lines  chan string
}

// terminal runs kubectl on a terminal of 33 rows and 77 columns.
func (r *rig) terminal(args ...string) *terminal {
	r.t.Helper()
	cmd := exec.Command(filepath.Join(r.cluster.Binaries, "kubectl"), append([]string{"--kubeconfig", r.cluster.Kubeconfig(cluster.Admin)}, args...)...)
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 77})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		cmd.Process.Kill()
		master.Close()
	})
	term := &terminal{r.t, cmd, master, make(chan string, 1000)}
	go func() {
		defer close(term.lines)
		for lines := bufio.NewScanner(master); lines.Scan(); {
			term.lines <- strings.TrimSpace(lines.Text())
		}
	}()
	return term
}

// await waits for a line that ends in want.
func (x *terminal) await(want string) {
	x.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-x.lines:
			if !ok {
				x.t.Fatalf("ended before %q", want)
			}
			if strings.HasSuffix(line, want) {
				return
			}
		case <-timeout:
			x.t.Fatalf("did not see %q", want)
		}
	}
}

func testAttachTerminal(r *rig) {
	term := r.terminal("run", "sh", "-it", "--rm", "--restart=Never", "--image=busybox", "--pod-running-timeout=30s")
	r.shows("pod/sh", ".status.containerStatuses[0].state.running.startedAt", "20")
	io.WriteString(term.master, "echo $((40+2)) $(stty size)\n")
	term.await("42 33 77")
	io.WriteString(term.master, "exit\n")
	term.await(`pod "sh" deleted from default namespace`)
}

func testPortForward(r *rig) {
	r.run("fwd", "nginx", "ports: [{containerPort: 8080}], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}", "")
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(r.cluster.Binaries, "kubectl"), "--kubeconfig", r.cluster.Kubeconfig(cluster.Admin),
		"port-forward", "--address", "127.0.0.1", "pod/fwd", ":8080", ":9")
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		cancel()
		cmd.Wait()
	}()
	ports := map[string]string{}
	for lines := bufio.NewScanner(out); len(ports) < 2 && lines.Scan(); {
		if m := regexp.MustCompile(`127.0.0.1:(\d+) -> (\d+)`).FindStringSubmatch(lines.Text()); m != nil {
			ports[m[2]] = m[1]
		}
	}
	client := http.Client{Timeout: 10 * time.Second}
	for range 3 {
		resp, err := client.Get("http://127.0.0.1:" + ports["8080"] + "/")
		if err != nil {
			r.t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.Contains(string(body), "Requester IP: 127.0.0.1\nPod: fwd\n") {
			r.t.Errorf("through port-forward: %q", body)
		}
		client.CloseIdleConnections()
	}
	if _, err := client.Get("http://127.0.0.1:" + ports["9"] + "/"); err == nil {
		r.t.Error("a port that nobody serves answered")
	}
}

func testAttach(r *rig) {
	r.run("cat", "busybox", `command: [sh, -c, "while read x; do echo got $x; done; echo end"], stdin: true, stdinOnce: true`, "restartPolicy: Never")
	out, err := r.try("one\ntwo\n", "attach", "-i", "cat")
	if err != nil || !strings.Contains(out, "got one\ngot two\nend") {
		r.t.Errorf("attach: %q, %v", out, err)
	}
	r.shows("pod/cat", ".status.phase", "Succeeded")
	if got := r.kubectl("logs", "cat"); got != "got one\ngot two\nend" {
		r.t.Errorf("logs: %q", got)
	}
	out, err = r.try("echo hello from $(hostname)\nexit\n", "run", "once", "-i", "--rm", "--restart=Never", "--image=busybox", "--pod-running-timeout=30s")
	if err != nil || !strings.Contains(out, "hello from once") {
		r.t.Errorf("run -i --rm: %q, %v", out, err)
	}
}

func testClosedToOthers(r *rig) {
	port := r.kubectl("get", "node", nodeName, "-o", "jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}")
	url := "https://127.0.0.1:" + port + "/healthz"
	for _, user := range []string{"", cluster.Admin, "kubelet-client"} {
		config := &tls.Config{InsecureSkipVerify: true}
		if user != "" {
			base := filepath.Join(r.cluster.Dir, "pki", user)
			pair, err := tls.LoadX509KeyPair(base+".crt", base+".key")
			if err != nil {
				r.t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		client := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 10 * time.Second}
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != (user == "kubelet-client") {
			r.t.Errorf("client %q: %v, %v", user, resp, err)
		}
	}
}
