package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/weft-net/weft/dataplane"
)

// attachments are those of a node: a record each, on the disk and in memory,
// and who works on which one now.
//
// A record is written when its pair is there, and before that pair carries
// anything; it is removed after it. So a device without a record was never
// used, and a record without a device is of a pod that is gone.
type attachments struct {
	log   *slog.Logger
	store *store
	pairs pairs
	fixed map[string]string // names of other devices that the node has, by the policy paths of their ports and uplinks

	mu    sync.Mutex                  // guards what follows; nothing is waited for under it
	made  map[AttachmentKey]*Attached // values are never changed
	ids   map[string]AttachmentKey    // who has, or is about to have, the port with this attachment id
	turns map[AttachmentKey]*turn
	down  map[AttachmentKey]bool      // made, but the outer end may be down
	going map[AttachmentKey]*Attached // of made: those that are taken away now
	links map[string]dataplane.Link   // by attachment id: to be bound
	ended bool                        // no new ones
}

// turn is somebody's work on one attachment.
type turn struct {
	stop context.CancelCauseFunc
	done chan struct{}
}

// recordsDir is below the agent's directory. A record is called as its device.
const recordsDir = "attachments"

func recordFile(device string) string { return filepath.Join(recordsDir, device+".json") }

// newAttachments takes over what an earlier agent left, and removes what it
// left half done.
func newAttachments(log *slog.Logger, s *store, p pairs) (*attachments, error) {
	l := &attachments{
		log: log, store: s, pairs: p,
		made: map[AttachmentKey]*Attached{}, ids: map[string]AttachmentKey{}, turns: map[AttachmentKey]*turn{}, down: map[AttachmentKey]bool{},
		going: map[AttachmentKey]*Attached{}, links: map[string]dataplane.Link{},
	}
	if err := os.MkdirAll(filepath.Join(s.dir, recordsDir), 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, recordsDir))
	if err != nil {
		return nil, err
	}
	devices, err := p.List()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		device, whole := strings.CutSuffix(e.Name(), ".json")
		if !whole { // its writer was killed
			if err := os.Remove(filepath.Join(s.dir, recordsDir, e.Name())); err != nil {
				return nil, err
			}
			continue
		}
		if err := l.load(device, devices); err != nil {
			return nil, err
		}
		delete(devices, device)
	}
	for device := range devices {
		log.Warn("removing a device that no attachment has", "device", device)
		if err := p.Remove(device); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// load takes over the record of a device, if that is still there.
func (l *attachments) load(device string, devices map[string]bool) error {
	w := &Attached{}
	_, err := l.store.read(recordFile(device), w)
	up, there := devices[device]
	if !there {
		l.log.Info("attachment is over", "pod", w.Pod, "attachment", w.AttachmentKey)
		return l.erase(device)
	}
	if err != nil || w.device() != device || w.Device != device {
		// To guess that the pod is gone would cut it off.
		l.log.Error("attachment can not be read; its pod has no network until it is attached again", "device", device, "error", err)
		return nil
	}
	l.made[w.AttachmentKey], l.ids[w.ID] = w, w.AttachmentKey
	if !up {
		l.down[w.AttachmentKey] = true
	}
	return nil
}

// begin waits until nobody works on key; then the caller does, until it calls
// end. urge ends the work of others. The Context that it returns ends when the
// caller shall.
func (l *attachments) begin(ctx context.Context, key AttachmentKey, urge bool) (_ context.Context, end func(), err error) {
	for {
		l.mu.Lock()
		if l.ended && !urge {
			l.mu.Unlock()
			return nil, nil, errEnds
		}
		t := l.turns[key]
		if t == nil {
			t = &turn{done: make(chan struct{})}
			ctx, t.stop = context.WithCancelCause(ctx)
			l.turns[key] = t
			l.mu.Unlock()
			return ctx, func() { l.finish(key, t) }, nil
		}
		l.mu.Unlock()
		if urge {
			t.stop(refuse(Interrupted, "attachment %s: was taken away meanwhile", key))
		}
		select {
		case <-t.done:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("attachment %s: somebody else works on it: %w", key, context.Cause(ctx))
		}
	}
}

// try is begin without waiting; ok is false if somebody works on key.
func (l *attachments) try(key AttachmentKey) (end func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.turns[key] != nil {
		return nil, false
	}
	t := &turn{func(error) {}, make(chan struct{})}
	l.turns[key] = t
	return func() { l.finish(key, t) }, true
}

func (l *attachments) finish(key AttachmentKey, t *turn) {
	l.mu.Lock()
	delete(l.turns, key)
	l.mu.Unlock()
	t.stop(nil)
	close(t.done)
}

var errEnds = refuse(Interrupted, "the agent ends")

// end has those that wait give up, and takes no new ones.
func (l *attachments) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for _, t := range l.turns {
		t.stop(errEnds)
	}
}

