// Package policyapi serves a store by the subset of the NSX Policy API that
// keeping intent takes: the hierarchical body, single objects with revisions,
// and lists.
package policyapi

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/store"
)

// Base is the path of the API; a policy path follows.
const Base = "/policy/api/v1"

// MaxBody is how many bytes a request may have.
const MaxBody = 64 << 20

// Overwrite is the header that, with the value true, changes objects which
// belong to a controller. The controller may change them back.
// Source: NSX Policy API, X-Allow-Overwrite.
const Overwrite = "X-Allow-Overwrite"

// handler serves one store.
type handler struct {
	store *store.Store
	log   *slog.Logger
}

// New returns the handler of s; a nil log is silent. Who may call it is for
// the caller to decide.
//
//	PATCH  Base/infra             a hierarchical body in JSON or YAML, all or nothing
//	GET    Base/infra             the same of everything; ?type_filter=Group,Segment ?base_path=/infra/tier-1s/red,
//	                              ?owner=Pod/shop/web/<uid>: what that store.Owner has, empty: what people have
//	DELETE Base/infra?path=…&…    all these and what is below them, all or nothing; ?ignore_missing=true
//	GET    Base/<path>            an object
//	PUT    Base/<path>            makes it, or replaces it if `_revision` is the stored one
//	PATCH  Base/<path>            makes it, or changes the fields of the body
//	DELETE Base/<path>            deletes it and what is below it
//	GET    Base/<collection>      {results, result_count, cursor}; ?page_size=1000 ?cursor=…
//
// PATCH looks at a `_revision` iff ?enforce_revision_check=true. PATCH and
// DELETE answer with nothing, or with a Report if the request has the header
// Prefer: return=representation. Errors are those of NSX: see Error.
// Source: NSX Policy API, "Hierarchical API", schema ListResult.
func New(s *store.Store, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &handler{s, log}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, ok := strings.CutPrefix(r.URL.Path, Base)
	path = strings.TrimSuffix(path, "/")
	if !ok || path != "/infra" && !strings.HasPrefix(path, "/infra/") {
		h.fail(w, r, notFound(r.URL.Path, "is not served here ("+Base+"/infra is)"))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
	if err := h.serve(w, r, path); err != nil {
		h.fail(w, r, err)
	}
}

// serve answers a request unless it returns an error.
func (h *handler) serve(w http.ResponseWriter, r *http.Request, path string) error {
	whole := path == "/infra"
	switch {
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && whole:
		return h.tree(w, r)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return h.get(w, r, path)
	case r.Method == http.MethodPatch && whole:
		return h.patchTree(w, r)
	case r.Method == http.MethodPatch:
		return h.patch(w, r, path)
	case r.Method == http.MethodPut && !whole:
		return h.put(w, r, path)
	case r.Method == http.MethodDelete && whole:
		return h.delete(w, r, r.URL.Query()["path"])
	case r.Method == http.MethodDelete:
		return h.delete(w, r, []string{path})
	}
	allowed := "GET, PUT, PATCH, DELETE"
	if whole {
		allowed = "GET, PATCH, DELETE"
	}
	w.Header().Set("Allow", allowed)
	return &Error{Status: http.StatusMethodNotAllowed, Code: 400, Message: path + ": " + r.Method + ": is not a method of it (" + allowed + ")"}
}

// body reads a request.
func body(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &Error{Status: http.StatusRequestEntityTooLarge, Code: 400, Message: "body: has more than " + strconv.Itoa(MaxBody) + " bytes (send it in parts)"}
	}
	if err != nil {
		return nil, &Error{Status: http.StatusBadRequest, Code: 400, Message: "body: " + err.Error()}
	}
	return data, nil
}

// flag returns a query parameter that is true or false.
func flag(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, &Error{Status: http.StatusBadRequest, Code: 400, Message: fmt.Sprintf("%s: %q: is not a truth value (true, false)", name, text)}
	}
	return v, nil
}

// guard refuses to change what a controller made, unless the request insists.
func guard(r *http.Request) (store.Guard, error) {
	text := r.Header.Get(Overwrite)
	insists, err := strconv.ParseBool(text)
	if text != "" && err != nil {
		return nil, &Error{Status: http.StatusBadRequest, Code: 400, Message: fmt.Sprintf("%s: %q: is not a truth value (true, false)", Overwrite, text)}
	}
	if insists {
		return nil, nil
	}
	return func(before, _ intent.Object) []intent.Problem {
		if before == nil || store.OwnerOf(before) == "" {
			return nil
		}
		return []intent.Problem{{
			Path: before.Meta().Path, Kind: intent.Protected,
			Msg: "belongs to " + store.OwnerOf(before).String() + " (change that, or insist by " + Overwrite + ": true)",
		}}
	}, nil
}

// keepOwners gives the objects of changes the owners that they have.
func keepOwners(t *intent.Tree, changes []intent.Change) {
	for _, c := range changes {
		if c.Object == nil {
			continue
		}
		var owner store.Owner
		if there := t.Get(c.Path); there != nil {
			owner = store.OwnerOf(there)
		}
		if owner != store.OwnerOf(c.Object) {
			store.SetOwner(c.Object, owner)
		}
	}
}
