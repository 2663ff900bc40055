package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/agent"
	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/dataplane/ebpf"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// fakeCompile turns the parts of an intent that a lab needs into tables, with
// ids that depend on the path only.
func fakeCompile(tree *intent.Tree) (map[string]*table.Set, []intent.Problem) {
	set := table.NewSet("host1")
	for _, i := range intent.List[*intent.Tier0Interface](tree, "") {
		u := &table.Uplink{ID: table.PortID(fakeID(i.Path)), Path: i.Path, Name: i.Name(), Address: i.Addresses()[0]}
		set.Uplinks.Put(u.ID, u)
	}
	for _, s := range intent.List[*intent.Segment](tree, "") {
		segment := &table.Segment{ID: table.SegmentID(fakeID(s.Path)), Path: s.Path, Name: s.Name(), Gateways: s.Gateways()}
		set.Segments.Put(segment.ID, segment)
	}
	nodes := map[string]table.VRFID{}
	for _, n := range intent.List[*intent.Node](tree, "") {
		nodes[n.PortPath] = table.VRFID(fakeID(n.Path))
	}
	for _, p := range intent.List[*intent.SegmentPort](tree, "") {
		port := &table.Port{
			ID: table.PortID(fakeID(p.Path)), Path: p.Path, Name: p.Name(), Attachment: p.AttachmentID(),
			Segment: table.SegmentID(fakeID(p.SegmentPath())), Node: nodes[p.Path],
		}
		set.Ports.Put(port.ID, port)
		for _, b := range p.Bindings() {
			port.MAC = table.MAC(b.MAC)
			e := &table.Endpoint{Segment: port.Segment, Addr: b.Addr, Port: port.ID, MAC: port.MAC}
			set.Endpoints.Put(table.EndpointKey{Segment: e.Segment, Addr: e.Addr}, e)
		}
	}
	return map[string]*table.Set{"host1": set}, nil
}

func fakeID(path string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(path))
	return h.Sum32()
}

// fakeDriver is a data plane that keeps what it was told in a directory, which
// the agent's process and the test's share, and pins files.
type fakeDriver struct {
	dir  string
	open int // opened and not closed, by this process
}

// applied is one Apply of a fakeDriver.
type applied struct {
	Binding dataplane.Binding
	Set     *table.Set
}

func (d *fakeDriver) Open(pinDir string) (dataplane.Driver, error) {
	d.open++
	if err := os.MkdirAll(pinDir, 0o700); err != nil {
		return nil, err
	}
	return d, os.WriteFile(filepath.Join(pinDir, "ports"), nil, 0o600)
}

// refuse makes the next Applies fail with text; empty: not any more.
func (d *fakeDriver) refuse(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(d.dir, "refuse")
	var err error
	if text == "" {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// files returns the files that Apply wrote, in order.
func (d *fakeDriver) files() ([]string, error) { return filepath.Glob(filepath.Join(d.dir, "apply-*")) }

func (d *fakeDriver) Apply(_ context.Context, set *table.Set, b dataplane.Binding) error {
	if text, err := os.ReadFile(filepath.Join(d.dir, "refuse")); err == nil {
		return errors.New(string(text))
	}
	files, err := d.files()
	if err != nil {
		return err
	}
	tables, err := table.Encode(set)
	if err != nil {
		return err
	}
	data, err := json.Marshal(appliedFile{b, set.Health, tables})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.dir, fmt.Sprintf("apply-%03d", len(files))), data, 0o600)
}

// appliedFile is how an Apply is written.
type appliedFile struct {
	Binding dataplane.Binding
	Health  map[table.MemberID]table.Health
	Tables  json.RawMessage
}

// told returns all that the driver of a test was told.
func (d *fakeDriver) told(t *testing.T) []applied {
	t.Helper()
	files, err := d.files()
	if err != nil {
		t.Fatal(err)
	}
	var out []applied
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var one appliedFile
		if err := json.Unmarshal(data, &one); err != nil {
			t.Fatal(err)
		}
		set, err := table.Decode(one.Tables)
		if err != nil {
			t.Fatal(err)
		}
		set.Health = one.Health
		out = append(out, applied{one.Binding, set})
	}
	return out
}

func (d *fakeDriver) Check(*table.Set, dataplane.Binding) error {
	if files, err := d.files(); err != nil || len(files) == 0 {
		return errors.New("no tables")
	}
	return nil
}

// Record records nothing: the fake sees no packet.
func (d *fakeDriver) Record(dataplane.Link, packet.Tuple) (dataplane.Recorder, error) {
	return nil, errors.New("is a fake")
}

func (d *fakeDriver) Status(context.Context) (dataplane.Status, error) {
	files, err := d.files()
	return dataplane.Status{Generation: uint32(len(files))}, err
}

// Sweep has nothing to forget.
func (d *fakeDriver) Sweep(context.Context) error { return nil }

// What observers see: nothing.
func (d *fakeDriver) Tallies(context.Context) (map[pipeline.TallyKey]pipeline.Tally, error) {
	return nil, nil
}

func (d *fakeDriver) Loads(context.Context) (dataplane.Loads, error) {
	return dataplane.Loads{}, nil
}

func (d *fakeDriver) PortDrops(context.Context) ([]dataplane.PortDrop, error) { return nil, nil }

func (d *fakeDriver) Connections(context.Context, func(*dataplane.Connection) bool) error { return nil }

func (d *fakeDriver) Close() error {
	d.open--
	if d.open != 0 {
		return errors.New("closed another number of times than opened")
	}
	return nil
}

// Arguments that make the test binary what its labs start. The agent's is
// followed by the directory of its fakeDriver.
const (
	serveArgument = "lab-test-serve-http"
	agentArgument = "lab-test-agent"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serveArgument {
		var listen []string
		for i := 2; i+1 < len(os.Args); i += 2 {
			listen = append(listen, os.Args[i+1])
		}
		if err := ServeHTTP(context.Background(), listen, os.Stderr); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 2 && os.Args[1] == agentArgument {
		d := &fakeDriver{dir: os.Args[2]}
		os.Exit(agent.Main(context.Background(), os.Args[3:], os.Stdout, os.Stderr, func(pins string) (agent.Driver, error) {
			_, err := d.Open(pins)
			return d, err
		}))
	}
	if len(os.Args) > 1 && os.Args[1] == realAgentArgument {
		os.Exit(agent.Main(context.Background(), os.Args[2:], os.Stdout, os.Stderr, func(pins string) (agent.Driver, error) {
			return ebpf.Open(pins)
		}))
	}
	os.Exit(m.Run())
}

// newSystem returns a System of its own in a temporary directory.
func newSystem(t *testing.T) (*System, *fakeDriver) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := &fakeDriver{dir: t.TempDir()}
	return &System{
		StateDir: filepath.Join(t.TempDir(), "run"),
		PinDir:   filepath.Join(t.TempDir(), "pins"),
		Server:   []string{self, serveArgument},
		Agent:    []string{self, agentArgument, d.dir},
		Compile:  fakeCompile,
		Open:     d.Open,
	}, d
}

// labFiles returns a file of testdata as the lab called name, with each old
// text, which must be there, replaced by the new one that follows it.
func labFiles(t *testing.T, file, name string, replace ...string) []File {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("%s has no %q", file, replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return []File{{Name: file, Data: []byte(strings.ReplaceAll(text, "LABNAME", name))}}
}
