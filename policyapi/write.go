package policyapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// Report says what a request did, in policy paths.
type Report struct {
	Version    store.Version `json:"version"` // of the store, from which on it holds
	Created    []string      `json:"created,omitempty"`
	Configured []string      `json:"configured,omitempty"`
	Unchanged  []string      `json:"unchanged,omitempty"`
	Deleted    []string      `json:"deleted,omitempty"`
	Warnings   []Error       `json:"warnings,omitempty"`
}

// change is one request that changes something.
type change struct {
	*handler
	w     http.ResponseWriter
	r     *http.Request
	asked []string // paths that were given
}

// make commits what fn returns.
func (c *change) make(fn func(t *intent.Tree) ([]intent.Change, error)) (store.Commit, []intent.Problem, error) {
	g, err := guard(c.r)
	if err != nil {
		return store.Commit{}, nil, err
	}
	commit, problems, err := c.store.Change(c.r.Context(), g, func(t *intent.Tree) ([]intent.Change, error) {
		changes, err := fn(t)
		c.asked = c.asked[:0]
		for _, change := range changes {
			if change.Object != nil {
				c.asked = append(c.asked, change.Path)
			}
		}
		keepOwners(t, changes)
		return changes, err
	})
	if err == nil && intent.HasErrors(problems) {
		err = refused(problems)
	}
	return commit, problems, err
}

// report answers with what was done, if the request wants to know.
func (c *change) report(commit store.Commit, problems []intent.Problem) {
	if !strings.Contains(c.r.Header.Get("Prefer"), "return=representation") {
		c.w.WriteHeader(http.StatusOK)
		return
	}
	out := Report{Version: commit.Version, Created: commit.Created, Configured: commit.Configured, Deleted: commit.Deleted}
	changed := map[string]bool{}
	for _, path := range slices.Concat(commit.Created, commit.Configured) {
		changed[path] = true
	}
	slices.Sort(c.asked)
	for _, path := range slices.Compact(c.asked) {
		if !changed[path] {
			out.Unchanged = append(out.Unchanged, path)
		}
	}
	for _, p := range problems {
		out.Warnings = append(out.Warnings, related(p))
	}
	c.answer(c.w, http.StatusOK, out)
}

// patchTree applies a hierarchical body.
func (h *handler) patchTree(w http.ResponseWriter, r *http.Request) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	strict, err := flag(r, "enforce_revision_check")
	if err != nil {
		return err
	}
	changes, parsed := intent.Parse("", data)
	if !strict {
		ignoreRevisions(changes)
	}
	if intent.HasErrors(parsed) {
		return h.refuse(r, changes, parsed)
	}
	c := &change{handler: h, w: w, r: r}
	commit, problems, err := c.make(func(*intent.Tree) ([]intent.Change, error) { return copied(changes), nil })
	if err != nil {
		return err
	}
	c.report(commit, slices.Concat(parsed, problems))
	return nil
}

// refuse returns all problems of changes that were not all understood. What
// refers to one that was not dangles through no fault of its own.
func (h *handler) refuse(r *http.Request, changes []intent.Change, parsed []intent.Problem) error {
	nothing := func(before, after intent.Object) []intent.Problem { return []intent.Problem{{}} }
	_, problems, err := h.store.Change(r.Context(), nothing, func(*intent.Tree) ([]intent.Change, error) { return copied(changes), nil })
	if err != nil {
		return err
	}
	for _, p := range problems {
		if p.Msg != "" && p.Kind != intent.Dangling {
			parsed = append(parsed, p)
		}
	}
	return refused(parsed)
}

// copied returns changes that can be made again if another commit comes first.
func copied(changes []intent.Change) []intent.Change {
	out := slices.Clone(changes)
	for i := range out {
		if out[i].Object != nil {
			out[i].Object = intent.Clone(out[i].Object)
		}
	}
	return out
}

func ignoreRevisions(changes []intent.Change) {
	for _, c := range changes {
		if c.Object != nil {
			c.Object.Meta().Revision = nil
		}
	}
}

