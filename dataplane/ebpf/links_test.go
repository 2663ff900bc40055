package ebpf

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// crowd makes the devices of ports 1 to n and binds them. Their other ends are
// all in one namespace.
func (b *bed) crowd(n int) {
	b.t.Helper()
	b.work[0] = newNamespace(b.t, "others")
	for i := 1; i <= n; i++ {
		b.join(table.PortID(i), 0)
	}
}

// join makes one more device of a crowd, of the kernel's number if index is 0.
func (b *bed) join(id table.PortID, index int) {
	b.t.Helper()
	b.do(b.host, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.Index = fmt.Sprintf("p%d", id), index
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: attrs.Name, PeerNamespace: netlink.NsFd(b.work[0].Fd())}); err != nil {
			return err
		}
		l, err := netlink.LinkByName(attrs.Name)
		if err == nil {
			b.binding[id] = dataplane.Link{IfIndex: l.Attrs().Index, MAC: table.RouterMAC}
		}
		return err
	})
}

// TestApplyLooksAtWhatDiffers counts the pins that a Driver looks at.
func TestApplyLooksAtWhatDiffers(t *testing.T) {
	const many = 20
	const more = table.PortID(many + 1)
	b := newHost(t)
	b.crowd(many)
	sets, first := coin(), b.binding[1]
	d := b.open()
	steps := []struct {
		name string
		do   func()
		want int
	}{
		{"first", func() {}, many},
		{"same again", func() {}, 0},
		{"other rules", func() { sets[0], sets[1] = sets[1], sets[0] }, 0},
		{"one device more", func() { b.join(more, 0) }, 1},
		{"unbound", func() { delete(b.binding, 1) }, 0},
		{"bound again", func() { b.binding[1] = first }, 0},
		{"gone", func() { b.unplug(more); delete(b.binding, more) }, 1},
		{"made anew with the same number", func() { // it is bound, and then known to be there
			b.unplug(2)
			b.join(2, b.binding[2].IfIndex)
		}, 2},
		{"another driver applied", func() { b.apply(b.open(), sets[1]) }, many},
	}
	for _, step := range steps {
		step.do()
		before := d.links.looks
		b.apply(d, sets[0])
		d.finish()
		if got := d.links.looks - before; got != step.want {
			t.Errorf("%s: %d looks at pins, want %d", step.name, got, step.want)
		}
		if diff := cmp.Diff(b.bound(), b.links()); diff != "" && step.name != "unbound" {
			t.Errorf("%s: pins: %s", step.name, diff)
		}
		for id, l := range b.binding {
			if n := b.attached(l.IfIndex); n != 1 {
				t.Errorf("%s: the device of port %d runs %d programs", step.name, id, n)
			}
		}
	}
}

// TestApplyAfterMoreDevicesAreGoneThanItHears has more news of devices than the
// kernel keeps.
func TestApplyAfterMoreDevicesAreGoneThanItHears(t *testing.T) {
	const many = 20
	b := newHost(t)
	b.crowd(many)
	set := coin()[0]
	d := b.open()
	b.apply(d, set)
	d.finish()
	if err := unix.SetsockoptInt(d.links.gone.socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1); err != nil {
		t.Fatal(err)
	}
	for id := table.PortID(1); id < many; id++ {
		b.unplug(id)
		if id%2 == 0 {
			b.join(id, b.binding[id].IfIndex)
		} else {
			delete(b.binding, id)
		}
	}
	b.apply(d, set)
	d.finish()
	if diff := cmp.Diff(b.bound(), b.links()); diff != "" {
		t.Error("pins:", diff)
	}
	for id, l := range b.binding {
		if n := b.attached(l.IfIndex); n != 1 {
			t.Errorf("the device of port %d runs %d programs", id, n)
		}
	}
}

// TestSweepFindsWhatSomebodyElseTookOff takes a program off by its pin.
func TestSweepFindsWhatSomebodyElseTookOff(t *testing.T) {
	b := newHost(t)
	b.crowd(2)
	set := coin()[0]
	d := b.open()
	b.apply(d, set)
	d.finish()
	if err := os.Remove(d.links.pin(b.binding[1].IfIndex)); err != nil {
		t.Fatal(err)
	}
	b.do(b.host, func() error { return d.Sweep(context.Background()) })
	b.apply(d, set)
	if diff := cmp.Diff(b.bound(), b.links()); diff != "" {
		t.Error("pins:", diff)
	}
}

// TestSweepForgetsDevicesThatAreGone removes pins without an Apply.
func TestSweepForgetsDevicesThatAreGone(t *testing.T) {
	b := newHost(t)
	b.crowd(3)
	d := b.open()
	b.apply(d, coin()[0])
	d.finish()
	b.unplug(2)
	delete(b.binding, 2)
	b.do(b.host, func() error { return d.Sweep(context.Background()) })
	if diff := cmp.Diff(b.bound(), b.links()); diff != "" {
		t.Error("pins:", diff)
	}
}
