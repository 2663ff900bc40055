package monitor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/weft-net/weft/table"
)

// maxAnswer bounds what a probe reads of an answer, in bytes.
const maxAnswer = 64 << 10

// Dialer connects to members from a load balancer's port. network is tcp, udp
// or ping: a datagram of the last is an ICMP echo message. The connection ends
// with ctx.
type Dialer interface {
	Dial(ctx context.Context, from table.LBServiceID, network string, to netip.AddrPort) (net.Conn, error)
}

// longest bounds one probe: what hangs must not keep the places of others.
const longest = 30 * time.Second

// Probe asks t's member once and returns nil if the answer is as t's monitor
// wants it, in time. The error says what was asked and what came instead.
func Probe(ctx context.Context, d Dialer, t Target) error {
	limit := min(seconds(t.Monitor.Timeout), longest)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	name, network, ask := kindOf(t.Monitor.Kind)
	if ask == nil {
		return fmt.Errorf("monitor %s: kind %d: is not known", t.Monitor.Path, t.Monitor.Kind)
	}
	err := func() error {
		conn, err := d.Dial(ctx, t.Service, network, t.Addr)
		if err != nil {
			return fmt.Errorf("connect %s: %w", place(t.Addr), err)
		}
		defer conn.Close()
		return ask(ctx, conn, t)
	}()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%s: %s: no answer within %s", name, place(t.Addr), limit)
	}
	return errors.New(tame(fmt.Sprintf("%s: %s", name, plain(err, t.Addr))))
}

// maxReason bounds the text about a failed probe, in bytes: it may quote what a
// member says.
const maxReason = 300

// tame makes text that a member may have a part in fit for logs and terminals.
func tame(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// asker asks over a connection and judges the answer.
type asker func(context.Context, net.Conn, Target) error

func kindOf(k table.MonitorKind) (name, network string, ask asker) {
	switch k {
	case table.MonitorTCP:
		return "tcp", "tcp", askTCP
	case table.MonitorHTTP:
		return "http", "tcp", askHTTP
	case table.MonitorHTTPS:
		return "https", "tcp", askHTTPS
	case table.MonitorICMP:
		return "icmp", "ping", askICMP
	case table.MonitorUDP:
		return "udp", "udp", askUDP
	}
	return "", "", nil
}

// place is an address for people: without a port if it has none.
func place(a netip.AddrPort) string {
	if a.Port() == 0 {
		return a.Addr().String()
	}
	return a.String()
}

// plain takes the address of our own side out of err: it differs from probe to
// probe.
func plain(err error, at netip.AddrPort) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		if no, ok := errors.AsType[syscall.Errno](op); ok {
			return fmt.Errorf("%s %s: %w", op.Op, place(at), no)
		}
	}
	return err
}

// askTCP sends and waits for what is to be received anywhere in the answer.
func askTCP(_ context.Context, conn net.Conn, t Target) error {
	if t.Monitor.Send != "" {
		if _, err := io.WriteString(conn, t.Monitor.Send); err != nil {
			return err
		}
	}
	want := []byte(t.Monitor.Receive)
	if len(want) == 0 {
		return nil
	}
	got := make([]byte, 0, 4096)
	r := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	for {
		b, err := r.ReadByte()
		if err == io.EOF {
			return fmt.Errorf("%s: answer without %q", t.Addr, shorten(t.Monitor.Receive))
		}
		if err != nil {
			return err
		}
		if got = append(got, b); bytes.HasSuffix(got, want) {
			return nil
		}
	}
}

// askUDP sends a datagram and waits for one with what is to be received.
func askUDP(_ context.Context, conn net.Conn, t Target) error {
	if _, err := io.WriteString(conn, t.Monitor.Send); err != nil {
		return err
	}
	got := make([]byte, maxAnswer)
	n, err := conn.Read(got)
	if err != nil {
		return err
	}
	if !bytes.Contains(got[:n], []byte(t.Monitor.Receive)) {
		return fmt.Errorf("%s: answer without %q", t.Addr, shorten(t.Monitor.Receive))
	}
	return nil
}

// Types of echo messages: RFC 792, RFC 4443.
const (
	echo4, reply4 = 8, 0
	echo6, reply6 = 128, 129
)

// askICMP sends an echo request and waits for its reply. The kernel fills in
// identifier and checksum, and delivers replies to this socket's requests only.
func askICMP(_ context.Context, conn net.Conn, t Target) error {
	const header, sequence = 8, 1
	question := make([]byte, header+int(t.Monitor.Length))
	question[0], question[header-1] = echo4, sequence
	want := byte(reply4)
	if t.Addr.Addr().Is6() {
		question[0], want = echo6, reply6
	}
	if _, err := conn.Write(question); err != nil {
		return err
	}
	got := make([]byte, len(question)+1)
	n, err := conn.Read(got)
	if err != nil {
		return err
	}
	if n != len(question) || got[0] != want || got[header-1] != sequence {
		return fmt.Errorf("%s: answer of type %d with %d bytes (type %d with %d)", t.Addr.Addr(), got[0], n, want, len(question))
	}
	return nil
}

// shorten bounds text from outside for a message.
func shorten(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "…"
	}
	return strings.TrimSpace(s)
}