// put makes or replaces an object and answers with it.
func (h *handler) put(w http.ResponseWriter, r *http.Request, path string) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	changes, parsed := intent.ParseObject("", path, data)
	if intent.HasErrors(parsed) {
		return refused(parsed)
	}
	c := &change{handler: h, w: w, r: r}
	var before intent.Object
	_, _, err = c.make(func(t *intent.Tree) ([]intent.Change, error) {
		before = t.Get(path)
		if before != nil && before.Meta().Revision != nil && changes[0].Object != nil && changes[0].Object.Meta().Revision == nil {
			return nil, refused([]intent.Problem{{
				Path: path, Field: "_revision", Kind: intent.Conflict,
				Msg: "is missing (" + strconv.FormatInt(*before.Meta().Revision, 10) + " is stored; read the object, or use PATCH)",
			}})
		}
		return copied(changes), nil
	})
	if err != nil {
		return err
	}
	if changes[0].Object == nil { // marked_for_delete
		w.WriteHeader(http.StatusOK)
		return nil
	}
	return h.get(w, r, path)
}

// patch makes an object or changes those fields that the body has.
func (h *handler) patch(w http.ResponseWriter, r *http.Request, path string) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	strict, err := flag(r, "enforce_revision_check")
	if err != nil {
		return err
	}
	given, problem := fieldsOf(path, data)
	if problem != nil {
		return refused([]intent.Problem{*problem})
	}
	c := &change{handler: h, w: w, r: r}
	var parsed []intent.Problem
	commit, problems, err := c.make(func(t *intent.Tree) ([]intent.Change, error) {
		merged, err := merge(t.Get(path), given, strict)
		if err != nil {
			return nil, err
		}
		var changes []intent.Change
		if changes, parsed = intent.ParseObject("", path, merged); intent.HasErrors(parsed) {
			return nil, refused(parsed)
		}
		if !strict {
			ignoreRevisions(changes)
		}
		return changes, nil
	})
	if err != nil {
		return err
	}
	c.report(commit, slices.Concat(parsed, problems))
	return nil
}

// fieldsOf returns the fields of a body.
func fieldsOf(path string, data []byte) (map[string]any, *intent.Problem) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var given map[string]any
	if err := d.Decode(&given); err != nil {
		return nil, &intent.Problem{Path: path, Kind: intent.BadSyntax, Msg: "is not JSON: " + err.Error()}
	}
	return given, nil
}

// merge returns the body of an object that has given fields besides those that
// it has already.
func merge(there intent.Object, given map[string]any, strict bool) ([]byte, error) {
	fields := map[string]any{}
	if there != nil {
		data, err := intent.EncodeObject(there)
		if err != nil {
			return nil, err
		}
		now, problem := fieldsOf("", data)
		if problem != nil {
			return nil, refused([]intent.Problem{*problem})
		}
		fields = now
		delete(fields, "_revision")
	}
	maps.Copy(fields, given)
	if !strict {
		delete(fields, "_revision")
	}
	return json.Marshal(fields)
}

// delete deletes the objects at paths and all below them.
func (h *handler) delete(w http.ResponseWriter, r *http.Request, paths []string) error {
	if len(paths) == 0 {
		return &Error{Status: http.StatusBadRequest, Code: codeOther, Message: "path: is missing (such as ?path=/infra/tier-1s/red)"}
	}
	lenient, err := flag(r, "ignore_missing")
	if err != nil {
		return err
	}
	c := &change{handler: h, w: w, r: r}
	commit, problems, err := c.make(func(t *intent.Tree) ([]intent.Change, error) {
		var changes []intent.Change
		var missing []string
		for _, path := range paths {
			if t.Get(path) == nil {
				missing = append(missing, path)
			}
			changes = append(changes, intent.Delete(path))
		}
		if len(missing) > 0 && !lenient {
			return nil, notFound(strings.Join(missing, ", "), "does not exist")
		}
		return changes, nil
	})
	if err != nil {
		return err
	}
	c.report(commit, problems)
	return nil
}
