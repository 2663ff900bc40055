package policyapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// List is a page of objects.
// Source: NSX Policy API, schema ListResult.
type List struct {
	Results []json.RawMessage `json:"results"`
	Count   int               `json:"result_count"` // of all pages
	Cursor  string            `json:"cursor,omitempty"`
	SortBy  string            `json:"sort_by"`
	Rising  bool              `json:"sort_ascending"`
}

// maxPage is how many objects a page has at most and by default.
// Source: NSX Policy API, page_size.
const maxPage = 1000

// tree answers with a hierarchical body of everything, or of what the filters
// leave.
func (h *handler) tree(w http.ResponseWriter, r *http.Request) error {
	types, err := typeFilter(r.URL.Query().Get("type_filter"))
	if err != nil {
		return err
	}
	base := strings.TrimSuffix(r.URL.Query().Get("base_path"), "/")
	if base != "" && base != "/infra" && !strings.HasPrefix(base, "/infra/") {
		return &Error{Status: http.StatusBadRequest, Code: codeOther, Message: fmt.Sprintf("base_path: %q: is not a policy path (such as /infra/tier-1s/red)", base)}
	}
	var objects []intent.Object
	if owner := r.URL.Query()["owner"]; owner != nil {
		objects = h.store.Owned(store.Owner(owner[0]))
	} else {
		h.store.Read(func(t *intent.Tree, _ store.Version) { objects = t.All() })
	}
	within := slices.DeleteFunc(objects, func(o intent.Object) bool {
		path := o.Meta().Path
		below := base == "" || base == "/infra" || path == base || strings.HasPrefix(path, base+"/")
		return !below || types != nil && !types[o.Meta().ResourceType]
	})
	h.store.Read(func(t *intent.Tree, _ store.Version) { within = withParents(within, t) })
	data, err := intent.Encode(within...)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(data, '\n')) // a client that is gone needs no answer
	return nil
}

// withParents adds the parents of objects that only have a type of which
// nothing is known, as the body cannot merely refer to them.
func withParents(objects []intent.Object, t *intent.Tree) []intent.Object {
	there := map[string]bool{}
	for _, o := range objects {
		there[o.Meta().Path] = true
	}
	out := slices.Clone(objects)
	for _, o := range objects {
		for p := t.Get(o.Meta().ParentPath); p != nil && !there[p.Meta().Path]; p = t.Get(p.Meta().ParentPath) {
			if _, opaque := p.(*intent.Opaque); opaque {
				there[p.Meta().Path] = true
				out = append(out, p)
			}
		}
	}
	return out
}

// typeFilter parses a list of resource types, separated by comma, semicolon or
// bar; nil: all. People may write tier-1s for Tier1.
func typeFilter(text string) (map[string]bool, error) {
	if text == "" {
		return nil, nil
	}
	types := map[string]bool{}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == '|' }) {
		found := false
		for _, name := range intent.ResourceTypes() {
			if spelled(name) == spelled(word) || spelled(name)+"s" == spelled(word) || strings.TrimSuffix(spelled(name), "y")+"ies" == spelled(word) {
				types[name], found = true, true
			}
		}
		if !found {
			return nil, &Error{Status: http.StatusBadRequest, Code: codeOther, Message: fmt.Sprintf("type_filter: %s: is not a type (%s)", word, strings.Join(intent.ResourceTypes(), ", "))}
		}
	}
	return types, nil
}

// spelled returns a type's name without what people spell differently.
func spelled(name string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(strings.TrimSpace(name)))
}

// get answers with an object or the list of a collection.
func (h *handler) get(w http.ResponseWriter, r *http.Request, path string) error {
	var o intent.Object
	var below []intent.Object
	collection := false
	h.store.Read(func(t *intent.Tree, _ store.Version) {
		if o = t.Get(path); o != nil {
			return
		}
		parent := intent.ParentOf(path + "/x")
		collection = intent.IsCollection(path) && (parent == "" || t.Get(parent) != nil)
		for _, c := range t.Children(parent, "") {
			if strings.HasPrefix(c.Meta().Path, path+"/") {
				below, collection = append(below, c), true
			}
		}
	})
	switch {
	case o != nil:
		data, err := intent.EncodeObject(o)
		if err != nil {
			return err
		}
		h.answer(w, http.StatusOK, json.RawMessage(data))
		return nil
	case collection:
		return h.list(w, r, below)
	}
	return notFound(path, "does not exist")
}

// list answers with a page of objects, which are ordered by path.
func (h *handler) list(w http.ResponseWriter, r *http.Request, objects []intent.Object) error {
	size := maxPage
	if text := r.URL.Query().Get("page_size"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return &Error{Status: http.StatusBadRequest, Code: codeOther, Message: fmt.Sprintf("page_size: %s: is not a size (1 to %d)", text, maxPage)}
		}
		size = n
	}
	l := List{Results: []json.RawMessage{}, Count: len(objects), SortBy: "path", Rising: true}
	if cursor := r.URL.Query().Get("cursor"); cursor != "" {
		from, _ := slices.BinarySearchFunc(objects, cursor, func(o intent.Object, c string) int { return strings.Compare(o.Meta().ID, c) })
		objects = objects[from:]
	}
	if len(objects) > size {
		l.Cursor = objects[size].Meta().ID // where the next page begins
		objects = objects[:size]
	}
	for _, o := range objects {
		data, err := intent.EncodeObject(o)
		if err != nil {
			return err
		}
		l.Results = append(l.Results, data)
	}
	h.answer(w, http.StatusOK, l)
	return nil
}
