package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/need"
	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/internal/scenario"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/table"
)

// TestNetns proves that what the traces say is what sockets and traceroute
// find in a lab.
func TestNetns(t *testing.T) {
	need.Root(t)
	need.BPF(t)
	need.Tool(t, "ping", "traceroute", "ip")
	if err := ebpf.MountFS(); err != nil {
		t.Fatal(err)
	}
	play(t, true, newLived)
}

// labs numbers the labs of a process, whose names must differ.
var labs atomic.Int32

// labFile is the file of an archive that says what stands around the intent.
const labFile = "lab.yaml"

// lived answers with machines in namespaces. How long it waits for an answer
// depends on what is predicted.
type lived struct {
	*scenario.Predicted
	t       testing.TB
	archive string
	system  *lab.System
	lab     string
	plan    *lab.Plan // nil: the lab is not up
	held    map[string]conversation
}

// newLived returns a Proof whose lab is built with the first change.
func newLived(t testing.TB, archive string) scenario.Proof {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("s%dx%d", os.Getpid(), labs.Add(1))
	r := &lived{Predicted: scenario.NewPredicted(), t: t, archive: archive, lab: name, held: map[string]conversation{}}
	r.system = &lab.System{
		StateDir: t.TempDir(), PinDir: "/sys/fs/bpf/weft-" + name, Server: []string{self, serveHTTP}, Agent: []string{self, runAgent},
		Compile: func(tree *intent.Tree) (map[string]*table.Set, []intent.Problem) {
			return compile.New().Update(tree, nil)
		},
		Open: func(dir string) (dataplane.Driver, error) { return ebpf.Open(dir) },
	}
	t.Cleanup(func() {
		if err := r.down(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// down removes the lab and complains if something of it is left.
func (r *lived) down() error {
	for name, c := range r.held {
		c.Close()
		delete(r.held, name)
	}
	r.plan = nil
	_, err := r.system.Down(context.Background(), r.lab)
	left, errList := netns.List("weft-" + r.lab + "-")
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("namespaces are left: %v", left))
	}
	return errors.Join(err, errList)
}

// Changed builds the lab, changes it, or takes it down if nothing is left.
func (r *lived) Changed(w *scenario.World, files []scenario.File) error {
	if err := r.Predicted.Changed(w, files); err != nil {
		return err
	}
	if w.Set.Ports.Len()+w.Set.Uplinks.Len() == 0 {
		return r.down()
	}
	bodies := make([]lab.File, 0, len(files)+1)
	for _, f := range files {
		bodies = append(bodies, lab.File{Name: f.Name, Data: f.Data})
	}
	var err error
	if r.plan == nil {
		var spec lab.File
		if spec, err = r.spec(); err == nil {
			_, err = r.system.Up(r.context(), append(bodies, spec))
		}
	} else {
		err = r.system.Apply(r.context(), r.lab, bodies)
	}
	if err != nil {
		return err
	}
	state, err := r.system.Load(r.lab)
	if err != nil {
		return err
	}
	r.plan = state.Plan
	set, err := r.system.Set(r.context(), r.lab)
	if err == nil && table.Diff(w.Set, set).Len() > 0 {
		err = errors.New("the lab has other tables than the script")
	}
	return err
}

func (r *lived) context() context.Context {
	return r.t.(interface{ Context() context.Context }).Context()
}

// spec reads the archive's Lab document and gives it the lab's name.
func (r *lived) spec() (lab.File, error) {
	spec := map[string]any{"resource_type": "Lab"}
	data, err := os.ReadFile(filepath.Join(r.archive, labFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return lab.File{}, err
	}
	if err := yaml.Unmarshal(data, &spec); err != nil {
		return lab.File{}, fmt.Errorf("%s: %w", labFile, err)
	}
	spec["name"] = r.lab
	data, err = yaml.Marshal(spec)
	return lab.File{Name: labFile, Data: data}, err
}

// Empty complains if the lab is still up.
func (r *lived) Empty(*scenario.World) error {
	if r.plan != nil {
		return errors.New("the lab is still up")
	}
	return nil
}

// Traced compares the trace with a connection and a traceroute.
func (r *lived) Traced(w *scenario.World, f *scenario.Flow) error {
	if r.sender(f) == nil {
		r.t.Logf("%s: no machine sends this, so only the trace knows", f.Result.Heading())
		return nil
	}
	got, err := r.Connect(w, f)
	if err != nil {
		return err
	}
	if want := f.Outcome(); got != want {
		return fmt.Errorf("%s: is %s, and the trace says %s", f.Result.Heading(), got, want)
	}
	hops, err := r.Traceroute(w, f)
	if err != nil {
		return err
	}
	if want := f.Hops(); !slices.Equal(hops, want) {
		return fmt.Errorf("%s: traceroute finds %q, and the trace says %q", f.Result.Heading(), hops, want)
	}
	return nil
}

// sender returns the machine that f comes from; nil: there is none.
func (r *lived) sender(f *scenario.Flow) *lab.Machine {
	path := ""
	if p := f.Tables().Ports.Get(f.From); p != nil {
		path = p.Path
	}
	return r.machine(path, f.Src)
}

// receiver returns the machine that should get f and the address and port that
// should reach it; nil: no machine should. A flow that should be dropped could
// still reach who has its address.
func (r *lived) receiver(f *scenario.Flow) (*lab.Machine, netip.AddrPort) {
	res, set := f.Result, f.Tables()
	if res.Dropped == nil {
		path := res.To.Path
		for _, u := range set.Uplinks.All() {
			if u.Path == path {
				path = "" // outside
			}
		}
		return r.machine(path, res.DestinationSeen), netip.AddrPortFrom(res.DestinationSeen, res.DestinationPortSeen)
	}
	at := netip.AddrPortFrom(f.Dst, f.DstPort)
	if p := set.Ports.Get(f.To); p != nil {
		return r.machine(p.Path, f.Dst), at
	}
	for _, m := range r.plan.Machines { // overlapping tenants: any will do, another one refuses
		if has := r.machine(m.Port, f.Dst); has != nil {
			return has, at
		}
	}
	return nil, at
}

// machine returns the machine of a segment port, or with an empty path the
// outside machine, that has an address.
func (r *lived) machine(path string, a netip.Addr) *lab.Machine {
	if r.plan == nil {
		return nil
	}
	for _, m := range r.plan.Machines {
		if m.Kind != lab.Outside && m.Kind != lab.Workload || m.Port != path {
			continue
		}
		for _, l := range r.plan.Links {
			has := func(p netip.Prefix) bool { return p.Addr() == a }
			if l.B.Namespace == m.Namespace && slices.ContainsFunc(l.B.Addresses, has) {
				return &m
			}
		}
	}
	return nil
}
