package load

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batch         = 64
	datagramBytes = 18      // the smallest Ethernet frame over IPv4
	socketBuffer  = 4 << 20 // bytes
	silence       = 200 * time.Millisecond
)

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	_   uint32 // msg_len: how many bytes went through, which nobody reads
}

// messages is a batch of datagrams with their memory.
type messages struct {
	hdrs [batch]mmsghdr
	iovs [batch]unix.Iovec
	data [batch][datagramBytes]byte
}

func newMessages() *messages {
	b := new(messages)
	for i := range b.hdrs {
		b.iovs[i].Base = &b.data[i][0]
		b.iovs[i].SetLen(datagramBytes)
		b.hdrs[i].hdr.Iov = &b.iovs[i]
		b.hdrs[i].hdr.SetIovlen(1)
	}
	return b
}

// send and receive return how many datagrams of the batch went through; receive waits for one and takes what else is there.
func (b *messages) send(fd int) (int, error) {
	return call(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs)), batch, 0, 0, 0)
}

func (b *messages) receive(fd int) (int, error) {
	return call(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs)), batch, unix.MSG_WAITFORONE, 0, 0)
}

func udpClient(s Spec, _ func() error) (Result, error) {
	fd, err := socket(s.Addr, unix.SOCK_DGRAM)
	if err != nil {
		return Result{}, fmt.Errorf("socket: %w", err)
	}
	sa := newSockaddr(s.Addr, FirstPort)
	if err := connect(fd, &sa); err != nil {
		return Result{}, fmt.Errorf("connect: %w", err)
	}
	b := newMessages()
	m := start()
	for m.elapsed() < s.Duration {
		if _, err := b.send(fd); err != nil {
			return Result{}, fmt.Errorf("sendmmsg: %w", err)
		}
	}
	return m.result(0, m.elapsed()), nil
}

// udpServer counts until nothing came for as long as silence.
func udpServer(s Spec, ready func() error) (Result, error) {
	fd, err := socket(s.Addr, unix.SOCK_DGRAM)
	if err != nil {
		return Result{}, fmt.Errorf("socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer); err != nil {
		return Result{}, fmt.Errorf("receive buffer: %w", err)
	}
	sa := newSockaddr(s.Addr, FirstPort)
	if err := bind(fd, &sa); err != nil {
		return Result{}, fmt.Errorf("bind: %w", err)
	}
	if err := ready(); err != nil {
		return Result{}, err
	}
	b := newMessages()
	ops, err := b.receive(fd)
	if err != nil {
		return Result{}, fmt.Errorf("recvmmsg: %w", err)
	}
	tv := unix.NsecToTimeval(silence.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return Result{}, fmt.Errorf("receive timeout: %w", err)
	}
	return b.count(fd, int64(ops))
}

func (b *messages) count(fd int, ops int64) (Result, error) {
	m := start()
	var at time.Duration
	for {
		n, err := b.receive(fd)
		if errors.Is(err, unix.EAGAIN) {
			return m.result(ops, at), nil
		}
		if err != nil {
			return Result{}, fmt.Errorf("recvmmsg: %w", err)
		}
		ops += int64(n)
		at = m.elapsed()
	}
}
