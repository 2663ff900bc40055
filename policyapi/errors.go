package policyapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/weft-net/weft/intent"
)

// Error is the body of an answer that is no success. Path, Field, Kind and
// Line are what NSX does not have.
// Source: NSX Policy API, schemas ApiError and RelatedApiError.
type Error struct {
	Status  int     `json:"-"`          // of HTTP
	Name    string  `json:"httpStatus"` // of Status, such as BAD_REQUEST
	Code    int     `json:"error_code"`
	Module  string  `json:"module_name"` // policy
	Message string  `json:"error_message"`
	Related []Error `json:"related_errors,omitempty"` // all problems, if problems are the reason

	Path     string      `json:"path,omitempty"` // policy path
	Field    string      `json:"field,omitempty"`
	Kind     intent.Kind `json:"kind,omitempty"`
	Severity string      `json:"severity,omitempty"` // warning; empty: error
	Line     int         `json:"line,omitempty"`     // in the body, of what is no JSON or YAML
	Fact     string      `json:"fact,omitempty"`     // the message without path and field
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Problem is the inverse of what made a related error.
func (e *Error) Problem() intent.Problem {
	p := intent.Problem{Path: e.Path, Field: e.Field, Kind: e.Kind, Line: e.Line, Msg: e.Fact}
	if e.Severity == "warning" {
		p.Severity = intent.Warning
	}
	return p
}

// The codes of NSX that clients know.
const (
	codeOther      = 400
	codeProperty   = 287    // a JSON property
	codeForeign    = 289    // an object of another principal
	codeNotFound   = 600    // an object
	codeStale      = 500087 // a revision
	codeReferenced = 500030
	codeOverlap    = 500105
	codeDown       = 98 // what is behind the API
)

var codes = map[intent.Kind]int{
	intent.BadSyntax: codeProperty, intent.BadType: codeProperty, intent.UnknownField: codeProperty,
	intent.Referenced: codeReferenced, intent.Overlap: codeOverlap,
}

// related returns one problem as an error.
func related(p intent.Problem) Error {
	e := Error{
		Status: http.StatusBadRequest, Code: codeOther, Message: p.String(),
		Path: p.Path, Field: p.Field, Kind: p.Kind, Line: p.Line, Fact: p.Msg,
	}
	if code, ok := codes[p.Kind]; ok {
		e.Code = code
	}
	switch {
	case p.Kind == intent.Conflict && p.Field == "_revision":
		e.Status, e.Code = http.StatusPreconditionFailed, codeStale
	case p.Kind == intent.Protected && strings.HasPrefix(p.Msg, "belongs to "):
		e.Status, e.Code = http.StatusForbidden, codeForeign
	}
	if p.Severity == intent.Warning {
		e.Severity = "warning"
	}
	e.Name, e.Module = nameOf(e.Status), "policy"
	return e
}

// refused returns the error that problems are. Its status is that of the worst:
// a body that is wrong before a revision that is old, as reading again does
// not help it.
func refused(problems []intent.Problem) *Error {
	var e *Error
	more := 0
	all := make([]Error, 0, len(problems))
	for _, p := range problems {
		one := related(p)
		all = append(all, one)
		if p.Severity != intent.Error {
			continue
		}
		if more++; e == nil || one.Status < e.Status {
			e = &one
		}
	}
	if more > 1 {
		e.Message += " (and " + strconv.Itoa(more-1) + " more)"
	}
	e.Related = all
	return e
}

// notFound is that there is nothing.
func notFound(path, fact string) *Error {
	return &Error{Status: http.StatusNotFound, Code: codeNotFound, Message: path + ": " + fact, Path: path}
}

// nameOf returns a status as NSX spells it: PRECONDITION_FAILED.
func nameOf(status int) string {
	return strings.ToUpper(strings.ReplaceAll(http.StatusText(status), " ", "_"))
}

// fail answers with an error.
func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		if r.Context().Err() != nil {
			return // nobody listens
		}
		h.log.Warn("policyapi: cannot answer", "method", r.Method, "path", r.URL.Path, "err", err)
		e = &Error{Status: http.StatusServiceUnavailable, Code: codeDown, Message: err.Error()}
	}
	e.Name, e.Module = nameOf(e.Status), "policy"
	h.answer(w, e.Status, e)
}

// answer writes a body in JSON.
func (h *handler) answer(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		h.log.Error("policyapi: cannot encode", "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(data, '\n')) // a client that is gone needs no answer
}
