package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// podded returns a Set with one segment of two families, on which pod i, from 1
// to n, has the port with attachment id uid-i.
func podded(n int) *table.Set {
	s := table.NewSet("host1")
	s.Segments.Put(1, &table.Segment{ID: 1, Path: "/infra/segments/pods", Gateways: []netip.Prefix{
		netip.MustParsePrefix("10.1.0.1/16"), netip.MustParsePrefix("2001:db8::1/64"),
	}})
	for i := 1; i <= n; i++ {
		addPod(s, i, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	return s
}

func addPod(s *table.Set, i int, addrs ...netip.Addr) {
	id := table.PortID(i)
	mac := table.MAC{4, 0x50, 0x56, 0, byte(i >> 8), byte(i)}
	s.Ports.Put(id, &table.Port{ID: id, Path: fmt.Sprint("/infra/segments/pods/ports/", i), Segment: 1, MAC: mac, Attachment: fmt.Sprint("uid-", i)})
	for _, a := range addrs {
		s.Endpoints.Put(table.EndpointKey{Segment: 1, Addr: a}, &table.Endpoint{Segment: 1, Addr: a, Port: id, MAC: mac, Unfiltered: true})
	}
}

// pod asks for eth0 of pod i, in a namespace of its own.
func pod(i int) *Attachment {
	return &Attachment{
		AttachmentKey: AttachmentKey{fmt.Sprint("c", i), "eth0"}, ID: fmt.Sprint("uid-", i), Pod: fmt.Sprint("ns/pod-", i),
		Network: "net", NetNS: fmt.Sprint("/run/netns/", i),
	}
}

// nodeWith runs fn with an agent of a node that has the namespaces of pods 1 to
// 9, in a bubble whose time passes at once.
func nodeWith(t *testing.T, fn func(b *bed, again func() *bed)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d, n := newFakes()
		p := newFakePairs()
		for i := range 9 {
			p.pods = append(p.pods, pod(i+1).NetNS)
		}
		b := startOver(t, dir, d, n, p)
		fn(b, func() *bed {
			b.stop()
			d.change(func() { d.closed = false })
			b = startOver(t, dir, d, n, p)
			return b
		})
		b.stop()
	})
}

