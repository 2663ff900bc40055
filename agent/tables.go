package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// Tables are what an agent is told to make its node do.
type Tables struct {
	Set *table.Set
	// Devices are the names of network devices by the policy paths of the ports
	// and uplinks that they belong to. Ports of load balancers' monitors are
	// missing: the agent makes their devices itself.
	Devices map[string]string
}

// tablesDocument is the JSON form of Tables.
type tablesDocument struct {
	Devices map[string]string `json:"devices"`
	Tables  json.RawMessage   `json:"tables"` // see table.Encode
}

// MarshalJSON implements json.Marshaler. Equal Tables give equal bytes.
func (t *Tables) MarshalJSON() ([]byte, error) {
	set, err := table.Encode(t.Set)
	if err != nil {
		return nil, err
	}
	return json.Marshal(tablesDocument{t.Devices, set})
}

// UnmarshalJSON implements json.Unmarshaler.
// Errors: those of table.Decode; an unknown field.
func (t *Tables) UnmarshalJSON(data []byte) error {
	var d tablesDocument
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return err
	}
	if len(d.Tables) == 0 {
		return errors.New("tables: are missing")
	}
	set, err := table.Decode(d.Tables)
	if err != nil {
		return err
	}
	t.Set, t.Devices = set, d.Devices
	return nil
}

// BadTables is the error of tables that can not be meant for this node; what is
// in force has not changed.
type BadTables struct{ Err error }

func (e *BadTables) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *BadTables) Unwrap() error { return e.Err }

// check says what is wrong with t by itself.
func (t *Tables) check() error {
	own := map[string]bool{}
	for _, s := range t.Set.Services.All() {
		if p := t.Set.Ports.Get(s.Port); p != nil {
			own[p.Path] = true
		}
	}
	for _, path := range slices.Sorted(maps.Keys(t.Devices)) {
		if own[path] {
			return fmt.Errorf("device %s: %s: is a monitors' port (its device is the agent's)", t.Devices[path], path)
		}
	}
	return nil
}

// Links returns the devices of the current network namespace by name.
func Links() (map[string]dataplane.Link, error) {
	links, err := listLinks()
	if err != nil {
		return nil, err
	}
	out := make(map[string]dataplane.Link, len(links))
	for _, l := range links {
		out[l.Attrs().Name] = linkTo(l)
	}
	return out, nil
}

// asked is how many devices are asked for one by one: a list of all costs as
// much as some dozens of them, and more if there are thousands.
const asked = 32

// linksOf returns those of the devices called names that are there, and maybe
// others.
func linksOf(names []string) (map[string]dataplane.Link, error) {
	if len(names) > asked {
		return Links()
	}
	out := make(map[string]dataplane.Link, len(names))
	for _, name := range names {
		l, err := linkOf(name)
		if err != nil {
			return nil, err
		}
		if l != nil {
			out[name] = linkTo(l)
		}
	}
	return out, nil
}

// linkTo returns what the data plane is told of a device.
func linkTo(l netlink.Link) dataplane.Link {
	link := dataplane.Link{IfIndex: l.Attrs().Index}
	if mac := l.Attrs().HardwareAddr; len(mac) == len(link.MAC) {
		copy(link.MAC[:], mac)
	}
	return link
}

// Bind finds devices, given by name with the policy paths of their ports and
// uplinks, among links.
//
// missing are the paths whose device is not there, sorted; they are not in the
// Binding.
// Errors: a path that set does not have, an uplink's device that has no
// Ethernet address.
func Bind(set *table.Set, devices map[string]string, links map[string]dataplane.Link) (b dataplane.Binding, missing []string, err error) {
	return indexOf(set).bind(devices, links)
}
