package ebpf

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// departures tells which devices of a network namespace are gone, or are not to
// be relied upon any more. The kernel tells it before the number of a device can
// be that of another (net/core/dev.c, unregister_netdevice_many_notify).
type departures struct{ socket int }

// backlog is room for what nobody asked for yet, in bytes: for some thousand
// devices.
const backlog = 4 << 20

// listen begins to hear of those of the current namespace.
func listen() (*departures, error) {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	err = errors.Join(onlyDepartures(s), unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, backlog),
		unix.Bind(s, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}))
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", errors.Join(err, unix.Close(s)))
	}
	return &departures{s}, nil
}

// Where messages have what is of interest. Source: linux/netlink.h, struct
// nlmsghdr; linux/rtnetlink.h, struct ifinfomsg.
const (
	typeAt  = 4
	indexAt = unix.SizeofNlMsghdr + 4
)

// onlyDepartures has a socket take no other messages: devices change often.
func onlyDepartures(socket int) error {
	kind := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.RTM_DELLINK)) // filters load in network order
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: typeAt},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(kind), Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return unix.SetsockoptSockFprog(socket, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// since returns the numbers of the devices that it heard of since it was asked
// last; whole is false if there were more. It does not wait.
func (d *departures) since() (ifindexes []int, whole bool, err error) {
	var message [unix.SizeofNlMsghdr + unix.SizeofIfInfomsg]byte // of more it gets the beginning
	for whole = true; ; {
		n, _, err := unix.Recvfrom(d.socket, message[:], 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return ifindexes, whole, nil
		case errors.Is(err, unix.ENOBUFS):
			whole = false
		case err != nil:
			return nil, false, fmt.Errorf("netlink: %w", err)
		case n == len(message):
			ifindexes = append(ifindexes, int(int32(binary.NativeEndian.Uint32(message[indexAt:]))))
		}
	}
}

func (d *departures) close() error { return unix.Close(d.socket) }
