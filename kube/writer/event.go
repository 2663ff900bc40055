package writer

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// maxNote is how long the note of an Event is at most. Source: events.k8s.io/v1.
const maxNote = 1024

// Tell records an Event about o iff the outcome is news: not what the Event
// before said, and not the first that is heard of an object that is well.
func (w *Writer) Tell(o client.Object, out Outcome) {
	kind := corev1.EventTypeNormal
	switch {
	case out.blocked || out.State == Refused:
		kind = corev1.EventTypeWarning
	case out.State == Pending:
		w.note(o.GetUID(), out.Reason)
		return
	}
	said, first := w.note(o.GetUID(), out.Reason+"\x00"+out.Message)
	if said || first && out.OK() {
		return
	}
	message := out.Message
	if message == "" {
		message = "every node has it in force"
	}
	w.event(o, kind, out.Reason, message)
}

// Event records an Event about o unless it is what the one before said.
func (w *Writer) Event(o client.Object, kind, reason, message string) {
	if said, _ := w.note(o.GetUID(), reason+"\x00"+message); !said {
		w.event(o, kind, reason, message)
	}
}

func (w *Writer) event(o client.Object, kind, reason, message string) {
	if w.recorder != nil {
		w.recorder.Eventf(o, nil, kind, reason, "Network", "%s", shorten(message, maxNote))
	}
}

// note keeps what is said of an object; whether that is what was said before,
// and whether nothing was.
func (w *Writer) note(uid types.UID, text string) (said, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before, ok := w.told[uid]
	w.told[uid] = text
	return ok && before == text, !ok
}

// Forget drops what is known of an object that is gone.
func (w *Writer) Forget(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.told, uid)
}
