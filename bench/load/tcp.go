package load

import (
	"fmt"
	"io"
	"time"
)

// Request bytes of ConnectRequestClose.
const (
	more = 'm'
	last = 'l' // the server ends after this connection
)

// exchange writes the one byte of p and reads the answer into it.
func exchange(fd int, p []byte) error {
	if _, err := write(fd, p); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	n, err := read(fd, p)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if n != len(p) {
		return fmt.Errorf("read: %w", io.ErrUnexpectedEOF)
	}
	return nil
}

func rrClient(s Spec, _ func() error) (Result, error) {
	sa := newSockaddr(s.Addr, FirstPort)
	fd, err := dial(s.Addr, &sa)
	if err != nil {
		return Result{}, err
	}
	return timed(s.Duration, func(bool) error { return exchange(fd, []byte{more}) })
}

// timed repeats op for d, measures each and calls it once more, not measured, with end set.
func timed(d time.Duration, op func(end bool) error) (Result, error) {
	h := new(histogram)
	m := start()
	var at time.Duration
	for at < d {
		if err := op(false); err != nil {
			return Result{}, fmt.Errorf("operation %d: %w", h.total, err)
		}
		now := m.elapsed()
		h.add(now - at)
		at = now
	}
	r := m.result(h.total, at)
	r.P50, r.P99 = h.percentile(50), h.percentile(99)
	return r, op(true)
}

func rrServer(s Spec, ready func() error) (Result, error) {
	conns, err := listenAccept(s.Addr, 1, ready)
	if err != nil {
		return Result{}, err
	}
	p := make([]byte, 1)
	m := start()
	for ops := int64(0); ; ops++ {
		n, err := read(conns[0], p)
		if err != nil {
			return Result{}, fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return m.result(ops, m.elapsed()), nil
		}
		if _, err := write(conns[0], p); err != nil {
			return Result{}, fmt.Errorf("write: %w", err)
		}
	}
}

func crrClient(s Spec, _ func() error) (Result, error) {
	var targets []sockaddr
	for port := FirstPort; port <= LastPort; port++ {
		targets = append(targets, newSockaddr(s.Addr, port))
	}
	p := make([]byte, 1)
	next := 0
	return timed(s.Duration, func(end bool) error {
		p[0] = more
		if end {
			p[0] = last
		}
		fd, err := dial(s.Addr, &targets[next%len(targets)])
		if err != nil {
			return err
		}
		next++
		if err := exchange(fd, p); err != nil {
			return err
		}
		return shut(fd)
	})
}

// crrServer accepts from its ports in turn, the order in which the client connects to them. It lets the client close first, so
// that TIME-WAIT stays with the client.
func crrServer(s Spec, ready func() error) (Result, error) {
	var listeners []int
	for port := FirstPort; port <= LastPort; port++ {
		l, err := listen(s.Addr, port)
		if err != nil {
			return Result{}, err
		}
		listeners = append(listeners, l)
	}
	if err := ready(); err != nil {
		return Result{}, err
	}
	m := start()
	p := make([]byte, 1)
	for ops := int64(0); ; ops++ {
		if err := serveOne(listeners[ops%int64(len(listeners))], p); err != nil {
			return Result{}, fmt.Errorf("connection %d: %w", ops, err)
		}
		if p[0] == last {
			return m.result(ops, m.elapsed()), nil
		}
	}
}

// serveOne answers one connection's request and leaves it in p.
func serveOne(listener int, p []byte) error {
	fd, err := accept(listener)
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	if n, err := read(fd, p); err != nil || n != 1 {
		return fmt.Errorf("read: %d bytes: %w", n, err)
	}
	if _, err := write(fd, p); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	var eof [1]byte
	if n, err := read(fd, eof[:]); err != nil || n != 0 {
		return fmt.Errorf("read end: %d bytes: %w", n, err)
	}
	return shut(fd)
}

func streamClient(s Spec, _ func() error) (Result, error) {
	sa := newSockaddr(s.Addr, FirstPort)
	fd, err := dial(s.Addr, &sa)
	if err != nil {
		return Result{}, err
	}
	p := make([]byte, 128<<10)
	m := start()
	for m.elapsed() < s.Duration {
		if _, err := write(fd, p); err != nil {
			return Result{}, fmt.Errorf("write: %w", err)
		}
	}
	r := m.result(0, m.elapsed())
	return r, shut(fd)
}

func streamServer(s Spec, ready func() error) (Result, error) {
	conns, err := listenAccept(s.Addr, 1, ready)
	if err != nil {
		return Result{}, err
	}
	p := make([]byte, 256<<10)
	m := start()
	var ops int64
	for {
		n, err := read(conns[0], p)
		if err != nil {
			return Result{}, fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			return m.result(ops, m.elapsed()), nil
		}
		ops += int64(n)
	}
}
