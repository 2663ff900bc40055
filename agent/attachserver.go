package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// maxAttachment bounds requests about attachments, in bytes: a node may have
// thousands.
const maxAttachment = 16 << 20

// statuses are those of refusals.
func (w Why) status() int {
	switch w {
	case Malformed:
		return http.StatusBadRequest
	case Unknown:
		return http.StatusNotFound
	case PortTaken, InterfaceTaken, Differs:
		return http.StatusConflict
	case PortIncomplete, NoNamespace:
		return http.StatusUnprocessableEntity
	case NoTables, PortMissing, Interrupted:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// attachRequest is the body of a request for an attachment.
type attachRequest struct {
	Attachment
	Wait time.Duration `json:"wait"` // for the port; 0: DefaultAttachTime
}

// keepRequest is the body of a request to take away what is not valid.
type keepRequest struct {
	Network string          `json:"network"`
	Valid   []AttachmentKey `json:"valid"`
}

// attachmentsDocument is the answer to what is attached.
type attachmentsDocument struct {
	Ready       bool        `json:"ready"`
	Attachments []*Attached `json:"attachments"`
}

// handleAttachments answers requests about a's attachments.
func handleAttachments(mux *http.ServeMux, a *Agent) {
	const one = attachmentsPath + "/{container}/{interface}"
	mux.HandleFunc("GET "+attachmentsPath, func(w http.ResponseWriter, _ *http.Request) {
		list, ready := a.Attachments()
		answer(w, attachmentsDocument{ready, list})
	})
	mux.HandleFunc("PUT "+attachmentsPath, func(w http.ResponseWriter, r *http.Request) {
		keep := &keepRequest{}
		if err := decode(w, r, keep); err != nil {
			answerRefusal(w, err)
			return
		}
		answerRefusal(w, a.KeepAttachments(keep.Network, keep.Valid))
	})
	mux.HandleFunc("PUT "+one, func(w http.ResponseWriter, r *http.Request) {
		q := &attachRequest{}
		if err := decode(w, r, q); err != nil {
			answerRefusal(w, err)
			return
		}
		q.AttachmentKey = keyOf(r)
		made, err := a.Attach(r.Context(), &q.Attachment, cmp.Or(q.Wait, DefaultAttachTime))
		if err != nil {
			answerRefusal(w, err)
			return
		}
		answer(w, made)
	})
	mux.HandleFunc("POST "+one+"/check", func(w http.ResponseWriter, r *http.Request) {
		q := &Attachment{}
		if err := decode(w, r, q); err != nil {
			answerRefusal(w, err)
			return
		}
		q.AttachmentKey = keyOf(r)
		answerRefusal(w, a.CheckAttachment(r.Context(), q))
	})
	mux.HandleFunc("DELETE "+one, func(w http.ResponseWriter, r *http.Request) {
		answerRefusal(w, a.Detach(r.Context(), keyOf(r)))
	})
}

func keyOf(r *http.Request) AttachmentKey {
	return AttachmentKey{r.PathValue("container"), r.PathValue("interface")}
}

// decode reads the body of r.
func decode(w http.ResponseWriter, r *http.Request, to any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAttachment))
	if err == nil {
		err = json.Unmarshal(body, to)
	}
	if err != nil {
		return refuse(Malformed, "request: %v", err)
	}
	return nil
}

// answerRefusal answers with err, or without content if there is none.
func answerRefusal(w http.ResponseWriter, err error) {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		refusal = refuse(Failed, "%v", err)
	}
	body, _ := json.Marshal(refusal) // two strings
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(refusal.Why.status())
	w.Write(append(body, '\n'))
}

// Attach gives a pod the interface of its port and returns when it can send.
// The agent waits for the port as long as wait says, 0: DefaultAttachTime. The
// same again gives the same answer, and mends what is not as it shall be.
// Errors: *Refusal; then what was not there before is not there now.
func (c *Client) Attach(ctx context.Context, q *Attachment, wait time.Duration) (*Attached, error) {
	w := &Attached{}
	return w, c.about(ctx, http.MethodPut, q.path(), attachRequest{*q, wait}, w)
}

// Detach takes an attachment away. One that is not there is no error.
func (c *Client) Detach(ctx context.Context, key AttachmentKey) error {
	return c.about(ctx, http.MethodDelete, key.path(), nil, nil)
}

// CheckAttachment says whether an attachment is as the tables in force say.
// Errors: *Refusal, whose message names all that differs.
func (c *Client) CheckAttachment(ctx context.Context, q *Attachment) error {
	return c.about(ctx, http.MethodPost, q.path()+"/check", q, nil)
}

// KeepAttachments takes away all attachments of a CNI network but those of
// valid.
func (c *Client) KeepAttachments(ctx context.Context, network string, valid []AttachmentKey) error {
	return c.about(ctx, http.MethodPut, attachmentsPath, keepRequest{network, valid}, nil)
}

// Attachments returns what is attached, and whether the agent has tables,
// without which nothing can be.
func (c *Client) Attachments(ctx context.Context) (list []*Attached, ready bool, err error) {
	var d attachmentsDocument
	err = c.about(ctx, http.MethodGet, attachmentsPath, nil, &d)
	return d.Attachments, d.Ready, err
}

func (k AttachmentKey) path() string {
	return fmt.Sprintf("%s/%s/%s", attachmentsPath, url.PathEscape(k.Container), url.PathEscape(k.Interface))
}

// about sends v as JSON, unless it is nil.
func (c *Client) about(ctx context.Context, method, path string, v, to any) error {
	var body []byte
	if v != nil {
		var err error
		if body, err = json.Marshal(v); err != nil {
			return err
		}
	}
	return c.do(ctx, method, path, body, to)
}
