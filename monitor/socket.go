package monitor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// open returns a new socket of the current namespace that does not block.
func open(network string, v6 bool) (int, error) {
	family, icmp := unix.AF_INET, unix.IPPROTO_ICMP
	if v6 {
		family, icmp = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	kind, proto := unix.SOCK_DGRAM, 0
	switch network {
	case "tcp":
		kind = unix.SOCK_STREAM
	case "udp":
	case "ping":
		proto = icmp
	default:
		return -1, fmt.Errorf("network %q: is not known (tcp, udp, ping)", network)
	}
	return unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// past is a deadline that ends every wait at once.
var past = time.Unix(1, 0)

// connected waits until the TCP socket of file, which has begun to connect, is
// connected, or ctx ends.
func connected(ctx context.Context, file *os.File) error {
	stop := context.AfterFunc(ctx, func() { file.SetDeadline(past) })
	defer stop()
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Write(func(fd uintptr) bool {
		var no int
		if no, result = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); result != nil {
			return true
		}
		if no != 0 {
			result = syscall.Errno(no)
			return true
		}
		_, result = unix.Getpeername(int(fd))
		return result != unix.ENOTCONN
	})
	if err != nil {
		return err
	}
	return result
}

// bounded is a connection whose waits end with a context.
type bounded struct {
	net.Conn
	stop func() bool
}

// Close implements net.Conn.
func (b *bounded) Close() error {
	b.stop()
	return b.Conn.Close()
}
