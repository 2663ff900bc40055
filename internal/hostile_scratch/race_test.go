package scratch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

func TestRace(t *testing.T) {
	name := fmt.Sprintf("weft-scratch-%d", os.Getpid())
	ns, err := netns.New(name)
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Delete(name)
	defer ns.Close()
	dir := filepath.Join("/sys/fs/bpf", name)
	defer ebpf.RemovePinned(dir)
	set := testset.WithLB()
	binding := dataplane.Binding{}
	var d *ebpf.Driver
	err = ns.Do(func() error {
		var err error
		if d, err = ebpf.Open(dir); err != nil {
			return err
		}
		for id, p := range set.Ports {
			if p.Node != 0 {
				continue
			}
			a := netlink.NewLinkAttrs()
			a.Name = "p" + strconv.Itoa(int(id))
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "q" + strconv.Itoa(int(id))}); err != nil {
				return err
			}
			l, _ := netlink.LinkByName(a.Name)
			binding[id] = dataplane.Link{IfIndex: l.Attrs().Index, MAC: table.RouterMAC}
		}
		return d.Apply(context.Background(), set, binding)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	seg := func(sport uint16, f packet.Flags) []byte {
		s := testset.Spec(testset.Web1, "10.1.1.10", "203.0.113.24")
		s.Proto, s.SrcPort, s.DstPort, s.Flags = packet.TCP, sport, 80, f
		return packet.Build(s)
	}
	in := binding[testset.Web1].IfIndex
	syn, rst := seg(5000, packet.SYN), seg(5000, packet.RST)
	stop := atomic.Bool{}
	var nb atomic.Int64
	go func() {
		runtime.LockOSThread()
		ns.Do(func() error {
			for !stop.Load() {
				d.TestRun(in, false, rst)
				nb.Add(1)
			}
			return nil
		})
	}()
	ns.Do(func() error {
		n := 0
		for end := time.Now().Add(15 * time.Second); time.Now().Before(end); n++ {
			d.TestRun(in, false, syn)
			d.TestRun(in, false, rst)
			if true {
				l, _ := d.Loads(context.Background())
				if v := l.Servers[testset.VSWeb]; v > 10 {
					t.Errorf("round %d: open %d", n, v)
					break
				}
			}
		}
		t.Log(n, "rounds", nb.Load())
		return nil
	})
	stop.Store(true)
}
