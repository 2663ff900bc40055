package pipeline

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// pieces returns the first fragment of s and n later ones.
func pieces(s packet.Spec, n int) (first packet.Spec, later []packet.Spec) {
	first, l := fragments(s)
	for i := range n {
		l.FragmentOffset, l.MoreFragments, l.Payload = 4+uint16(i), i < n-1, []byte(fmt.Sprintf("piece %02d", i))
		later = append(later, l)
	}
	return first, later
}

// payloads returns what the followers of a result carry, as the first one's.
func (f *fabric) payloads(res Result) (all []string) {
	f.t.Helper()
	for _, frame := range res.Followers {
		p := f.decode(frame)
		if t := p.Tuple(); t.Src != res.Translated.Src || t.Dst != res.Translated.Dst || packet.Checksum(frame[14:34]) != 0 {
			f.t.Errorf("follower %s, want %s", t, res.Translated)
		}
		all = append(all, string(p.Frame[34:]))
	}
	return all
}

func TestSpec4_HeldFragmentsFollowInTheOrderOfTheirComing(t *testing.T) {
	rows := []struct {
		name     string
		from, to table.PortID
		in       packet.Spec
	}{
		{"routed", testset.DB1, testset.DB2, udp(testset.DB1, "10.1.2.10", 5, "10.1.2.11", 53)},
		{"bridged", testset.DB1, testset.DB2, to(udp(testset.DB1, "10.1.2.10", 5, "10.1.2.11", 53), testset.DB2)},
		{"translated, from outside", testset.UplinkEast, testset.Web3, udp(outside, "198.18.0.9", 7, "203.0.113.18", 5000)},
		{"translated, to outside", testset.Web2, testset.UplinkEast, udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53)},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			f := newFabric(t)
			first, later := pieces(r.in, 3)
			for i := len(later) - 1; i >= 0; i-- { // in reverse order
				f.hold(r.from, later[i])
			}
			if f.st.Held() != 3 || f.st.Len() != 0 {
				t.Errorf("%d held, %d entries", f.st.Held(), f.st.Len())
			}
			f.now += 2
			res := f.send(r.from, first)
			if res.Verdict != Forward || res.Out != r.to {
				t.Fatal(path(res))
			}
			if d := cmp.Diff([]string{"piece 02", "piece 01", "piece 00"}, f.payloads(res)); d != "" {
				t.Error(d)
			}
			p, q := f.decode(res.Frame), f.decode(res.Followers[0])
			if p.EthSrc != q.EthSrc || p.EthDst != q.EthDst || p.TTL != q.TTL {
				t.Errorf("followers from %s to %s TTL %d, want %s %s %d", q.EthSrc, q.EthDst, q.TTL, p.EthSrc, p.EthDst, p.TTL)
			}
			if fl := f.flow(res.Key); fl.Packets != 4 || fl.Bytes != uint64(p.TotalLen+3*28) {
				t.Errorf("%d packets, %d bytes", fl.Packets, fl.Bytes)
			}
			if f.st.Held() != 0 {
				t.Errorf("%d are still held", f.st.Held())
			}
			if res = f.send(r.from, first); len(res.Followers) != 0 {
				t.Error("they follow twice")
			}
			if res = f.send(r.from, later[0]); res.Verdict != Forward || len(res.Followers) != 0 {
				t.Errorf("%s: %s", res.Verdict, path(res))
			}
		})
	}
}

func TestSpec4_HeldFor2Seconds(t *testing.T) {
	f := newFabric(t)
	first, later := pieces(udp(testset.DB1, "10.1.2.10", 5, "10.1.2.11", 53), 3)
	f.hold(testset.DB1, later[0])
	f.now += 2
	f.hold(testset.DB1, later[1])
	f.now++ // the first place is free again
	f.hold(testset.DB1, later[2])
	if f.st.Held() != 2 {
		t.Errorf("%d held", f.st.Held())
	}
	res := f.send(testset.DB1, first)
	if d := cmp.Diff([]string{"piece 02", "piece 01"}, f.payloads(res)); d != "" {
		t.Error(d)
	}
	f = newFabric(t)
	f.hold(testset.DB1, later[0])
	f.now += 3
	if res := f.send(testset.DB1, first); len(res.Followers) != 0 {
		t.Error("too old, and follows")
	}
	f = newFabric(t)
	f.hold(testset.DB1, later[0])
	for d, want := range []int{1, 1, 1, 0} {
		f.st.Sweep(f.now+Tick(d), f.set)
		if f.st.Held() != want {
			t.Errorf("after %d ticks %d are held", d, f.st.Held())
		}
	}
}