func attach(t *testing.T, b *bed, q *Attachment) *Attached {
	t.Helper()
	w, err := b.Attach(context.Background(), q, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func refusedAs(t *testing.T, err error, why Why, message string) {
	t.Helper()
	r, ok := errors.AsType[*Refusal](err)
	if !ok || r.Why != why || r.Message != message {
		t.Errorf("got %v\nwant %s: %s", err, why, message)
	}
}

// records returns how many are on the disk.
func records(t *testing.T, b *bed) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(b.store.dir, recordsDir))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// nothingLeft fails if anything of an attachment is there.
func nothingLeft(t *testing.T, b *bed) {
	t.Helper()
	after(time.Second)
	l := b.Agent.attachments
	if d, n := b.pairs.devices(), records(t, b); len(d) != 0 || n != 0 || len(l.made) != 0 || len(l.ids) != 0 || len(l.turns) != 0 || len(l.down) != 0 {
		t.Errorf("left: devices %v, %d records, %v, %v, %v, %v", d, n, l.made, l.ids, l.turns, l.down)
	}
	if _, binding := b.driver.applied(); len(binding) != 0 || len(b.Agent.pods) != 0 {
		t.Errorf("bound: %v, known: %v", binding, b.Agent.pods)
	}
}

func TestAttach(t *testing.T) {
	nodeWith(t, func(b *bed, again func() *bed) {
		s := podded(1)
		addPod(s, 2, netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("192.0.2.1"))
		apply(t, b, &Tables{Set: s})
		q := pod(2)
		q.MTU = 1400
		want := &Attached{
			Attachment: *q, Port: "/infra/segments/pods/ports/2", Device: q.device(),
			NIC: NIC{MAC: table.MAC{4, 0x50, 0x56, 0, 0, 2}, MTU: 1400, Addresses: []NICAddress{
				{netip.MustParsePrefix("10.1.0.2/16"), netip.MustParseAddr("10.1.0.1")},
				{netip.MustParsePrefix("192.0.2.1/32"), netip.Addr{}},
				{netip.MustParsePrefix("2001:db8::2/64"), netip.MustParseAddr("2001:db8::1")},
			}},
		}
		if diff := cmp.Diff(want, attach(t, b, q), compareAddrs); diff != "" {
			t.Errorf("attached (-want +got):\n%s", diff)
		}
		routes := []NICRoute{{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.1.0.1")}, {netip.MustParsePrefix("::/0"), netip.MustParseAddr("2001:db8::1")}}
		if diff := cmp.Diff(routes, want.NIC.Routes(), compareAddrs); diff != "" {
			t.Errorf("routes (-want +got):\n%s", diff)
		}
		if _, binding := b.driver.applied(); !cmp.Equal(binding, dataplane.Binding{2: {IfIndex: 101}}) || !b.pairs.pairs[q.device()].up {
			t.Errorf("bound %v, up %v", binding, b.pairs.pairs[q.device()].up)
		}
		n, _ := b.driver.applied()
		if diff := cmp.Diff(want, attach(t, b, q), compareAddrs); diff != "" {
			t.Errorf("the second time (-want +got):\n%s", diff)
		}
		if now, _ := b.driver.applied(); now != n || b.pairs.next != 101 {
			t.Errorf("the second time changes something: %d Sets, %d devices", now-n, b.pairs.next-100)
		}
		if err := b.CheckAttachment(context.Background(), q); err != nil {
			t.Error(err)
		}
		if got := b.InForce().Devices; !cmp.Equal(got, map[string]string{want.Port: want.Device}) {
			t.Errorf("devices in force: %v", got)
		}
		for range 2 {
			if err := b.Detach(context.Background(), q.AttachmentKey); err != nil {
				t.Error(err)
			}
		}
		nothingLeft(t, b)
		wantConditions(t, b)
	})
}

func TestAttachWaitsForItsPort(t *testing.T) {
	nodeWith(t, func(b *bed, again func() *bed) {
		done := make(chan error, 1)
		go func() {
			_, err := b.Attach(context.Background(), pod(2), 10*time.Second)
			done <- err
		}()
		after(3 * time.Second)
		apply(t, b, &Tables{Set: podded(1)})
		after(3 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		apply(t, b, &Tables{Set: podded(2)})
		if err := <-done; err != nil {
			t.Error(err)
		}
		began := time.Now()
		_, err := b.Attach(context.Background(), pod(3), 10*time.Second)
		refusedAs(t, err, PortMissing, "pod ns/pod-3: attachment id uid-3: no port of this node has it")
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("it waited %s", d)
		}
		b.Detach(context.Background(), pod(2).AttachmentKey)
		nothingLeft(t, b)
	})
}

func TestAttachRefuses(t *testing.T) {
	nodeWith(t, func(b *bed, again func() *bed) {
		_, err := b.Attach(context.Background(), pod(1), time.Second)
		refusedAs(t, err, NoTables, "pod ns/pod-1: attachment id uid-1: the agent got no tables yet")
		s := podded(3)
		addPod(s, 4)
		addPod(s, 5, netip.MustParseAddr("10.1.0.5"))
		s.Ports.Get(5).MAC = table.MAC{}
		s.Endpoints.Get(table.EndpointKey{Segment: 1, Addr: netip.MustParseAddr("10.1.0.5")}).MAC = table.MAC{}
		addPod(s, 6, netip.MustParseAddr("10.1.0.6"))
		s.Ports.Get(6).Attachment = "uid-3"
		apply(t, b, &Tables{Set: s, Devices: map[string]string{"/infra/segments/pods/ports/1": "eth0"}})
		attach(t, b, pod(2))
		change := func(i int, fn func(q *Attachment)) *Attachment {
			q := pod(i)
			fn(q)
			return q
		}
		for _, tc := range []struct {
			q       *Attachment
			why     Why
			message string
		}{
			{pod(1), PortTaken, "pod ns/pod-1: port /infra/segments/pods/ports/1: has device eth0 already"},
			{change(2, func(q *Attachment) { q.Container = "other" }), PortTaken, "pod ns/pod-2: attachment id uid-2: attachment c2/eth0 has its port (detach that first)"},
			{pod(3), PortIncomplete, "pod ns/pod-3: attachment id uid-3: is that of two ports, /infra/segments/pods/ports/3 and /infra/segments/pods/ports/6 (one)"},
			{pod(4), PortIncomplete, "pod ns/pod-4: port /infra/segments/pods/ports/4: address bindings: are missing (at least one)"},
			{pod(5), PortIncomplete, "pod ns/pod-5: port /infra/segments/pods/ports/5: mac address: is missing (one in its address bindings)"},
			{change(2, func(q *Attachment) { q.NetNS = "/run/netns/none" }), NoNamespace, "pod ns/pod-2: netns /run/netns/none: does not exist"},
			{change(7, func(q *Attachment) { q.ID = "" }), Malformed, "pod ns/pod-7: attachment id: is missing (the pod's UID)"},
			{change(7, func(q *Attachment) { q.NetNS = "x" }), Malformed, `pod ns/pod-7: netns "x": is no path (such as /run/netns/cni-1)`},
			{change(7, func(q *Attachment) { q.MTU = 100 }), Malformed, "pod ns/pod-7: mtu 100: is out of range (576 to 65535; 0: 1500)"},
			{change(7, func(q *Attachment) { q.Container = "a/b" }), Malformed, `container id "a/b": is not a name (letters, digits, _ . -)`},
			{change(7, func(q *Attachment) { q.Interface = "a-name-too-long-x" }), Malformed, `interface "a-name-too-long-x": is not a device name (at most 15 characters, none of / : and space)`},
		} {
			_, err := b.Attach(context.Background(), tc.q, time.Second)
			refusedAs(t, err, tc.why, tc.message)
		}
		refusedAs(t, b.CheckAttachment(context.Background(), pod(3)), Unknown, "pod ns/pod-3: attachment c3/eth0: does not exist")
		if err := b.CheckAttachment(context.Background(), pod(2)); err != nil {
			t.Errorf("what others asked for harms it: %v", err)
		}
		if n := records(t, b); n != 1 {
			t.Errorf("%d records", n)
		}
	})
}

func TestAttachUndoesWhatFails(t *testing.T) {
	nodeWith(t, func(b *bed, again func() *bed) {
		apply(t, b, &Tables{Set: podded(2)})
		full := errors.New("is full")
		for _, method := range []string{"Make", "Raise"} {
			b.pairs.change(func() { b.pairs.refuse[method] = full })
			_, err := b.Attach(context.Background(), pod(1), time.Second)
			refusedAs(t, err, Failed, "pod ns/pod-1: is full")
			b.pairs.change(func() { delete(b.pairs.refuse, method) })
			nothingLeft(t, b)
		}
		b.driver.change(func() { b.driver.refuse = full })
		_, err := b.Attach(context.Background(), pod(1), time.Second)
		refusedAs(t, err, Failed, "pod ns/pod-1: port /infra/segments/pods/ports/1: is full")
		b.driver.change(func() { b.driver.refuse = nil })
		nothingLeft(t, b)

		attach(t, b, pod(1))
		b.pairs.change(func() { b.pairs.refuse["Make"] = full })
		if _, err := b.Attach(context.Background(), pod(1), time.Second); err == nil {
			t.Error("the second time: no error")
		}
		if len(b.pairs.devices()) != 1 || records(t, b) != 1 {
			t.Error("a repetition that fails takes the attachment away")
		}
	})
}

func TestDetachEndsAttach(t *testing.T) {
	nodeWith(t, func(b *bed, again func() *bed) {
		apply(t, b, &Tables{Set: podded(0)})
		done := make(chan error, 2)
		for range 2 { // the second waits for the first
			go func() {
				_, err := b.Attach(context.Background(), pod(1), time.Hour)
				done <- err
			}()
		}
		after(time.Second)
		if err := b.Detach(context.Background(), pod(1).AttachmentKey); err != nil {
			t.Error(err)
		}
		refusedAs(t, <-done, Interrupted, "attachment c1/eth0: was taken away meanwhile")
		after(time.Second)
		if err := b.Detach(context.Background(), pod(1).AttachmentKey); err != nil {
			t.Error(err)
		}
		<-done
		nothingLeft(t, b)

		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			_, err := b.Attach(ctx, pod(1), time.Hour)
			done <- err
		}()
		after(time.Second)
		cancel()
		refusedAs(t, <-done, Interrupted, "pod ns/pod-1: attachment c1/eth0: whoever asked for it does not wait any more")
		go func() {
			_, err := b.Attach(context.Background(), pod(1), time.Hour)
			done <- err
		}()
		after(time.Second)
		b.stop()
		refusedAs(t, <-done, Interrupted, "the agent ends")
	})
}

// Many pods at once are told to the data plane together.
func TestAttachAtOnce(t *testing.T) {
	nodeWith(t, func(b *bed, again func() *bed) {
		apply(t, b, &Tables{Set: podded(9)})
		done := make(chan error)
		for i := range 9 {
			for range 3 {
				go func() {
					_, err := b.Attach(context.Background(), pod(i+1), time.Second)
					done <- err
				}()
			}
		}
		for range 27 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n, binding := b.driver.applied(); n > 10 || len(binding) != 9 {
			t.Errorf("%d Sets, %d devices", n, len(binding))
		}
		if err := b.KeepAttachments("other", nil); err != nil || records(t, b) != 9 {
			t.Errorf("another network's: %v, %d records", err, records(t, b))
		}
		if err := b.KeepAttachments("net", []AttachmentKey{pod(3).AttachmentKey, {"none", "eth0"}}); err != nil {
			t.Error(err)
		}
		list, ready := b.Attachments()
		if len(list) != 1 || list[0].AttachmentKey != pod(3).AttachmentKey || !ready {
			t.Errorf("kept: %v, %v", list, ready)
		}
		if err := b.KeepAttachments("net", nil); err != nil {
			t.Error(err)
		}
		nothingLeft(t, b)
	})
}

func TestAttachmentsOutliveTheAgent(t *testing.T) {
	nodeWith(t, func(b *bed, again func() *bed) {
		apply(t, b, &Tables{Set: podded(3)})
		for i := range 3 {
			attach(t, b, pod(i+1))
		}
		want, _ := b.Attachments()
		_, bound := b.driver.applied()
		b = again()
		got, _ := b.Attachments()
		_, binding := b.driver.applied()
		if diff := cmp.Diff(want, got, compareAddrs) + cmp.Diff(bound, binding); diff != "" {
			t.Errorf("after a restart (-before +after):\n%s", diff)
		}
		// What a killed agent leaves: a device that was never used, one that is
		// not up yet, a record of a device that is gone, half a record. What a
		// machine leaves that lost its power: a record without its text.
		b.stop()
		b.pairs.change(func() {
			b.pairs.pairs["weft00000000000"] = &fakePair{}
			b.pairs.pairs[pod(2).device()].up = false
			delete(b.pairs.pairs, pod(3).device())
		})
		half := filepath.Join(b.store.dir, recordsDir, "weft11111111111.json.new")
		if err := os.WriteFile(half, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.store.dir, recordFile("weft22222222222")), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		b = again()
		after(time.Second)
		if !b.pairs.pairs[pod(2).device()].up {
			t.Error("a device stays down")
		}
		if d, n := b.pairs.devices(), records(t, b); len(d) != 2 || n != 2 {
			t.Errorf("devices %v, %d records", d, n)
		}
		wantConditions(t, b)
		// A namespace that ends takes its device along.
		b.pairs.change(func() { delete(b.pairs.pairs, pod(2).device()) })
		after(2 * sweepEvery)
		if list, _ := b.Attachments(); len(list) != 1 {
			t.Errorf("attached: %v", list)
		}
		if err := b.Detach(context.Background(), pod(1).AttachmentKey); err != nil {
			t.Error(err)
		}
		nothingLeft(t, b)
	})
}

// A record that can not be read is no reason to cut a pod off, or to keep its
// device for ever.
func TestBrokenRecord(t *testing.T) {
	nodeWith(t, func(b *bed, again func() *bed) {
		apply(t, b, &Tables{Set: podded(1)})
		w := attach(t, b, pod(1))
		if err := os.WriteFile(filepath.Join(b.store.dir, recordFile(w.Device)), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		b = again()
		if len(b.pairs.devices()) != 1 {
			t.Error("the device is gone")
		}
		attach(t, b, pod(1))
		if err := b.Detach(context.Background(), pod(1).AttachmentKey); err != nil {
			t.Error(err)
		}
		nothingLeft(t, b)
	})
}

func TestSandboxIsMadeAnew(t *testing.T) {
	nodeWith(t, func(b *bed, again func() *bed) {
		apply(t, b, &Tables{Set: podded(1)})
		attach(t, b, pod(1))
		b.pairs.change(func() { clear(b.pairs.pairs) }) // the old namespace ends
		q := pod(1)
		q.Container, q.NetNS = "new", "/run/netns/2"
		w := attach(t, b, q)
		if err := b.Detach(context.Background(), pod(1).AttachmentKey); err != nil {
			t.Error(err)
		}
		after(2 * sweepEvery)
		if err := b.CheckAttachment(context.Background(), q); err != nil || records(t, b) != 1 {
			t.Errorf("the new one: %v, %d records", err, records(t, b))
		}
		q.NetNS = "/run/netns/3" // the same container elsewhere
		if again := attach(t, b, q); again.Device != w.Device || b.pairs.pairs[w.Device].netns != q.NetNS {
			t.Errorf("in another namespace: %v", again)
		}
		if err := b.CheckAttachment(context.Background(), q); err != nil {
			t.Error(err)
		}
	})
}

func TestInterfaceFollowsItsPort(t *testing.T) {
	nodeWith(t, func(b *bed, again func() *bed) {
		apply(t, b, &Tables{Set: podded(1)})
		w := attach(t, b, pod(1))
		nic := func() (out NIC) {
			after(time.Second)
			b.pairs.change(func() { out = b.pairs.pairs[w.Device].nic })
			return out
		}
		moved := podded(0)
		addPod(moved, 1, netip.MustParseAddr("10.1.9.9"))
		b.pairs.change(func() { b.pairs.refuse["Make"] = errors.New("is busy") })
		apply(t, b, &Tables{Set: moved})
		nic()
		wantConditions(t, b, "InterfaceDiffers /infra/segments/pods/ports/1: pod ns/pod-1: is busy")
		b.pairs.change(func() { delete(b.pairs.refuse, "Make") })
		after(sweepEvery)
		if got := nic().Addresses[0].Address.String(); got != "10.1.9.9/16" {
			t.Errorf("address %s", got)
		}
		after(sweepEvery)
		wantConditions(t, b, "InterfaceDiffers /infra/segments/pods/ports/1: pod ns/pod-1: is busy (over)")

		apply(t, b, &Tables{Set: podded(0)})
		after(sweepEvery)
		message := "pod ns/pod-1: attachment id uid-1: no port of this node has it"
		if got := holding(t, b)[0]; got != "NoPort c1/eth0: "+message {
			t.Errorf("condition %s", got)
		}
		refusedAs(t, b.CheckAttachment(context.Background(), pod(1)), Differs, "pod ns/pod-1: attachment id uid-1: no port of this node has it")
		// Another port of the same pod.
		other := podded(0)
		addPod(other, 2, netip.MustParseAddr("10.1.0.2"))
		other.Ports.Get(2).Attachment = "uid-1"
		apply(t, b, &Tables{Set: other})
		if got := nic(); got.MAC != other.Ports.Get(2).MAC {
			t.Errorf("mac address %s", got.MAC)
		}
		if err := b.CheckAttachment(context.Background(), pod(1)); err != nil {
			t.Error(err)
		}
		if list, _ := b.Attachments(); list[0].Port != "/infra/segments/pods/ports/2" {
			t.Errorf("port %s", list[0].Port)
		}
		b.Detach(context.Background(), pod(1).AttachmentKey)
		nothingLeft(t, b)
	})
}
