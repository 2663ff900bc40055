package load

import (
	"encoding/json"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSockaddrIsTheKernelsLayout(t *testing.T) {
	for _, tc := range []struct {
		addr string
		want []byte // after the family, which is in the machine's byte order
	}{
		{"192.0.2.1", []byte{0x4e, 0x20, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"2001:db8::1", []byte{0x4e, 0x20, 0, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}},
	} {
		sa := newSockaddr(netip.MustParseAddr(tc.addr), 20000)
		if diff := cmp.Diff(tc.want, sa.raw[2:sa.len]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.addr, diff)
		}
	}
}

func TestMainRefusesWhatItCannotRun(t *testing.T) {
	local := netip.MustParseAddr("127.0.0.1")
	for _, tc := range []struct {
		name string
		spec Spec
		want string
	}{
		{"kind", Spec{Kind: "sctp", Role: Client, Addr: local, Duration: 1}, `kind "sctp"`},
		{"role", Spec{Kind: Stream, Role: "relay", Addr: local, Duration: 1}, `role "relay"`},
		{"address", Spec{Kind: Stream, Role: Client, Duration: 1}, "invalid IP"},
		{"duration", Spec{Kind: Stream, Role: Client, Addr: local}, "duration 0s"},
	} {
		arg, err := json.Marshal(tc.spec)
		if err != nil {
			t.Fatal(err)
		}
		err = Main([]string{"weft-bench", Subcommand, string(arg)}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %s", tc.name, err, tc.want)
		}
	}
	if err := Main([]string{"weft-bench", "-o", "x.json"}, io.Discard); err == nil {
		t.Error("Main ran with the arguments of a benchmark")
	}
}

func TestTimedCountsUntilTheDurationAndEndsOnce(t *testing.T) {
	calls, ends := int64(0), 0
	r, err := timed(5*time.Millisecond, func(end bool) error {
		calls++
		if end {
			ends++
		}
		return nil
	})
	if err != nil || ends != 1 || r.Ops != calls-1 || r.Seconds < 0.005 {
		t.Errorf("%d calls, %d of them ends: %+v, %v", calls, ends, r, err)
	}
	if _, err := timed(time.Hour, func(bool) error { return io.ErrUnexpectedEOF }); err == nil {
		t.Error("an operation that failed was not reported")
	}
}
