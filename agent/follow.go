package agent

import "errors"

// follow makes the pods' interfaces as the tables in force say, which may have
// changed, and opens those that an earlier agent left closed.
func (a *Agent) follow() {
	l := a.attachments
	a.mu.Lock()
	if a.tables == nil {
		a.mu.Unlock()
		return
	}
	index := a.index(a.tables.Set)
	known := a.followed == index
	a.mu.Unlock()
	if !known {
		a.adaptAll(index)
	}
	for _, w := range l.closed() {
		a.open(w)
	}
}

// adaptAll makes all attachments as index says.
func (a *Agent) adaptAll(index *index) {
	var found []Condition
	done := true
	for _, was := range a.attachments.list() {
		key := was.AttachmentKey
		w, err := index.want(&was.Attachment)
		if err == nil && w == nil {
			found = append(found, Condition{
				Type: NoPort, Object: key.String(), Reason: "NoSuchPort", Message: was.String() + ": attachment id " + was.ID + ": no port of this node has it",
			})
			continue
		}
		if err == nil && !w.equal(was) {
			err = a.replace(was, w)
		}
		if err != nil {
			done = false
		}
		if err != nil && !errors.Is(err, errBusy) {
			found = append(found, Condition{Type: InterfaceDiffers, Object: was.Port, Reason: "NotConfigured", Message: was.String() + ": " + err.Error()})
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unlike = found
	if done {
		a.followed = index
	}
}

// errBusy says that somebody works on an attachment, who will look at the tables
// last.
var errBusy = errors.New("somebody works on it")

// replace makes w of was.
func (a *Agent) replace(was, w *Attached) error {
	l := a.attachments
	end, ok := l.try(was.AttachmentKey)
	if !ok {
		return errBusy
	}
	defer end()
	if l.get(was.AttachmentKey) != was {
		return errBusy
	}
	if _, err := l.pairs.Make(w, was); err != nil {
		return err
	}
	a.log.Info("interface follows its port", "pod", w.Pod, "attachment", w.AttachmentKey, "port", w.Port)
	return l.put(w)
}

// open brings up the outer end of w if the data plane has bound it.
func (a *Agent) open(w *Attached) {
	l := a.attachments
	end, ok := l.try(w.AttachmentKey)
	if !ok {
		return
	}
	defer end()
	if l.get(w.AttachmentKey) != w || !a.isBound(w) {
		return
	}
	if err := l.raise(w); err != nil {
		a.log.Warn("device stays down", "pod", w.Pod, "attachment", w.AttachmentKey, "error", err)
	}
}

// isBound says whether the data plane knows a device for w's port.
func (a *Agent) isBound(w *Attached) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	port := a.index(a.tables.Set).port(w.ID)
	if port == nil {
		return false
	}
	_, bound := a.binding[port.ID]
	return bound
}

// tidy forgets the attachments whose devices are gone, as their pods' namespaces
// are: nobody will say so any more if weft-cni could not reach an agent then.
func (a *Agent) tidy() {
	l := a.attachments
	list := l.list()
	if len(list) == 0 {
		return
	}
	devices, err := l.pairs.List()
	if err != nil {
		a.log.Warn("attachments can not be looked at", "error", err)
		return
	}
	for _, w := range list {
		if _, there := devices[w.Device]; there {
			continue
		}
		if err := a.discard(w); err != nil {
			a.log.Warn("attachment stays", "pod", w.Pod, "attachment", w.AttachmentKey, "error", err)
		}
	}
}
