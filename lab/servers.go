package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weft-net/weft/internal/netns"
)

// listenTime bounds the wait for a started server.
const listenTime = 10 * time.Second

// startServer starts the HTTP server of m and returns when it listens. Its
// output goes to a log in dir.
func (s *System) startServer(ctx context.Context, dir string, m Machine) (Process, error) {
	args := slices.Clone(s.Server)
	for _, port := range m.HTTP {
		args = append(args, "--listen", ":"+strconv.Itoa(int(port)))
	}
	p, err := start(m, args, filepath.Join(dir, "http-"+strings.TrimPrefix(m.Namespace, "weft-")+".log"), func(ended <-chan struct{}) error {
		return awaitListeners(ctx, m.HTTP, ended)
	})
	if err != nil {
		err = fmt.Errorf("http server of %s: %w", m.Name, err)
	}
	return p, err
}

// start starts a program inside m, which outlives this process, and returns
// when ready, which is called inside m too, does. ended is closed when the
// program ends. Its output goes to the file logPath. After an error it is gone.
func start(m Machine, args []string, logPath string, ready func(ended <-chan struct{}) error) (Process, error) {
	n, err := netns.Open(m.Namespace)
	if err != nil {
		return Process{}, err
	}
	defer n.Close()
	return launch(n.Do, m.Name, args, logPath, ready)
}

// startHere is start for a program in this process's own namespace; name says
// what it is.
func startHere(name string, args []string, logPath string, ready func(ended <-chan struct{}) error) (Process, error) {
	return launch(func(fn func() error) error { return fn() }, name, args, logPath, ready)
}

// launch starts a program and waits for it, both by within.
func launch(within func(func() error) error, name string, args []string, logPath string, ready func(ended <-chan struct{}) error) (Process, error) {
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return Process{}, err
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := within(cmd.Start); err != nil {
		return Process{}, err
	}
	ended := make(chan struct{})
	go func() { // reaps it, should it end before this process does
		cmd.Wait()
		close(ended)
	}()
	p, err := identify(cmd.Process.Pid)
	if err == nil {
		p.Machine = name
		err = within(func() error { return ready(ended) })
	}
	if errors.Is(err, os.ErrProcessDone) {
		err = errEnded // before it could be looked at
	}
	if err != nil {
		err = fmt.Errorf("%w%s", err, lastLine(logPath))
		if killed := cmd.Process.Kill(); !errors.Is(killed, os.ErrProcessDone) {
			err = errors.Join(err, killed)
		}
	}
	return p, err
}

var errEnded = errors.New("ended before it listened")

// awaitListeners returns when something accepts connections on every port of
// the current namespace's loopback, or ended is closed.
func awaitListeners(ctx context.Context, ports []uint16, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, listenTime)
	defer cancel()
	for _, port := range ports {
		for {
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err == nil {
				conn.Close()
				break
			}
			select {
			case <-ended:
				return errEnded
			case <-ctx.Done():
				return fmt.Errorf("does not listen on port %d: %w", port, err)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

// lastLine returns the end of a log for an error text, or nothing.
func lastLine(path string) string {
	data, err := os.ReadFile(path)
	data = bytes.TrimSpace(data)
	if err != nil || len(data) == 0 {
		return ""
	}
	return " (" + string(data[bytes.LastIndexByte(data, '\n')+1:]) + ")"
}
