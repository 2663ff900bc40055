package load

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// connections is how many RequestResponse32 keeps busy.
const connections = 32

// watch returns an epoll instance that reports when one of fds is readable; an event's Fd is the index in fds.
func watch(fds []int) (int, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("epoll: %w", err)
	}
	for i, fd := range fds {
		ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			return 0, fmt.Errorf("epoll add: %w", err)
		}
	}
	return ep, nil
}

// rr32Client sends the next request of a connection when its answer came, until s.Duration is over.
func rr32Client(s Spec, _ func() error) (Result, error) {
	conns, err := dialAll(s)
	if err != nil {
		return Result{}, err
	}
	ep, err := watch(conns)
	if err != nil {
		return Result{}, err
	}
	var (
		h      = new(histogram)
		sent   [connections]time.Duration
		events = make([]unix.EpollEvent, connections)
		p      = []byte{more}
		now    time.Duration
		m      = start()
	)
	for _, fd := range conns {
		if _, err := write(fd, p); err != nil {
			return Result{}, fmt.Errorf("write: %w", err)
		}
	}
	for now < s.Duration {
		n, err := epollWait(ep, events)
		if err != nil {
			return Result{}, fmt.Errorf("epoll wait: %w", err)
		}
		for _, ev := range events[:n] {
			if n, err := read(conns[ev.Fd], p); err != nil || n != 1 {
				return Result{}, fmt.Errorf("read: %d bytes: %w", n, err)
			}
			now = m.elapsed()
			h.add(now - sent[ev.Fd])
			sent[ev.Fd] = now
			if _, err := write(conns[ev.Fd], p); err != nil {
				return Result{}, fmt.Errorf("write: %w", err)
			}
		}
	}
	r := m.result(h.total, now)
	r.P50, r.P99 = h.percentile(50), h.percentile(99)
	return r, drain(conns)
}

func dialAll(s Spec) ([]int, error) {
	sa := newSockaddr(s.Addr, FirstPort)
	conns := make([]int, connections)
	for i := range conns {
		fd, err := dial(s.Addr, &sa)
		if err != nil {
			return nil, err
		}
		conns[i] = fd
	}
	return conns, nil
}

// drain reads the one answer that each connection still owes: closing over unread data would reset the connection.
func drain(conns []int) error {
	p := make([]byte, 1)
	for _, fd := range conns {
		if n, err := read(fd, p); err != nil || n != 1 {
			return fmt.Errorf("drain: %d bytes: %w", n, err)
		}
		if err := shut(fd); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	}
	return nil
}

func rr32Server(s Spec, ready func() error) (Result, error) {
	conns, err := listenAccept(s.Addr, connections, ready)
	if err != nil {
		return Result{}, err
	}
	ep, err := watch(conns)
	if err != nil {
		return Result{}, err
	}
	events := make([]unix.EpollEvent, connections)
	p := make([]byte, 1)
	m := start()
	var ops int64
	for open := connections; open > 0; {
		n, err := epollWait(ep, events)
		if err != nil {
			return Result{}, fmt.Errorf("epoll wait: %w", err)
		}
		for _, ev := range events[:n] {
			fd := conns[ev.Fd]
			n, err := read(fd, p)
			if err != nil {
				return Result{}, fmt.Errorf("read: %w", err)
			}
			if n == 0 {
				if err := shut(fd); err != nil { // also leaves the epoll instance
					return Result{}, fmt.Errorf("close: %w", err)
				}
				open--
				continue
			}
			if _, err := write(fd, p); err != nil {
				return Result{}, fmt.Errorf("write: %w", err)
			}
			ops++
		}
	}
	return m.result(ops, m.elapsed()), nil
}