func TestSpec4_HoldIsBounded(t *testing.T) {
	f := newFabric(t)
	first, later := pieces(udp(testset.DB1, "10.1.2.10", 5, "10.1.2.11", 53), 17)
	for _, l := range later[:16] {
		f.hold(testset.DB1, l)
	}
	if res := f.drop(testset.DB1, later[16], ReasonFragment); path(res) != "spoofguard(205) flow(205 fragment)" {
		t.Error(path(res))
	}
	other := later[16]
	other.ID++
	f.hold(testset.DB1, other) // another datagram
	if res := f.send(testset.DB1, first); len(res.Followers) != 16 {
		t.Errorf("%d followers", len(res.Followers))
	}
	// The size of a frame.
	f = newFabric(t)
	l := later[0]
	l.Payload = make([]byte, 2048-34)
	f.hold(testset.DB1, l)
	l.Payload = make([]byte, 2049-34)
	f.drop(testset.DB1, l, ReasonFragment)
	// All datagrams together.
	for i := range uint16(maxHeldRows + 10) {
		l := later[0]
		l.ID = i
		f.hold(testset.DB1, l)
	}
	if f.st.Held() != maxHeldRows {
		t.Errorf("%d held", f.st.Held())
	}
}

func TestSpec4_HeldOnesThatDoNotFollow(t *testing.T) {
	// TTL and size are their own; nothing is sent back.
	f := newFabric(t)
	f.apply(mtu(100))
	first, later := pieces(udp(testset.Web2, "10.1.1.11", 1024, "192.0.2.9", 53), 3)
	later[1].Payload = make([]byte, 81)
	f.hold(testset.Web2, ttl(later[0], 2))
	f.hold(testset.Web2, later[1])
	f.hold(testset.Web2, ttl(later[2], 3))
	res := f.send(testset.Web2, first)
	if d := cmp.Diff([]string{"piece 02"}, f.payloads(res)); d != "" || res.Verdict != Forward {
		t.Errorf("%s: %s", res.Verdict, d)
	}
	if f.st.Held() != 0 {
		t.Errorf("%d are still held", f.st.Held())
	}
	// The first one was dropped: they stay.
	f = newFabric(t)
	first, later = pieces(udp(testset.Web1, "10.1.1.10", 5, "192.0.2.66", 53), 1)
	f.hold(testset.Web1, later[0])
	f.drop(testset.Web1, first, ReasonDFWRule)
	if f.st.Held() != 1 {
		t.Error("a dropped first fragment took the held ones")
	}
	// Spoofed ones are not held.
	later[0].Src = addr("10.1.1.11")
	f.drop(testset.Web1, later[0], ReasonSpoofguard)
	// With a row but without a flow there is nothing to wait for.
	f = newFabric(t)
	first, later = pieces(echo(testset.DB1, "10.1.2.10", "10.1.2.11", 5), 1)
	f.forward(testset.DB1, first, testset.DB2)
	f.now += ticksOf(20) + 1
	f.drop(testset.DB1, later[0], ReasonFragment)
}

func TestSpec4_FollowersOfAVirtualServersConnection(t *testing.T) {
	f := newLBFabric(t)
	first, later := pieces(udp(testset.Web1, "10.1.1.10", 5, "203.0.113.24", 53), 1)
	f.hold(testset.Web1, later[0])
	res := f.send(testset.Web1, first)
	if res.Verdict != Forward || len(f.payloads(res)) != 1 || res.Out != testset.Srv1 {
		t.Error(path(res))
	}
}

func TestRunIntoReusesTheStorageOfFollowers(t *testing.T) {
	f := newFabric(t)
	first, later := pieces(udp(testset.DB1, "10.1.2.10", 5, "10.1.2.11", 53), 2)
	var res Result
	send := func(s packet.Spec) { RunInto(&res, f.ix, f.st, Input{testset.DB1, packet.Build(s)}, f.gen, f.now) }
	send(later[0])
	send(later[1])
	send(first)
	if len(res.Followers) != 2 {
		t.Fatal(path(res))
	}
	storage := &res.Followers[0][0]
	send(first)
	first.ID, later[1].ID = 78, 78
	send(later[1])
	if len(res.Followers) != 0 {
		t.Error("followers of another result")
	}
	send(first)
	if len(res.Followers) != 1 || &res.Followers[0][0] != storage || string(res.Followers[0][34:]) != "piece 01" {
		t.Errorf("%d followers", len(res.Followers))
	}
}
