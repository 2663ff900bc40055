package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/table"
)

// enforce has the data plane go by t with the devices that are there. One that
// goes away meanwhile is as one that was not there before. The caller has a.mu.
//
// all: those that t names have to be there.
// Errors: *BadTables if t can not be meant for this node; what the data plane
// refuses.
func (a *Agent) enforce(ctx context.Context, t *Tables, health map[table.MemberID]table.Health, all bool) error {
	for tries := 3; ; tries-- {
		b, missing, err := a.bind(t)
		for _, path := range missing {
			if name := t.Devices[path]; all && name != "" {
				err = errors.Join(err, fmt.Errorf("device %s: %s: is not there", name, path))
			}
		}
		if err != nil {
			return &BadTables{err}
		}
		if err = a.driver.Apply(ctx, t.Set.WithHealth(health), b); err == nil {
			a.binding, a.missing, a.unbound = b, missing, false
			return nil
		}
		clear(a.pods)
		if now, _, failed := a.bind(t); tries == 1 || failed != nil || maps.Equal(now, b) {
			return err
		}
	}
}

// bind looks up t's devices as they are now. Those of attachments are as they
// were: whoever makes one tells bound, and the data plane refuses one that is
// gone.
func (a *Agent) bind(t *Tables) (dataplane.Binding, []string, error) {
	devices := a.devices(t)
	links, pods := make(map[string]dataplane.Link, len(devices)), make(map[string]dataplane.Link, len(a.pods))
	var ask []string
	for _, name := range devices {
		if link, known := a.pods[name]; known {
			links[name], pods[name] = link, link
		} else {
			ask = append(ask, name)
		}
	}
	if len(ask) > 0 {
		found, err := a.links(ask)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range ask {
			link, there := found[name]
			if there {
				links[name] = link
			}
			if there && deviceName.MatchString(name) {
				pods[name] = link
			}
		}
	}
	a.pods = pods
	return a.index(t.Set).bind(devices, links)
}

// bound has the data plane know w's device; several that come at once are told
// to it together. same is false if the port is not any more as w is.
func (a *Agent) bound(ctx context.Context, w *Attached, link dataplane.Link) (same bool, err error) {
	l := a.attachments
	l.offer(w, link)
	defer l.withdraw(w)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pods[w.Device] = link
	now, err := a.index(a.tables.Set).want(&w.Attachment)
	if err != nil || now == nil || !now.equal(w) {
		return false, err
	}
	id := a.index(a.tables.Set).port(w.ID).ID
	if a.binding[id] == link {
		return true, nil
	}
	b := maps.Clone(a.binding)
	if b == nil {
		b = dataplane.Binding{}
	}
	for attachment, link := range l.offered() {
		if port := a.index(a.tables.Set).port(attachment); port != nil {
			b[port.ID] = link
		}
	}
	if a.driver.Apply(ctx, a.tables.Set.WithHealth(a.health), b) == nil {
		a.binding, a.unbound = b, false
		return true, nil
	}
	// One that went away would keep all others from being bound.
	if err := a.enforce(ctx, a.tables, a.health, false); err != nil {
		return false, fmt.Errorf("port %s: %w", w.Port, err)
	}
	if a.binding[id] != link {
		return false, fmt.Errorf("device %s: is not there any more", w.Device)
	}
	return true, nil
}

// leave takes the device of an attachment, which is about to go, from what is to
// be bound; the data plane is told soon.
func (a *Agent) leave(w *Attached) {
	a.attachments.hide(w)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.followed = nil
	delete(a.pods, w.Device)
	if a.tables == nil {
		return
	}
	if port := a.index(a.tables.Set).port(w.ID); port != nil {
		delete(a.binding, port.ID)
		a.unbound = true
		a.changed()
	}
}

// stay takes leave back, for an attachment that can not be removed.
func (a *Agent) stay(w *Attached) {
	a.attachments.show(w)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stale = a.tables != nil
}

// unbind tells the data plane of devices that are gone. What does not work is
// tried again at the next sweep. The caller has a.mu.
func (a *Agent) unbind(ctx context.Context) {
	if !a.unbound || a.stale || a.tables == nil {
		return
	}
	if err := a.driver.Apply(ctx, a.tables.Set.WithHealth(a.health), a.binding); err != nil {
		a.stale = true
		return
	}
	a.unbound = false
}
