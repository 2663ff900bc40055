package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The programs that weft-node starts itself as, besides web and pause.
const (
	podInitProgram       = "pod-init"
	containerInitProgram = "container-init"
)

// The descriptors that they get.
const (
	socketDescriptor = 3 // pod-init: the socket that it serves
	errorDescriptor  = 3 // container-init: takes what went wrong, and is closed by success
	specDescriptor   = 4 // container-init: the spec
)

// firstCall is how long pod-init waits to be called for the first time.
const firstCall = time.Minute

// podInit is the first process of a pod's namespaces. It starts its containers
// and outlives weft-node, so that these go on; when it is killed, all processes of the
// pod are.
type podInit struct {
	family  *family
	mu      sync.Mutex
	runs    map[string]*run // by container
	changed chan struct{}   // closed and made anew when runs change
}

// run is one run of a container.
type run struct {
	state     state
	pid       int
	env       []string
	dir       string
	io        *stdio
	namespace *os.File // mount namespace
	ended     chan struct{}
}

// servePod is the program pod-init. hostname becomes the pod's.
func servePod(hostname string) error {
	if os.Getpid() != 1 {
		return errors.New("pod-init: is not the first process of a PID namespace")
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("pod-init: hostname: %w", err)
	}
	// What the machine unmounts, such as the names of network namespaces, is not
	// held here.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("pod-init: mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("pod-init: /proc: %w", err)
	}
	p := &podInit{family: newFamily(), runs: map[string]*run{}, changed: make(chan struct{})}
	l, err := net.FileListener(os.NewFile(socketDescriptor, "socket"))
	if err != nil {
		return fmt.Errorf("pod-init: socket: %w", err)
	}
	// A weft-node that was killed before it wrote down which process this is
	// never calls.
	l.(*net.UnixListener).SetDeadline(time.Now().Add(firstCall))
	for {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("pod-init: socket: %w", err)
		}
		l.(*net.UnixListener).SetDeadline(time.Time{})
		go p.serve(conn.(*net.UnixConn))
	}
}

// serve answers one connection.
func (p *podInit) serve(conn *net.UnixConn) {
	defer conn.Close()
	r, rest, files, err := accept(conn)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return
	}
	encode := json.NewEncoder(conn)
	var answer reply
	switch r.Op {
	case opStart:
		err = p.start(r.Spec)
	case opSignal:
		err = p.signal(r.Container, r.Run, unix.Signal(r.Signal))
	case opExec:
		answer.Exit, err = p.exec(r, files, rest)
	case opAttach:
		answer.Exit, err = p.attach(r, files, rest)
	case opWatch:
		p.watch(encode, rest)
		return
	default:
		err = fmt.Errorf("pod-init: %q: is no operation", r.Op)
	}
	if err != nil {
		answer.Error = err.Error()
	}
	encode.Encode(answer)
}

// change calls fn with the right to change runs and tells watchers.
func (p *podInit) change(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *podInit) watch(encode *json.Encoder, rest *json.Decoder) {
	gone := ended(rest)
	for {
		p.mu.Lock()
		r := reply{Containers: map[string]state{}}
		for name, run := range p.runs {
			r.Containers[name] = run.state
		}
		changed := p.changed
		p.mu.Unlock()
		if encode.Encode(r) != nil {
			return
		}
		select {
		case <-gone:
			return
		case <-changed:
		}
	}
}

// ended returns what is closed when the other side of a connection is gone.
func ended(rest *json.Decoder) <-chan struct{} {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for rest.Decode(&request{}) == nil {
		}
	}()
	return gone
}

// running returns the run of a container that runs.
func (p *podInit) running(container string) (*run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.runs[container]
	if r == nil || !r.state.Running {
		return nil, fmt.Errorf("container %s: does not run", container)
	}
	return r, nil
}

func (p *podInit) signal(container, id string, s unix.Signal) error {
	r, err := p.running(container)
	if err != nil || r.state.ID != id {
		return nil // it has ended, which is what signals are for
	}
	if err := unix.Kill(r.pid, s); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// start starts a container and returns when its program runs. A program that
// can not be started is a container that ended with code 128.
func (p *podInit) start(s *spec) error {
	if s == nil {
		return errors.New("pod-init: start: spec: is missing")
	}
	if r, err := p.running(s.Name); err == nil {
		if r.state.ID == s.ID {
			return nil
		}
		return fmt.Errorf("container %s: runs already", s.Name)
	}
	r := &run{env: s.Env, dir: s.Dir, ended: make(chan struct{})}
	r.state = state{ID: s.ID, Running: true, Started: time.Now()}
	done, err := p.launch(s, r)
	if err != nil {
		r.state.Running, r.state.Finished = false, time.Now()
		r.state.Exit, r.state.Failure = 128, err.Error()
		close(r.ended)
		p.change(func() { p.runs[s.Name] = r })
		return nil
	}
	p.change(func() { p.runs[s.Name] = r })
	go p.await(r, done)
	return nil
}

// await returns when a run and all processes that it left are gone.
func (p *podInit) await(r *run, done <-chan syscall.WaitStatus) {
	status := <-done
	var st unix.Stat_t
	if unix.Fstat(int(r.namespace.Fd()), &st) == nil {
		killRest(st.Ino)
	}
	r.io.finish()
	r.namespace.Close()
	p.change(func() {
		r.state.Running, r.state.Finished = false, time.Now()
		r.state.Exit, r.state.Signal = exitOf(status)
	})
	close(r.ended)
}

// launch starts a container's program through container-init.
func (p *podInit) launch(s *spec, r *run) (done <-chan syscall.WaitStatus, err error) {
	if r.io, err = newStdio(s); err != nil {
		return nil, err
	}
	defer r.io.closeChild()
	defer func() {
		if err != nil {
			r.io.close()
		}
	}()
	failed, failure, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer failed.Close()
	file, err := memoryFile(s)
	if err != nil {
		failure.Close()
		return nil, err
	}
	defer file.Close()
	attr := &os.ProcAttr{
		Dir: "/", Env: []string{},
		Files: append(slices.Clone(r.io.child), failure, file),
		Sys:   &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Setsid: true, Setctty: s.TTY},
	}
	r.pid, done, err = p.family.start("/proc/self/exe", []string{"weft-node", containerInitProgram}, attr)
	failure.Close()
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(failed)
	if err == nil && len(text) > 0 {
		err = errors.New(string(text))
	}
	if err == nil {
		r.namespace, err = os.Open("/proc/" + strconv.Itoa(r.pid) + "/ns/mnt")
	}
	if errors.Is(err, os.ErrNotExist) { // it has ended already: of no namespace there is anything left
		r.namespace, err = os.Open(os.DevNull)
	}
	if err != nil {
		unix.Kill(r.pid, unix.SIGKILL)
		<-done
		return nil, err
	}
	return done, nil
}

