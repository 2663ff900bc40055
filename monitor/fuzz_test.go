package monitor

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/table"
)

// said is a connection whose other end says something and hangs up.
type said struct {
	io.Reader
	net.Conn
}

func (s said) Read(b []byte) (int, error) { return s.Reader.Read(b) }
func (said) Write(b []byte) (int, error)  { return len(b), nil }
func (said) Close() error                 { return nil }
func (said) SetDeadline(time.Time) error  { return nil }

type words string

func (w words) Dial(context.Context, table.LBServiceID, string, netip.AddrPort) (net.Conn, error) {
	return said{Reader: strings.NewReader(string(w))}, nil
}

// FuzzAnswer lets a member answer anything: a probe takes it or says why not,
// in few printable words.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.0 503 x\r\n\r\n", "", "\x00\xff", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		for _, kind := range []table.MonitorKind{table.MonitorTCP, table.MonitorHTTP, table.MonitorUDP} {
			m := &table.Monitor{Path: "/infra/lb-monitor-profiles/m", Kind: kind, Timeout: 1, Send: "hello", Receive: "ok"}
			err := Probe(t.Context(), words(answer), Target{Monitor: m, Addr: netip.MustParseAddrPort("10.0.0.1:80")})
			if err != nil && (err.Error() == "" || len(err.Error()) > 400) {
				t.Errorf("kind %d: error of %d bytes", kind, len(err.Error()))
			}
		}
	})
}
