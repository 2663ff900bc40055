package leaks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/policyapi/client"
	"github.com/weft-net/weft/table"
)

// Facts is all that is known of a lab with a Kubernetes at one moment, or
// nearly so.
type Facts struct {
	Lab    *lab.Reach
	Live   []Object        // Kubernetes objects
	Intent []intent.Object // that weftd has, by path
	Weftd  WeftdStatus

	Compiled map[string]*table.Set // by node, what weftd compiled
	Agent    *agent.Status
	InForce  *agent.InForce // at the agent; nil: it has no tables
	Kernel   string         // how the kernel's tables differ from the agent's; empty: they do not

	Attached []*agent.Attached
	Broken   map[agent.AttachmentKey]string // what the agent says is wrong with attachments
	Records  []string                       // names of files, of attachments
	Devices  []string                       // in the host's namespace
	Spaces   []string                       // network namespaces of the lab, by name
	Mounts   []string                       // below the lab's directory
	PodDirs  []string                       // UIDs of pods that nodes have a directory of
	Logged   map[string][]int               // processes by the file that their errors go to
	Parents  map[int]int                    // of these processes
}

// WeftdStatus is what weftd tells of itself.
type WeftdStatus struct {
	Version  int64        `json:"version"`
	Compiled int64        `json:"compiled"`
	Nodes    []NodeStatus `json:"nodes"`
	Problems []string     `json:"problems"`
}

// NodeStatus is what weftd tells of an agent.
type NodeStatus struct {
	Name      string `json:"name"`
	Connected bool   `json:"connected"`
	Version   int64  `json:"version"`
	Error     string `json:"error"`
}

// kinds are the kinds of Kubernetes objects that have intent, or say what it may be.
const kinds = "pods,services,namespaces,networkpolicies.networking.k8s.io,supervisors.weft.dev,namespacenetworks.weft.dev"

// clusterKinds are those that a cluster may not know.
const clusterKinds = "adminnetworkpolicies.policy.networking.k8s.io,baselineadminnetworkpolicies.policy.networking.k8s.io,clusternetworkpolicies.policy.networking.k8s.io"

// Look reads all facts of a lab. What is made comes before what it is made of, so
// that something new is not taken for a leak.
// Errors: a part of the lab does not answer.
func Look(ctx context.Context, s *lab.System, name string) (*Facts, error) {
	r, err := s.Reach(name)
	if err != nil {
		return nil, err
	}
	f := &Facts{Lab: r, Compiled: map[string]*table.Set{}, Broken: map[agent.AttachmentKey]string{}, Parents: map[int]int{}}
	for _, read := range []func(context.Context) error{f.readMachine, f.readAgent, f.readWeftd, f.readIntent, f.readKubernetes} {
		if err := read(ctx); err != nil {
			return nil, err
		}
	}
	if _, err := s.Tables(ctx, name); err != nil {
		f.Kernel = err.Error()
	}
	return f, nil
}

// readMachine reads what the kernel and the disk have.
func (f *Facts) readMachine(context.Context) (err error) {
	if f.Records, err = names(filepath.Join(f.Lab.AgentDir, "attachments")); err != nil {
		return err
	}
	for _, dir := range f.Lab.Nodes {
		pods, err := names(dir)
		if err != nil {
			return err
		}
		f.PodDirs = append(f.PodDirs, pods...)
	}
	if f.Spaces, err = netns.List(f.Lab.Prefix); err != nil {
		return err
	}
	if f.Mounts, err = mountsBelow(f.Lab.Dir); err != nil {
		return err
	}
	if f.Logged, err = lab.Logged(f.Lab.Dir); err != nil {
		return err
	}
	for _, pids := range f.Logged {
		for _, pid := range pids {
			f.Parents[pid] = parentOf(pid)
		}
	}
	host, err := netns.Open(f.Lab.Host)
	if err != nil {
		return err
	}
	defer host.Close()
	return host.Do(func() error {
		links, err := agent.Links()
		for name := range links {
			f.Devices = append(f.Devices, name)
		}
		slices.Sort(f.Devices)
		return err
	})
}

// readAgent reads what the agent has in force and attached.
func (f *Facts) readAgent(ctx context.Context) (err error) {
	if f.Agent, err = f.Lab.Agent.Status(ctx); err != nil {
		return err
	}
	if f.InForce, err = f.Lab.Agent.InForce(ctx); err != nil {
		return err
	}
	if f.Attached, _, err = f.Lab.Agent.Attachments(ctx); err != nil {
		return err
	}
	for _, a := range f.Attached {
		if err := f.Lab.Agent.CheckAttachment(ctx, &a.Attachment); err != nil {
			f.Broken[a.AttachmentKey] = err.Error()
		}
	}
	return nil
}

// readWeftd reads what weftd compiled for the agent.
func (f *Facts) readWeftd(ctx context.Context) error {
	data, err := f.weftd(ctx, "/v1/status")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &f.Weftd); err != nil {
		return fmt.Errorf("weftd: status: %w", err)
	}
	for _, n := range f.Weftd.Nodes {
		data, err := f.weftd(ctx, "/v1/tables/"+n.Name)
		if err != nil {
			return err
		}
		if f.Compiled[n.Name], err = table.Decode(data); err != nil {
			return fmt.Errorf("weftd: tables of %s: %w", n.Name, err)
		}
	}
	return nil
}

func (f *Facts) weftd(ctx context.Context, path string) ([]byte, error) {
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", f.Lab.Weftd)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weftd"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("weftd: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("weftd: %s: %s", path, bytes.TrimSpace(data))
	}
	return data, err
}

func (f *Facts) readIntent(ctx context.Context) error {
	c, err := client.New(client.Options{Server: "unix:" + f.Lab.Weftd})
	if err != nil {
		return err
	}
	f.Intent, err = c.Tree(ctx, nil)
	return err
}

func (f *Facts) readKubernetes(ctx context.Context) error {
	data, err := f.kubectl(ctx, "get", kinds, "--all-namespaces", "-o", "json")
	if err != nil {
		return err
	}
	if f.Live, err = decodeObjects(data); err != nil {
		return err
	}
	// Kinds that the cluster does not know have no objects.
	if data, err = f.kubectl(ctx, "get", clusterKinds, "-o", "json"); err != nil {
		if strings.Contains(err.Error(), "the server doesn't have a resource type") {
			return nil
		}
		return err
	}
	more, err := decodeObjects(data)
	f.Live = append(f.Live, more...)
	return err
}

func (f *Facts) kubectl(ctx context.Context, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, f.Lab.Kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+f.Lab.Kubeconfig)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("kubectl: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// names returns what is in a directory, sorted; nothing, if it is not there.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

// mountsBelow returns the mount points of this mount namespace below a directory.
// Source: proc_pid_mountinfo(5), field 5.
func mountsBelow(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			out = append(out, fields[4])
		}
	}
	return out, nil
}

// parentOf returns the parent of a process; 0: it is gone.
// Source: proc_pid_stat(5), field 4.
func parentOf(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	parent := 0
	var state string
	_, err = fmt.Sscan(string(data[bytes.LastIndexByte(data, ')')+1:]), &state, &parent)
	if err != nil {
		return 0
	}
	return parent
}