// memoryFile returns a file with a spec, which may hold secrets, that is on no
// disk.
func memoryFile(s *spec) (*os.File, error) {
	fd, err := unix.MemfdCreate("spec", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "spec")
	err = json.NewEncoder(f).Encode(s)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// exec runs a program in a container and returns its exit code. It is killed
// when the caller goes.
func (p *podInit) exec(r request, files []*os.File, rest *json.Decoder) (int, error) {
	in, err := p.running(r.Container)
	if err != nil {
		return 0, err
	}
	if want := map[bool]int{false: 3, true: 1}[r.TTY]; len(files) != want || len(r.Args) == 0 {
		return 0, fmt.Errorf("exec in container %s: has %d descriptors and %d arguments (%d and at least 1)", r.Container, len(files), len(r.Args), want)
	}
	for _, f := range files { // they are the caller's, which does not block
		if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
			return 0, err
		}
	}
	stdio := files
	if r.TTY {
		stdio = []*os.File{files[0], files[0], files[0]}
	}
	env := in.env
	if r.TTY && !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		env = append(slices.Clone(env), "TERM=xterm")
	}
	attr := &os.ProcAttr{Env: env, Files: stdio, Sys: &syscall.SysProcAttr{Setsid: true, Setctty: r.TTY}}
	pid, done, err := p.startIn(in, r.Args, attr)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		f.Close() // the program's alone now: who reads sees its end
	}
	select {
	case status := <-done:
		code, _ := exitOf(status)
		return code, nil
	case <-ended(rest):
		unix.Kill(-pid, unix.SIGKILL)
		<-done
		return 0, io.EOF
	}
}

// startIn starts a program in the mount namespace of a run.
func (p *podInit) startIn(in *run, args []string, attr *os.ProcAttr) (pid int, done <-chan syscall.WaitStatus, err error) {
	back := make(chan struct{})
	go func() {
		defer close(back)
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		// A thread that shares its root with others can not change it.
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			return
		}
		if err = unix.Setns(int(in.namespace.Fd()), unix.CLONE_NEWNS); err != nil {
			return
		}
		if err = unix.Chdir(directory(in.dir)); err != nil {
			return
		}
		path, found := lookPath(args[0], in.env)
		if found != nil {
			err = fmt.Errorf("exec: %w", found)
			return
		}
		pid, done, err = p.family.start(path, args, attr)
	}()
	<-back
	return pid, done, err
}

func directory(dir string) string {
	if dir == "" {
		return "/"
	}
	return dir
}

// lookPath returns the program that name means to a process with env.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	for _, e := range env {
		if dirs, ok := strings.CutPrefix(e, "PATH="); ok {
			for _, dir := range filepath.SplitList(dirs) {
				if path := filepath.Join(dir, name); executable(path) == nil {
					return path, nil
				}
			}
		}
	}
	return "", fmt.Errorf("%q: executable file not found in $PATH", name)
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s: is a directory", path)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s: permission denied", path)
	}
	return nil
}

// attach carries a container's stdio until it or the caller is gone.
func (p *podInit) attach(r request, files []*os.File, rest *json.Decoder) (int, error) {
	to, err := p.running(r.Container)
	if err != nil {
		return 0, err
	}
	if len(files) != 3 {
		return 0, fmt.Errorf("attach to container %s: has %d descriptors (3)", r.Container, len(files))
	}
	detach := to.io.attach(&viewer{files[1], files[2]}, files[0])
	defer detach()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			var further request
			if rest.Decode(&further) != nil {
				return
			}
			if further.Op == opResize {
				to.io.resize(further.Rows, further.Columns)
			}
		}
	}()
	select {
	case <-gone:
		return 0, io.EOF
	case <-to.ended:
		p.mu.Lock()
		defer p.mu.Unlock()
		return to.state.Exit, nil
	}
}
