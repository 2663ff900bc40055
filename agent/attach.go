package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weft-net/weft/table"
)

// Attach gives a pod the interface of its port, for which it waits as long as
// wait says, or until ctx ends. When it returns, the pod can send: with the
// port's addresses only, and by the tables. The same again gives the same
// answer, and mends what is not as it shall be.
// Errors: *Refusal; then what was not there before is not there now.
func (a *Agent) Attach(ctx context.Context, q *Attachment, wait time.Duration) (*Attached, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	l := a.attachments
	ctx, end, err := l.begin(ctx, q.AttachmentKey, false)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := l.claim(q); err != nil {
		return nil, err
	}
	defer l.release(q)
	was := l.get(q.AttachmentKey)
	if was != nil && was.ID != q.ID { // another pod's
		if err := a.remove(q.AttachmentKey); err != nil {
			return nil, err
		}
		was = nil
	}
	w, err := a.attach(ctx, q, was, time.Now().Add(wait))
	if err != nil && was == nil {
		if undo := a.remove(q.AttachmentKey); undo != nil {
			a.log.Error("half an attachment stays", "pod", q.Pod, "attachment", q.AttachmentKey, "error", undo)
		}
	}
	if err != nil {
		a.log.Warn("not attached", "pod", q.Pod, "attachment", q.AttachmentKey, "error", err)
		return nil, refused(q, err)
	}
	if was == nil {
		a.log.Info("attached", "pod", q.Pod, "attachment", q.AttachmentKey, "port", w.Port, "device", w.Device)
	}
	return w, nil
}

// refused makes a Refusal of err.
func refused(q *Attachment, err error) error {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r
	}
	return refuse(Failed, "%s: %v", q, err)
}

// attach makes q, where was was before; nil: nothing. It begins anew if its port
// changes meanwhile. The caller has q's turn.
func (a *Agent) attach(ctx context.Context, q *Attachment, was *Attached, until time.Time) (*Attached, error) {
	l := a.attachments
	if err := l.pairs.Reach(q); err != nil { // before it waits
		return nil, err
	}
	if was == nil { // a device without a record may be open
		if err := l.pairs.Remove(q.device()); err != nil {
			return nil, err
		}
	}
	for {
		w, err := a.await(ctx, q, until)
		if err != nil {
			return nil, err
		}
		link, err := l.pairs.Make(w, was)
		if err != nil {
			return nil, err
		}
		if err := l.put(w); err != nil {
			return nil, err
		}
		was = w
		if err := ctx.Err(); err != nil {
			return nil, interrupted(ctx, q)
		}
		same, err := a.bound(ctx, w, link)
		if err != nil {
			return nil, err
		}
		if same {
			return w, l.raise(w)
		}
	}
}

// await returns what q shall be, as soon as the tables have its port.
func (a *Agent) await(ctx context.Context, q *Attachment, until time.Time) (*Attached, error) {
	late := time.NewTimer(time.Until(until))
	defer late.Stop()
	for {
		w, renewed, err := a.want(q)
		if err != nil || w != nil {
			return w, err
		}
		select {
		case <-renewed:
		case <-ctx.Done():
			return nil, interrupted(ctx, q)
		case <-late.C:
			if a.InForce() == nil {
				return nil, refuse(NoTables, "%s: attachment id %s: the agent got no tables yet", q, q.ID)
			}
			return nil, refuse(PortMissing, "%s: attachment id %s: no port of this node has it", q, q.ID)
		}
	}
}

func interrupted(ctx context.Context, q *Attachment) error {
	if r, ok := errors.AsType[*Refusal](context.Cause(ctx)); ok {
		return r
	}
	return refuse(Interrupted, "%s: attachment %s: whoever asked for it does not wait any more", q, q.AttachmentKey)
}

// want returns what q shall be; nil if the tables in force have no port for it:
// then renewed is closed when there are others.
// Errors: the port is none for a pod, or has a device of its own.
func (a *Agent) want(q *Attachment) (w *Attached, renewed <-chan struct{}, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tables == nil {
		return nil, a.renewed, nil
	}
	w, err = a.index(a.tables.Set).want(q)
	if w == nil {
		return nil, a.renewed, err
	}
	if device := a.given(a.tables)[w.Port]; device != "" {
		return nil, nil, refuse(PortTaken, "%s: port %s: has device %s already", q, w.Port, device)
	}
	return w, nil, nil
}

