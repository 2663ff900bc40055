package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// etcdPeer is the port of etcd that other members would use.
const etcdPeer = "etcd-peer"

// state is what is kept of a control plane.
type state struct {
	Ports     map[string]int `json:"ports"` // by part, and etcdPeer
	Processes []Process      `json:"processes"`
}

func statePath(dir string) string { return filepath.Join(dir, "state.json") }

// loadState returns the state in dir, empty if there is none.
func loadState(dir string) (*state, error) {
	s := &state{Ports: map[string]int{}}
	data, err := os.ReadFile(statePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("cluster: %s: %w", statePath(dir), err)
	}
	return s, nil
}

func (s *state) save(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return writeFile(statePath(dir), append(data, '\n'))
}

// writeFile replaces a file as a whole; only its owner may read it.
func writeFile(path string, data []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return os.Rename(next, path)
}

func (s *state) address(part string) string { return local(s.Ports[part]) }

// process returns the process of a part that was started last.
func (s *state) process(part string) *Process {
	for i := range s.Processes {
		if s.Processes[i].Name == part {
			return &s.Processes[i]
		}
	}
	return nil
}

// Where ports are chosen from: below those that the kernel gives to connections,
// or a part that is started again could find its own taken. Source: ip(7),
// ip_local_port_range.
const firstPort, lastPort = 20000, 32767

// choosePorts gives every part that has none a port that is free now.
func (s *state) choosePorts() error {
	if s.Ports == nil {
		s.Ports = map[string]int{}
	}
	for _, part := range append([]string{etcdPeer}, partNames...) {
		if s.Ports[part] != 0 {
			continue
		}
		var l net.Listener
		err := errors.New("none was tried")
		if part == apiserver {
			l, err = net.Listen("tcp", local(APIPort))
		}
		for tries := 100; err != nil && tries > 0; tries-- {
			l, err = net.Listen("tcp", local(firstPort+rand.IntN(lastPort-firstPort+1)))
		}
		if err != nil {
			return fmt.Errorf("cluster: port of %s: %w", part, err)
		}
		defer l.Close() // all are held until the last one is chosen
		s.Ports[part] = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}

// lock waits for the only right to change what is in dir.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("cluster: lock: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("cluster: another process changes it: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Started returns the process of each part that was started last and runs, by
// the part's name; the number is 0 if it has ended.
func (c Config) Started() (map[string]int, error) {
	s, err := loadState(c.Dir)
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, part := range partNames {
		out[part] = 0
		if p := s.process(part); p != nil && p.alive() {
			out[part] = p.PID
		}
	}
	return out, nil
}
