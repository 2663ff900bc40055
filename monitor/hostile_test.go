package monitor

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/weft-net/weft/table"
)

// hostile members: what each says to a probe, as long as somebody listens.
var hostile = map[string]func(net.Conn){
	"silence":          func(c net.Conn) { io.Copy(io.Discard, c) },
	"a drop at a time": func(c net.Conn) { drip(c, "HTTP/1.1 200 OK\r\nX: ") },
	"endless line":     func(c net.Conn) { flood(c, "", "garbage") },
	"endless headers":  func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\n", "X-A: b\r\n") },
	"endless header":   func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\nX: ", "aaaaaaaa") },
	"endless body":     func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\n\r\n", "no match ") },
	"endless chunks":   func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n") },
	"endless interim":  func(c net.Conn) { flood(c, "", "HTTP/1.1 100 Continue\r\n\r\n") },
	"huge length":      func(c net.Conn) { flood(c, "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n", "z") },
	"escapes":          func(c net.Conn) { io.WriteString(c, "\x1b]0;owned\x07\x1b[2J\u202e 200\r\n\r\n") },
	"TLS half":         func(c net.Conn) { io.WriteString(c, "\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"); io.Copy(io.Discard, c) },
	"hang up":          func(c net.Conn) {},
}

func flood(c net.Conn, first, rest string) {
	rest = strings.Repeat(rest, 4096/len(rest))
	for _, err := io.WriteString(c, first); err == nil; {
		_, err = io.WriteString(c, rest)
	}
}

func drip(c net.Conn, s string) {
	for i := 0; ; i++ {
		if _, err := io.WriteString(c, s[i%len(s):][:1]); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Whatever a member says, a probe ends in time, keeps little of it, and tells
// it in words that fit a log and a terminal.
func TestHostileMembers(t *testing.T) {
	for name, says := range hostile {
		for _, kind := range []table.MonitorKind{table.MonitorTCP, table.MonitorHTTP, table.MonitorHTTPS} {
			t.Run(fmt.Sprint(name, " ", kind), func(t *testing.T) {
				t.Parallel()
				at := listen(t, says)
				m := &table.Monitor{Kind: kind, Timeout: 1, Receive: "never said"}
				began := time.Now()
				err := Probe(t.Context(), direct{}, Target{Monitor: m, Addr: at, Service: 1})
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("took %s", took)
				}
				if err == nil {
					t.Fatal("found well")
				}
				wantTame(t, err)
			})
		}
	}
}

func wantTame(t *testing.T, err error) {
	t.Helper()
	if s := err.Error(); len(s) > maxReason+3 || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%d bytes: %.400q", len(s), s)
	}
}

// A certificate's names are the member's words too.
func TestHostileCertificate(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	self := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"a\x1b[2Jb.test", strings.Repeat("long.", 2000) + "test"},
	}
	raw, err := x509.CreateCertificate(rand.Reader, self, self, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}}
	at := listen(t, func(c net.Conn) { tls.Server(c, config).Handshake() })
	m := &table.Monitor{
		Kind: table.MonitorHTTPS, Timeout: 5, VerifyName: "good.test",
		VerifyCA: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})),
	}
	err = Probe(t.Context(), direct{}, Target{Monitor: m, Addr: at, Service: 1})
	if err == nil {
		t.Fatal("found well")
	}
	t.Log(err)
	wantTame(t, err)
}

// What waits for its turn costs a goroutine, not a connection, and nothing of it
// is left.
func TestHostileNumbers(t *testing.T) {
	before := runtime.NumGoroutine()
	ran(t, nil, func(r *Runner, m *members, _ *int) {
		m.slow = time.Hour
		r.Follow(bed(250, tcp("/a"), tcp("/b"), tcp("/c"), tcp("/d")))
		after(time.Minute)
		if m.most > probesOfABalancer {
			t.Errorf("%d probes at once", m.most)
		}
		if h := r.Health(); len(h) != 0 {
			t.Errorf("%d members are down that nobody has asked yet", len(h))
		}
	})
	if n := runtime.NumGoroutine(); n > before+2 {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}

// Clients make connections to healthy members fail; the pool stays.
func TestHostileClientsTakeNoPool(t *testing.T) {
	ran(t, nil, func(r *Runner, m *members, _ *int) {
		s := bed(3, tcp("/tcp"))
		s.Pools.Get(1).Passive = &table.Passive{MaxFails: 3, Timeout: 60}
		s.Pools.Get(1).Members[2].Backup = true
		r.Follow(s)
		down := func(fails map[table.MemberID]uint32) int {
			r.Fails(fails)
			return len(r.Health())
		}
		if n := down(map[table.MemberID]uint32{1: 3, 2: 3}); n != 2 {
			t.Errorf("%d of three members are down, want two: the backup is there", n)
		}
		if n := down(map[table.MemberID]uint32{1: 3, 2: 3, 3: 9}); n != 0 {
			t.Errorf("%d of three members are down, want none: nobody would be left", n)
		}
		m.kill(2, true)
		after(15 * time.Second) // one does not answer, and the last two are banned
		if h := r.Health(); len(h) != 1 || !h[2].Down {
			t.Errorf("health %v, want only member 2 down", h)
		}
	})
}
