package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Bounds of a forwarder.
const (
	maxForwarded = 1024             // connections at once
	forwardDial  = 10 * time.Second // until the far side accepts
)

// Forward takes TCP connections at the address listen inside a network
// namespace and leads each to the address to in this process's own, until ctx
// ends or the listener breaks.
func Forward(ctx context.Context, namespace, listen, to string) error {
	var l net.Listener
	err := inside(namespace, func() (err error) {
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", listen)
		return err
	})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	slots := make(chan struct{}, maxForwarded)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			carry(ctx, conn.(*net.TCPConn), to)
		}()
	}
}

// carry copies both directions of a connection until both have ended.
func carry(ctx context.Context, near *net.TCPConn, to string) {
	defer near.Close()
	dialing, cancel := context.WithTimeout(ctx, forwardDial)
	conn, err := new(net.Dialer).DialContext(dialing, "tcp", to)
	cancel()
	if err != nil {
		near.SetLinger(0) // a reset: nobody is there
		return
	}
	far := conn.(*net.TCPConn)
	defer far.Close()
	var both sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{near, far}, {far, near}} {
		both.Go(func() {
			if _, err := io.Copy(way[1], way[0]); err != nil && !errors.Is(err, net.ErrClosed) {
				way[0].Close()
			}
			way[1].CloseWrite()
		})
	}
	both.Wait()
}
