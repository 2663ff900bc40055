package lab

import (
	"context"
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/table"
)

// fakeCompile turns the parts of an intent that a lab needs into tables, with
// ids that depend on the path only.
func fakeCompile(tree *intent.Tree) (map[string]*table.Set, []intent.Problem) {
	set := table.NewSet("host1")
	for _, i := range intent.List[*intent.Tier0Interface](tree, "") {
		u := &table.Uplink{ID: table.PortID(fakeID(i.Path)), Path: i.Path, Name: i.Name(), Address: i.Addresses()[0]}
		set.Uplinks[u.ID] = u
	}
	for _, s := range intent.List[*intent.Segment](tree, "") {
		segment := &table.Segment{ID: table.SegmentID(fakeID(s.Path)), Path: s.Path, Name: s.Name(), Gateways: s.Gateways()}
		set.Segments[segment.ID] = segment
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
		set.Ports[port.ID] = port
		for _, b := range p.Bindings() {
			port.MAC = table.MAC(b.MAC)
			e := &table.Endpoint{Segment: port.Segment, Addr: b.Addr, Port: port.ID, MAC: port.MAC}
			set.Endpoints[table.EndpointKey{Segment: e.Segment, Addr: e.Addr}] = e
		}
	}
	return map[string]*table.Set{"host1": set}, nil
}

func fakeID(path string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(path))
	return h.Sum32()
}

// fakeDriver is a dataplane.Driver that keeps what it was told and pins files.
type fakeDriver struct {
	applied []dataplane.Binding
	sets    []*table.Set
	fail    error // what the next Apply returns
	open    int   // opened and not closed
}

func (d *fakeDriver) Open(pinDir string) (dataplane.Driver, error) {
	d.open++
	if err := os.MkdirAll(pinDir, 0o700); err != nil {
		return nil, err
	}
	return d, os.WriteFile(filepath.Join(pinDir, "ports"), nil, 0o600)
}

func (d *fakeDriver) Apply(_ context.Context, set *table.Set, b dataplane.Binding) error {
	if d.fail != nil {
		return d.fail
	}
	d.applied, d.sets = append(d.applied, b), append(d.sets, set)
	return nil
}

func (d *fakeDriver) Check(*table.Set, dataplane.Binding) error {
	if len(d.sets) == 0 {
		return errors.New("no tables")
	}
	return nil
}

// Record records nothing: the fake sees no packet.
func (d *fakeDriver) Record(dataplane.Link, packet.Tuple) (dataplane.Recorder, error) {
	return nil, errors.New("is a fake")
}

func (d *fakeDriver) Status(context.Context) (dataplane.Status, error) {
	return dataplane.Status{Generation: uint32(len(d.applied))}, nil
}

func (d *fakeDriver) Close() error {
	d.open--
	if d.open != 0 {
		return errors.New("closed another number of times than opened")
	}
	return nil
}

// serveArgument makes the test binary the HTTP server of its labs.
const serveArgument = "lab-test-serve-http"

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
	os.Exit(m.Run())
}

// newSystem returns a System of its own in a temporary directory.
func newSystem(t *testing.T) (*System, *fakeDriver) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := &fakeDriver{}
	return &System{
		StateDir: filepath.Join(t.TempDir(), "run"),
		PinDir:   filepath.Join(t.TempDir(), "pins"),
		Server:   []string{self, serveArgument},
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