// index returns the ports of set. The caller has a.mu.
func (a *Agent) index(set *table.Set) *index {
	a.indexed = a.indexed.of(set)
	return a.indexed
}

// Detach takes an attachment away. One that is not there is no error.
func (a *Agent) Detach(ctx context.Context, key AttachmentKey) error {
	if err := key.check(); err != nil {
		return err
	}
	_, end, err := a.attachments.begin(ctx, key, true)
	if err != nil {
		return err
	}
	defer end()
	if w := a.attachments.get(key); w != nil {
		a.log.Info("detached", "pod", w.Pod, "attachment", key, "port", w.Port)
	}
	return a.remove(key)
}

// remove removes the pair and the record of an attachment, as far as they are
// there; the data plane forgets the device later. The caller has key's turn.
func (a *Agent) remove(key AttachmentKey) error {
	l := a.attachments
	w := l.get(key)
	if w != nil {
		a.leave(w)
	}
	err := l.pairs.Remove(key.device())
	if err == nil {
		err = l.drop(key)
	}
	if err != nil && w != nil {
		a.stay(w)
	}
	return err
}

// CheckAttachment says whether an attachment is as the tables in force say.
// Errors: *Refusal, whose message names all that differs.
func (a *Agent) CheckAttachment(ctx context.Context, q *Attachment) error {
	if err := q.check(); err != nil {
		return err
	}
	_, end, err := a.attachments.begin(ctx, q.AttachmentKey, false)
	if err != nil {
		return err
	}
	defer end()
	was := a.attachments.get(q.AttachmentKey)
	if was == nil {
		return refuse(Unknown, "%s: attachment %s: does not exist", q, q.AttachmentKey)
	}
	var differs []string
	note := func(format string, args ...any) { differs = append(differs, fmt.Sprintf(format, args...)) }
	if was.ID != q.ID {
		note("attachment id %s: is %s", q.ID, was.ID)
	}
	if was.NetNS != q.NetNS {
		note("netns %s: is %s", q.NetNS, was.NetNS)
	}
	w, _, err := a.want(&was.Attachment)
	switch {
	case err != nil:
		note("%v", err)
	case w == nil:
		note("attachment id %s: no port of this node has it", was.ID)
	default:
		if !a.isBound(w) {
			note("port %s: device %s: is not bound", w.Port, w.Device)
		}
		found, err := a.attachments.pairs.Differences(w)
		if err != nil {
			return err
		}
		differs = append(differs, found...)
	}
	if len(differs) > 0 {
		return refuse(Differs, "%s: %s", q, strings.Join(differs, "; "))
	}
	return nil
}

// KeepAttachments takes away all attachments of a CNI network but those of
// valid. One that somebody works on stays.
func (a *Agent) KeepAttachments(network string, valid []AttachmentKey) error {
	var errs []error
	for _, w := range a.attachments.list() {
		if w.Network == network && !slices.Contains(valid, w.AttachmentKey) {
			errs = append(errs, a.discard(w))
		}
	}
	return errors.Join(errs...)
}

// discard removes w, unless somebody works on it or has made it anew.
func (a *Agent) discard(w *Attached) error {
	end, ok := a.attachments.try(w.AttachmentKey)
	if !ok {
		return nil
	}
	defer end()
	if a.attachments.get(w.AttachmentKey) != w {
		return nil
	}
	a.log.Info("attachment is over", "pod", w.Pod, "attachment", w.AttachmentKey, "port", w.Port)
	return a.remove(w.AttachmentKey)
}

// Attachments returns what is attached, in order, and whether there are tables,
// without which nothing can be.
func (a *Agent) Attachments() (list []*Attached, ready bool) {
	a.mu.Lock()
	ready = a.tables != nil
	a.mu.Unlock()
	return a.attachments.list(), ready
}
