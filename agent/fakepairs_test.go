package agent

import (
	"maps"
	"slices"
	"sync"

	"github.com/weft-net/weft/dataplane"
)

// fakePairs are pairs of no kernel. Namespaces are those whose path is in pods.
type fakePairs struct {
	mu     sync.Mutex
	pods   []string
	pairs  map[string]*fakePair // by device
	next   int                  // ifindex
	refuse map[string]error     // by the name of the method
	driver *fakeDriver
	asked  []string // the names that links was asked for
}

type fakePair struct {
	link  dataplane.Link
	netns string
	inner string
	nic   NIC
	up    bool
}

func newFakePairs(pods ...string) *fakePairs {
	return &fakePairs{pods: pods, pairs: map[string]*fakePair{}, next: 100, refuse: map[string]error{}}
}

func (p *fakePairs) change(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
}

// links are the devices of the node: fakeLinks and pairs.
func (p *fakePairs) links(names []string) (map[string]dataplane.Link, error) {
	out, _ := fakeLinks(names)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, names...)
	for name, pair := range p.pairs {
		out[name] = pair.link
	}
	return out, nil
}

func (p *fakePairs) Reach(q *Attachment) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.pods, q.NetNS) {
		return refuse(NoNamespace, "%s: netns %s: does not exist", q, q.NetNS)
	}
	return p.refuse["Reach"]
}

func (p *fakePairs) Make(w, _ *Attached) (dataplane.Link, error) {
	if err := p.Reach(&w.Attachment); err != nil {
		return dataplane.Link{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pair := p.pairs[w.Device]
	if pair == nil || pair.netns != w.NetNS || pair.inner != w.Interface {
		p.next++
		pair = &fakePair{link: dataplane.Link{IfIndex: p.next}, netns: w.NetNS, inner: w.Interface}
		p.pairs[w.Device] = pair
	}
	pair.nic = w.NIC
	return pair.link, p.refuse["Make"]
}

func (p *fakePairs) Raise(device string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refuse["Raise"]; err != nil {
		return err
	}
	if _, binding := p.driver.applied(); !slices.Contains(slices.Collect(maps.Values(binding)), p.pairs[device].link) {
		panic("a device is raised before it is bound")
	}
	p.pairs[device].up = true
	return nil
}

func (p *fakePairs) Remove(device string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refuse["Remove"]; err != nil {
		return err
	}
	delete(p.pairs, device)
	return nil
}

func (p *fakePairs) Differences(w *Attached) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pair := p.pairs[w.Device]
	switch {
	case pair == nil:
		return []string{"device " + w.Device + ": does not exist"}, nil
	case !pair.nic.equal(&w.NIC):
		return []string{"interface " + w.Interface + ": differs"}, nil
	}
	return nil, nil
}

func (p *fakePairs) List() (map[string]bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]bool{}
	for name, pair := range p.pairs {
		out[name] = pair.up
	}
	return out, nil
}

// devices returns the names of the pairs that are there, sorted.
func (p *fakePairs) devices() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.pairs))
}
