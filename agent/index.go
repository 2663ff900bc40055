package agent

import (
	"fmt"
	"maps"
	"slices"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// index finds the ports of a Set by what is attached to them, and by their policy
// paths. It is immutable.
type index struct {
	set       *table.Set                       // has nothing but what is looked at
	paths     table.Map[string, table.PortID]  // ports and uplinks
	attached  table.Map[string, []*table.Port] // by attachment id
	endpoints table.Map[table.PortID, []*table.Endpoint]
}

// of returns the index of set; i itself if it has the same of what is looked at.
// Cost O(what differs).
func (i *index) of(set *table.Set) *index {
	old := i.set
	if old.Ports.Same(set.Ports) && old.Uplinks.Same(set.Uplinks) && old.Endpoints.Same(set.Endpoints) && old.Segments.Same(set.Segments) {
		return i
	}
	paths, attached, endpoints := i.paths.Edit(), i.attached.Edit(), i.endpoints.Edit()
	for id := range old.Uplinks.Differing(set.Uplinks) {
		if was := old.Uplinks.Get(id); was != nil {
			paths.Delete(was.Path)
		}
	}
	for id := range old.Ports.Differing(set.Ports) {
		if was := old.Ports.Get(id); was != nil {
			paths.Delete(was.Path)
			drop(attached, was.Attachment, was)
		}
	}
	for id := range old.Uplinks.Differing(set.Uplinks) {
		if is := set.Uplinks.Get(id); is != nil {
			paths.Put(is.Path, &is.ID)
		}
	}
	for id := range old.Ports.Differing(set.Ports) {
		if is := set.Ports.Get(id); is != nil {
			paths.Put(is.Path, &is.ID)
			if is.Node == 0 && is.Attachment != "" {
				add(attached, is.Attachment, is)
			}
		}
	}
	for k := range old.Endpoints.Differing(set.Endpoints) {
		if was := old.Endpoints.Get(k); was != nil {
			drop(endpoints, was.Port, was)
		}
		if is := set.Endpoints.Get(k); is != nil {
			add(endpoints, is.Port, is)
		}
	}
	looked := &table.Set{Ports: set.Ports, Uplinks: set.Uplinks, Endpoints: set.Endpoints, Segments: set.Segments}
	return &index{looked, paths.Map(), attached.Map(), endpoints.Map()}
}

// indexOf returns the index of set. Cost O(ports + endpoints).
func indexOf(set *table.Set) *index { return (&index{set: &table.Set{}}).of(set) }

// add puts v into the list of a key, drop takes it out.
func add[K, V comparable](e *table.MapEdit[K, []V], k K, v V) {
	var list []V
	if was := e.Get(k); was != nil {
		list = slices.Clone(*was)
	}
	list = append(list, v)
	e.Put(k, &list)
}

func drop[K, V comparable](e *table.MapEdit[K, []V], k K, v V) {
	was := e.Get(k)
	if was == nil {
		return
	}
	list := slices.DeleteFunc(slices.Clone(*was), func(o V) bool { return o == v })
	if len(list) == 0 {
		e.Delete(k)
		return
	}
	e.Put(k, &list)
}

// port returns a port that id is attached to; nil if there is none.
func (i *index) port(id string) *table.Port {
	if list := i.attached.Get(id); list != nil {
		return (*list)[0]
	}
	return nil
}

// present returns those of devices, names by policy path, whose ports or uplinks
// there are.
func (i *index) present(devices map[string]string) map[string]string {
	out := make(map[string]string, len(devices))
	for path, name := range devices {
		if i.paths.Has(path) {
			out[path] = name
		}
	}
	return out
}

// endpointsOf returns the addresses of a port on its segment.
func (i *index) endpointsOf(port *table.Port) (out []*table.Endpoint) {
	if list := i.endpoints.Get(port.ID); list != nil {
		for _, e := range *list {
			if e.Segment == port.Segment {
				out = append(out, e)
			}
		}
	}
	return out
}

// bind is Bind of the Set that i is of.
func (i *index) bind(devices map[string]string, links map[string]dataplane.Link) (b dataplane.Binding, missing []string, err error) {
	b = make(dataplane.Binding, len(devices))
	for _, path := range slices.Sorted(maps.Keys(devices)) {
		name := devices[path]
		id := i.paths.Get(path)
		if id == nil {
			return nil, nil, fmt.Errorf("device %s: %s: is not in the tables", name, path)
		}
		link, there := links[name]
		switch {
		case !there:
			missing = append(missing, path)
		case link.MAC == table.MAC{} && i.set.Uplinks.Has(*id):
			return nil, nil, fmt.Errorf("device %s: %s: has no Ethernet address, which an uplink sends with", name, path)
		default:
			b[*id] = link
		}
	}
	return b, missing, nil
}
