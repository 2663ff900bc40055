package compile

import "testing"

// A text has the same topic in either form, and others for other kinds and for
// texts that differ anywhere.
func TestTopics(t *testing.T) {
	seen := map[topic]string{}
	base := "SegmentPort tag ncp/pod|web-0"
	for i := range len(base) + 1 {
		for _, text := range []string{base[:i], base[:i] + "x", base[:i] + "\x00"} {
			if topicOf(relTerm, text) != topicOf(relTerm, []byte(text)) {
				t.Errorf("%q: has two topics", text)
			}
			if topicOf(relTerm, text) == topicOf(relUsed, text) {
				t.Errorf("%q: has one topic for two kinds", text)
			}
			if other, ok := seen[topicOf(relTerm, text)]; ok && other != text {
				t.Errorf("%q: has the topic of %q", text, other)
			}
			seen[topicOf(relTerm, text)] = text
		}
	}
}

// Who is told of a relation with the topic of another one is not told that it
// is the other.
func TestSharedTopic(t *testing.T) {
	var w watches
	a := newFact(ref{relUsed, "a", ""})
	w.appear(a)
	at := kindTopic{relUsed, topicOf(relUsed, "a")}
	b := newFact(ref{relUsed, "b", ""})
	w.present[at] = append(w.present[at], b) // as if its topic were that of a
	x := &run{g: &graph{watches: w}, f: newFact(ref{factProfileKey, "s", "10.0.0.1"})}
	if got := x.rel(relUsed, "a"); got != a {
		t.Errorf("a: got %+v", got)
	}
	if got := x.rel(relUsed, "b"); got != nil {
		t.Errorf("b, which has another topic: got %+v", got)
	}
	x.g.watches.vanish(a)
	if got := x.rel(relUsed, "a"); got != nil {
		t.Errorf("a has no members: got %+v", got)
	}
}
