package load

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file bypass the Go scheduler (RawSyscall), as only a process run with Environ may.

// call makes one system call again for as long as a signal interrupts it.
func call(trap, a1, a2, a3, a4, a5, a6 uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(trap, a1, a2, a3, a4, a5, a6)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func read(fd int, p []byte) (int, error) {
	return call(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
}

func write(fd int, p []byte) (int, error) {
	return call(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
}

func accept(fd int) (int, error) {
	return call(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
}

func shut(fd int) error {
	_, err := call(unix.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0, 0)
	return err
}

func noDelay(fd int) error {
	one := int32(1)
	_, err := call(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY,
		uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one), 0)
	return err
}

// epollWait fills events and returns how many; it waits without a limit.
func epollWait(fd int, events []unix.EpollEvent) (int, error) {
	return call(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)),
		^uintptr(0), 0, 0)
}

// sockaddr is an address in the kernel's own layout, struct sockaddr_in or sockaddr_in6 (ip(7), ipv6(7)).
type sockaddr struct {
	raw [unix.SizeofSockaddrInet6]byte
	len uintptr
}

func newSockaddr(addr netip.Addr, port uint16) sockaddr {
	var sa sockaddr
	binary.BigEndian.PutUint16(sa.raw[2:], port)
	if addr.Is4() {
		binary.NativeEndian.PutUint16(sa.raw[:], unix.AF_INET)
		copy(sa.raw[4:], addr.AsSlice())
		sa.len = unix.SizeofSockaddrInet4
		return sa
	}
	binary.NativeEndian.PutUint16(sa.raw[:], unix.AF_INET6)
	copy(sa.raw[8:], addr.AsSlice()) // after port and flow information
	sa.len = unix.SizeofSockaddrInet6
	return sa
}

func family(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func socket(addr netip.Addr, typ int) (int, error) {
	return call(unix.SYS_SOCKET, uintptr(family(addr)), uintptr(typ|unix.SOCK_CLOEXEC), 0, 0, 0, 0)
}

func connect(fd int, sa *sockaddr) error {
	_, err := call(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)), sa.len, 0, 0, 0)
	return err
}

func bind(fd int, sa *sockaddr) error {
	_, err := call(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa.raw)), sa.len, 0, 0, 0)
	return err
}

// dial returns a connected TCP socket with TCP_NODELAY.
func dial(addr netip.Addr, sa *sockaddr) (int, error) {
	fd, err := socket(addr, unix.SOCK_STREAM)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	if err := noDelay(fd); err != nil {
		return 0, fmt.Errorf("nodelay: %w", err)
	}
	if err := connect(fd, sa); err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// listen returns a TCP socket that listens on addr and port; accepted sockets inherit its TCP_NODELAY.
func listen(addr netip.Addr, port uint16) (int, error) {
	fd, err := socket(addr, unix.SOCK_STREAM)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	if err := noDelay(fd); err != nil {
		return 0, fmt.Errorf("nodelay: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return 0, fmt.Errorf("reuseaddr: %w", err)
	}
	sa := newSockaddr(addr, port)
	if err := bind(fd, &sa); err != nil {
		return 0, fmt.Errorf("bind %v port %d: %w", addr, port, err)
	}
	if err := unix.Listen(fd, 128); err != nil {
		return 0, fmt.Errorf("listen: %w", err)
	}
	return fd, nil
}

// listenAccept listens on FirstPort, says ready and returns the first n connections.
func listenAccept(addr netip.Addr, n int, ready func() error) ([]int, error) {
	l, err := listen(addr, FirstPort)
	if err != nil {
		return nil, err
	}
	if err := ready(); err != nil {
		return nil, err
	}
	conns := make([]int, n)
	for i := range conns {
		if conns[i], err = accept(l); err != nil {
			return nil, fmt.Errorf("accept: %w", err)
		}
	}
	return conns, nil
}
