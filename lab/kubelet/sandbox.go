package kubelet

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/internal/process"
)

// attachTime bounds one request to CNI plugins.
const attachTime = 2 * time.Minute

// podInterface is the name of a pod's device.
const podInterface = "eth0"

// sandboxes makes the namespaces of pods and takes them away.
type sandboxes struct {
	program string // weft-node
	prefix  string // of network namespaces
	confDir string // of CNI
	cni     *libcni.CNIConfig
	slots   chan struct{} // one each that works
}

func newSandboxes(c Config) *sandboxes {
	return &sandboxes{
		program: c.Program, prefix: c.NetnsPrefix, confDir: c.CNIConfDir,
		cni:   libcni.NewCNIConfigWithCacheDir([]string{c.CNIBinDir}, filepath.Join(c.Dir, "cni"), new(plugins)),
		slots: make(chan struct{}, 32),
	}
}

// network returns the configuration whose file name comes first.
func (s *sandboxes) network() (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(s.confDir, []string{".conflist"})
	if err != nil {
		return nil, fmt.Errorf("cni: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("cni: %s: has no network (a file *.conflist)", s.confDir)
	}
	list, err := libcni.ConfListFromFile(files[0])
	if err != nil {
		return nil, fmt.Errorf("cni: %s: %w", files[0], err)
	}
	return list, nil
}

// netnsName names the network namespace of a pod, so that it can be found by
// people. A name that is too long ends in its hash.
func (s *sandboxes) netnsName(namespace, name string) string {
	full := s.prefix + namespace + "." + name
	if len(full) <= unix.NAME_MAX {
		return full
	}
	sum := sha256.Sum256([]byte(full))
	return full[:unix.NAME_MAX-17] + "-" + hex.EncodeToString(sum[:8])
}

// acquire waits for the right to work.
func (s *sandboxes) acquire(ctx context.Context) (release func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// create makes the namespaces of the pod that r keeps and starts its first
// process. It may be called again after an error, and begins anew. hostNetwork
// says that the pod uses the machine's network.
func (s *sandboxes) create(ctx context.Context, dir string, r *record, hostname string, hostNetwork bool) error {
	release, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if r.Sandbox != nil {
		if err := s.remove(ctx, dir, r); err != nil {
			return err
		}
	}
	box := &sandbox{ID: strings.ToLower(rand.Text()), Created: time.Now()}
	if !hostNetwork {
		box.Netns = s.netnsName(r.Namespace, r.Name)
		if _, err := os.Stat(netns.Path(box.Netns)); err == nil {
			return fmt.Errorf("network namespace %s: is there already (another pod of this name is ending)", box.Netns)
		}
	}
	r.Sandbox = box
	if err := r.save(dir); err != nil {
		return err
	}
	if !hostNetwork {
		if err := s.makeNetwork(ctx, dir, r); err != nil {
			return err
		}
	}
	return s.startInit(dir, r, hostname)
}

func (s *sandboxes) makeNetwork(ctx context.Context, dir string, r *record) error {
	n, err := netns.New(r.Sandbox.Netns)
	if err != nil {
		return err
	}
	defer n.Close()
	if err := n.Do(raiseLoopback); err != nil {
		return err
	}
	list, err := s.network()
	if err != nil {
		return err
	}
	r.Sandbox.Attached = true
	if err := r.save(dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, attachTime)
	defer cancel()
	result, err := s.cni.AddNetworkList(ctx, list, s.runtime(r))
	if err != nil {
		return fmt.Errorf("cni: add: %w", err)
	}
	current, err := types100.NewResultFromResult(result)
	if err != nil {
		return fmt.Errorf("cni: result: %w", err)
	}
	for _, ip := range current.IPs {
		r.Sandbox.IPs = append(r.Sandbox.IPs, ip.Address.IP.String())
	}
	if len(r.Sandbox.IPs) == 0 {
		return fmt.Errorf("cni: result of network %s: has no address", list.Name)
	}
	return r.save(dir)
}

func raiseLoopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// runtime is what CNI is told of a pod.
func (s *sandboxes) runtime(r *record) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: r.Sandbox.ID, NetNS: netns.Path(r.Sandbox.Netns), IfName: podInterface,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", r.Namespace}, {"K8S_POD_NAME", r.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", r.Sandbox.ID}, {"K8S_POD_UID", r.UID},
		},
	}
}

// startInit starts the pod's first process, which outlives this one.
func (s *sandboxes) startInit(dir string, r *record, hostname string) error {
	l, err := listen(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	socket, err := l.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	log, err := os.OpenFile(filepath.Join(dir, podInitProgram+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.program, podInitProgram, hostname)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.Env = []string{"GOGC=50", "GOMAXPROCS=2"} // there is one a pod
	cmd.ExtraFiles = []*os.File{socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	start := cmd.Start
	if r.Sandbox.Netns != "" {
		n, err := netns.Open(r.Sandbox.Netns)
		if err != nil {
			return err
		}
		defer n.Close()
		start = func() error { return n.Do(cmd.Start) }
	}
	if err := start(); err != nil {
		return fmt.Errorf("pod-init: %w", err)
	}
	go cmd.Wait() // reaps it
	r.Sandbox.PID = cmd.Process.Pid
	if r.Sandbox.Start, err = process.StartOf(cmd.Process.Pid); err != nil {
		return fmt.Errorf("pod-init: ended (see %s): %w", log.Name(), err)
	}
	return r.save(dir)
}

// remove takes the namespaces of a pod away with all processes in them. After
// an error it may be called again. Nothing there is no error.
func (s *sandboxes) remove(ctx context.Context, dir string, r *record) error {
	box := r.Sandbox
	if box == nil {
		return nil
	}
	if err := s.kill(ctx, box); err != nil {
		return err
	}
	if box.Attached {
		if err := s.detach(ctx, r); err != nil {
			return err
		}
	}
	if box.Netns != "" {
		if err := netns.Delete(box.Netns); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(dir, socketName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.Sandbox = nil
	return r.save(dir)
}

// kill ends the first process, with which all others end. One that was started
// but never written down is found by its namespace.
func (s *sandboxes) kill(ctx context.Context, box *sandbox) error {
	if box.PID != 0 {
		if err := process.Kill(ctx, box.PID, box.alive); err != nil {
			return err
		}
	}
	if box.Netns == "" {
		return nil
	}
	n, err := netns.Open(box.Netns)
	if err != nil {
		return nil // never made
	}
	defer n.Close()
	id, err := n.ID()
	if err != nil {
		return err
	}
	pids, err := netns.Pids(id)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		err := process.Kill(ctx, pid, func() bool {
			now, ok := netns.OfProcess(pid)
			return ok && now == id && pid != os.Getpid()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *sandboxes) detach(ctx context.Context, r *record) error {
	rt := s.runtime(r)
	list, err := s.network()
	if err != nil {
		// The network's file is gone; what it was is in the cache.
		cached, cacheErr := s.cni.GetCachedAttachments(r.Sandbox.ID)
		if cacheErr != nil || len(cached) == 0 {
			return err
		}
		if list, err = libcni.NetworkConfFromBytes(cached[0].Config); err != nil {
			return fmt.Errorf("cni: cache: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, attachTime)
	defer cancel()
	if err := s.cni.DelNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("cni: del: %w", err)
	}
	return nil
}
