package scenario_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weft-net/weft/internal/scenario"
	"github.com/weft-net/weft/packet"
)

// conversation is an open connection whose other end sends back what it gets.
type conversation interface {
	// exchange sends about so many bytes of data, waits until they are back,
	// and returns who sent them for the other end.
	exchange(bytes int, wait time.Duration) (netip.Addr, error)
	io.Closer
}

// outcome words an error of a socket.
// Errors: err says nothing about the network.
func outcome(err error) (string, error) {
	for _, told := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, told) {
			return scenario.Refused, nil
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		return scenario.Dropped, nil
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return scenario.Dropped, nil
	}
	return "", err
}

// open makes a connection for f, for whose answer it waits, and says what became
// of it; the conversation is nil if it was not delivered.
func (r *lived) open(f *scenario.Flow, wait time.Duration) (conversation, string, error) {
	begin := r.openTCP
	if f.Proto == packet.UDP {
		begin = r.openUDP
	}
	c, err := begin(f, wait)
	var source netip.Addr
	if err == nil {
		source, err = c.exchange(1, wait)
	}
	if err != nil {
		if c != nil {
			c.Close()
		}
		got, err := outcome(err)
		return nil, got, err
	}
	return c, scenario.Seen(source), nil
}

// end is one end of a conversation.
type end struct {
	client  net.Conn
	servers []io.Closer // who listens
	sent    int
}

func (e *end) Close() error {
	var err error
	if e.client != nil {
		err = e.client.Close()
	}
	for _, s := range e.servers {
		err = errors.Join(err, s.Close())
	}
	return err
}

// say sends the next line, of at least so many bytes, and sets the time that
// its echo has.
func (e *end) say(bytes int, wait time.Duration) (line string, err error) {
	e.sent++
	line = strconv.Itoa(e.sent)
	line = strings.Repeat("0", max(0, bytes-len(line))) + line + "\n"
	if err := e.client.SetDeadline(time.Now().Add(wait)); err != nil {
		return line, err
	}
	_, err = io.WriteString(e.client, line)
	return line, err
}

// stream is a TCP conversation. The other end begins each line that it sends
// back with the address that it sees.
type stream struct {
	end
	lines *bufio.Reader
}

func (r *lived) openTCP(f *scenario.Flow, wait time.Duration) (conversation, error) {
	s := &stream{}
	if err := r.receive(f, func(at netip.AddrPort) error {
		l, err := net.Listen("tcp4", at.String())
		if err == nil {
			s.servers = append(s.servers, l)
			go serveTCP(l)
		}
		return unlessTaken(err)
	}); err != nil {
		return s, err
	}
	dialer := net.Dialer{Timeout: wait, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.Src, 0))}
	err := in(r.sender(f), func() (err error) {
		s.client, err = dialer.Dial("tcp4", netip.AddrPortFrom(f.Dst, f.DstPort).String())
		return err
	})
	if err != nil {
		return s, err
	}
	s.lines = bufio.NewReader(s.client)
	return s, nil
}

// unlessTaken forgets that a port is taken: by the server of a held connection,
// which answers others too.
func unlessTaken(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil
	}
	return err
}

// serveTCP answers every line of every connection until l is closed.
func serveTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				peer := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
				if _, err := fmt.Fprintf(conn, "%s %s\n", peer, lines.Text()); err != nil {
					return
				}
			}
		}()
	}
}

// exchange implements conversation. Answers to lines before may still come.
func (s *stream) exchange(bytes int, wait time.Duration) (netip.Addr, error) {
	line, err := s.say(bytes, wait)
	for err == nil {
		var got string
		if got, err = s.lines.ReadString('\n'); err == nil {
			var peer, text string
			if _, err = fmt.Sscan(got, &peer, &text); err == nil && text+"\n" == line {
				return netip.ParseAddr(peer)
			}
		}
	}
	return netip.Addr{}, err
}

// datagrams is a UDP conversation.
type datagrams struct{ end }

func (r *lived) openUDP(f *scenario.Flow, _ time.Duration) (conversation, error) {
	d := &datagrams{}
	if err := r.receive(f, func(at netip.AddrPort) error {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err == nil {
			d.servers = append(d.servers, c)
			go serveUDP(c)
		}
		return unlessTaken(err)
	}); err != nil {
		return d, err
	}
	dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.Src, 0)), Control: hearErrors}
	err := in(r.sender(f), func() (err error) {
		d.client, err = dialer.Dial("udp4", netip.AddrPortFrom(f.Dst, f.DstPort).String())
		return err
	})
	return d, err
}

// hearErrors makes a socket report every ICMP error. Source: ip(7), IP_RECVERR.
func hearErrors(_, _ string, c syscall.RawConn) error {
	var err error
	control := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_RECVERR, 1)
	})
	return errors.Join(control, err)
}

// serveUDP answers every datagram with the address that it sees, until c is
// closed.
func serveUDP(c *net.UDPConn) {
	b := make([]byte, 1<<16)
	for {
		n, peer, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		fmt.Fprintf(writerTo{c, peer}, "%s %s", peer.Addr().Unmap(), b[:n])
	}
}

// writerTo writes datagrams to one peer.
type writerTo struct {
	c    *net.UDPConn
	peer netip.AddrPort
}

func (w writerTo) Write(b []byte) (int, error) { return w.c.WriteToUDPAddrPort(b, w.peer) }

// exchange implements conversation.
func (d *datagrams) exchange(bytes int, wait time.Duration) (netip.Addr, error) {
	line, err := d.say(bytes, wait)
	b := make([]byte, 1<<16)
	for err == nil {
		var n int
		if n, err = d.client.Read(b); err == nil {
			var peer, text string
			if _, err = fmt.Sscan(string(b[:n]), &peer, &text); err == nil && text+"\n" == line {
				return netip.ParseAddr(peer)
			}
		}
	}
	return netip.Addr{}, err
}

// echoes hears the echo requests that reach an address.
type echoes struct{ *net.IPConn }

func listenEcho(a netip.Addr) (*echoes, error) {
	c, err := net.ListenIP("ip4:icmp", &net.IPAddr{IP: a.AsSlice()})
	return &echoes{c}, err
}

// source returns the source of the first echo request.
func (e *echoes) source(wait time.Duration) (netip.Addr, error) {
	if err := e.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return netip.Addr{}, err
	}
	b := make([]byte, 128)
	for {
		n, peer, err := e.ReadFromIP(b)
		if err != nil {
			return netip.Addr{}, err
		}
		if n > 0 && b[0] == packet.ICMPEchoRequest {
			a, _ := netip.AddrFromSlice(peer.IP)
			return a.Unmap(), nil
		}
	}
}