// claim makes q the only one that may have its port. An attachment that had it
// and whose device is gone gives way. The caller has q's turn.
func (l *attachments) claim(q *Attachment) error {
	l.mu.Lock()
	key, taken := l.ids[q.ID]
	if !taken || key == q.AttachmentKey {
		l.ids[q.ID] = q.AttachmentKey
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	owned := refuse(PortTaken, "%s: attachment id %s: attachment %s has its port (detach that first)", q, q.ID, key)
	end, free := l.try(key)
	if !free {
		return owned
	}
	defer end()
	devices, err := l.pairs.List()
	if err != nil {
		return err
	}
	if _, there := devices[key.device()]; there {
		return owned
	}
	if err := l.drop(key); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, taken := l.ids[q.ID]; taken { // by somebody who was faster
		return owned
	}
	l.ids[q.ID] = q.AttachmentKey
	return nil
}

// release gives a claim back, unless the attachment was made.
func (l *attachments) release(q *Attachment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.made[q.AttachmentKey]; (w == nil || w.ID != q.ID) && l.ids[q.ID] == q.AttachmentKey {
		delete(l.ids, q.ID)
	}
}

// get returns what was made for key; nil: nothing.
func (l *attachments) get(key AttachmentKey) *Attached {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made[key]
}

// put keeps w, whose pair is there. The caller has its turn.
func (l *attachments) put(w *Attached) error {
	if was := l.get(w.AttachmentKey); was == nil || !was.equal(w) {
		if err := l.write(w); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made[w.AttachmentKey] = w
	return nil
}

// write keeps w for the next agent. It need not outlive the machine, as the pair
// does not: nothing waits for a disk.
func (l *attachments) write(w *Attached) error {
	data, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("attachment %s: %w", w.AttachmentKey, err)
	}
	f := &file{path: filepath.Join(l.store.dir, recordFile(w.Device))}
	f.temp = f.path + ".new" // whoever has w's turn
	defer f.drop()
	if err := os.WriteFile(f.temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(f.temp, f.path)
}

// drop forgets an attachment whose pair is gone. The caller has its turn, or
// nobody has.
func (l *attachments) drop(key AttachmentKey) error {
	if err := l.erase(key.device()); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w := l.made[key]; w != nil && l.ids[w.ID] == key {
		delete(l.ids, w.ID)
	}
	delete(l.made, key)
	delete(l.down, key)
	delete(l.going, key)
	return nil
}

// erase removes the record of a device from the disk.
func (l *attachments) erase(device string) error {
	if err := os.Remove(filepath.Join(l.store.dir, recordFile(device))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// hide says that w is about to go: its device is not to be bound any more.
func (l *attachments) hide(w *Attached) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.going[w.AttachmentKey] = w
}

// show takes hide back.
func (l *attachments) show(w *Attached) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.going, w.AttachmentKey)
}

// offer says that w's device is to be bound, by whoever comes first; withdraw
// that it is, or is not any more.
func (l *attachments) offer(w *Attached, link dataplane.Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.links[w.ID] = link
}

func (l *attachments) withdraw(w *Attached) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.links, w.ID)
}

// offered returns the devices that are to be bound by attachment id.
func (l *attachments) offered() map[string]dataplane.Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.links)
}

// raise brings up the outer end of w, which the data plane has bound.
func (l *attachments) raise(w *Attached) error {
	if err := l.pairs.Raise(w.Device); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.down, w.AttachmentKey)
	return nil
}

// list returns what was made, in order.
func (l *attachments) list() []*Attached {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.made), func(a, b *Attached) int { return a.compare(b.AttachmentKey) })
}

// closed returns those of list whose outer end may be down.
func (l *attachments) closed() (out []*Attached) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.down {
		out = append(out, l.made[key])
	}
	return out
}

// devices returns the devices of ports by policy path.
func (l *attachments) devices(ports *index) map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]string, len(l.made))
	for key, w := range l.made {
		list := ports.attached.Get(w.ID)
		if list == nil || l.ids[w.ID] != key || l.going[key] != nil {
			continue
		}
		for _, p := range *list {
			out[p.Path] = w.Device
		}
	}
	return out
}
