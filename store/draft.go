package store

import (
	"bytes"
	"reflect"
	"strconv"

	"github.com/weft-net/weft/intent"
)

// draft brings changes into the form that the KV has, in which a change that
// changes nothing is recognized.
type draft struct {
	tree     *intent.Tree
	values   map[string][]byte // what the KV shall have, by path
	problems []intent.Problem
}

// prepare returns changes of the store's own: their objects are as they will
// be read again, with the `_revision` that is stored now.
func (d *draft) prepare(changes []intent.Change) []intent.Change {
	out := make([]intent.Change, 0, len(changes))
	for _, c := range changes {
		if c.Object != nil && c.Object.Meta().Path == c.Path {
			c.Object = d.object(c.Object)
		}
		out = append(out, c)
	}
	return out
}

// object returns o as it will be read again, what is stored already if that is
// the same, and o itself if it has problems.
func (d *draft) object(o intent.Object) intent.Object {
	path, given := o.Meta().Path, o.Meta().Revision
	there := d.tree.Get(path)
	var stored *int64
	if there != nil {
		stored = there.Meta().Revision
	}
	if given != nil && *given != revision(stored) {
		d.conflict(path, *given, stored, there != nil)
	}
	o = intent.Clone(o)
	o.Meta().Revision = stored
	if reflect.DeepEqual(o, there) {
		return there
	}
	value, err := encode(o)
	if err != nil {
		d.problems = append(d.problems, intent.Problem{Path: path, Kind: intent.BadValue, Msg: err.Error()})
		return o
	}
	if there != nil {
		if now, err := encode(there); err == nil && bytes.Equal(now, value) {
			return there
		}
	}
	read, problems := intent.DecodeObject(path, value)
	for _, p := range problems {
		if p.Severity == intent.Error {
			d.problems = append(d.problems, p)
		}
	}
	if read == nil {
		return o
	}
	read.Meta().Revision = stored
	d.values[path] = value
	return read
}

// conflict reports that a change was made from another object than the stored.
func (d *draft) conflict(path string, given int64, stored *int64, exists bool) {
	msg := strconv.FormatInt(given, 10) + ": is not the stored one (" + strconv.FormatInt(revision(stored), 10) + "; read the object again)"
	if !exists {
		msg = strconv.FormatInt(given, 10) + ": the object does not exist (leave it out to create one)"
	}
	d.problems = append(d.problems, intent.Problem{Path: path, Field: "_revision", Kind: intent.Conflict, Msg: msg})
}

// revision returns the number of a `_revision`; what was never stored has 0.
func revision(r *int64) int64 {
	if r == nil {
		return 0
	}
	return *r
}

// writes returns what makes the changes in the KV.
func (d *draft) writes(changes []intent.Change) ([]Write, error) {
	var out []Write
	for _, c := range changes {
		w := Write{Path: c.Path}
		if c.Object != nil {
			w.Value = d.values[c.Path]
		}
		if c.Object != nil && w.Value == nil {
			value, err := encode(c.Object)
			if err != nil {
				return nil, err
			}
			w.Value = value
		}
		out = append(out, w)
	}
	return out, nil
}

// encode returns an object's value in the KV: all but the `_revision`, which
// the KV knows by itself.
func encode(o intent.Object) ([]byte, error) {
	if o.Meta().Revision != nil {
		o = intent.Clone(o)
		o.Meta().Revision = nil
	}
	return intent.EncodeObject(o)
}

// decode is the inverse of encode.
func decode(path string, value []byte, v Version) (intent.Object, error) {
	o, problems := intent.DecodeObject(path, value)
	for _, p := range problems {
		if p.Severity == intent.Error {
			return nil, &invalid{[]intent.Problem{p}}
		}
	}
	n := int64(v)
	o.Meta().Revision = &n
	return o, nil
}
