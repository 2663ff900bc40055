package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"sigs.k8s.io/yaml"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/policyapi"
)

// Tree returns the objects that the filters of query leave, ordered by path:
// type_filter, base_path, owner. Nil: all objects.
func (c *Client) Tree(ctx context.Context, query url.Values) ([]intent.Object, error) {
	var body []byte
	if err := c.Do(ctx, Request{Method: http.MethodGet, Path: "/infra", Query: query}, &body); err != nil {
		return nil, err
	}
	changes, problems := intent.Parse("weftd", body)
	for _, p := range problems {
		if p.Severity == intent.Error {
			return nil, fmt.Errorf("weftd answers what is not valid: %s", p)
		}
	}
	var out []intent.Object
	for _, change := range changes {
		out = append(out, change.Object)
	}
	return out, nil
}

// Page returns the object at path, or all objects of the collection.
func (c *Client) Page(ctx context.Context, path string) ([]intent.Object, error) {
	var out []intent.Object
	query := url.Values{}
	for {
		var body []byte
		if err := c.Do(ctx, Request{Method: http.MethodGet, Path: path, Query: query}, &body); err != nil {
			return nil, err
		}
		var list policyapi.List
		if err := json.Unmarshal(body, &list); err != nil {
			return nil, fmt.Errorf("weftd answers what is no JSON: %w", err)
		}
		if list.Results == nil {
			list.Results = []json.RawMessage{body}
		}
		for _, data := range list.Results {
			o, err := decode(data)
			if err != nil {
				return nil, err
			}
			out = append(out, o)
		}
		if list.Cursor == "" {
			return out, nil
		}
		query.Set("cursor", list.Cursor)
	}
}

// Object returns the object at path; nil: there is none.
func (c *Client) Object(ctx context.Context, path string) (intent.Object, error) {
	var body []byte
	err := c.Do(ctx, Request{Method: http.MethodGet, Path: path}, &body)
	if refusal, ok := errors.AsType[*policyapi.Error](err); ok && refusal.Status == http.StatusNotFound {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return decode(body)
}

func decode(data []byte) (intent.Object, error) {
	var at struct {
		Path string `json:"path"`
	}
	if err := json.Unmarshal(data, &at); err != nil {
		return nil, fmt.Errorf("weftd answers what is no object: %w", err)
	}
	o, problems := intent.DecodeObject(at.Path, data)
	if o == nil {
		return nil, fmt.Errorf("weftd answers what is not valid: %s", problems[0])
	}
	return o, nil
}

// Body returns objects as one hierarchical body, which `weft apply` takes.
// form is json or yaml.
func Body(form string, objects ...intent.Object) ([]byte, error) {
	data, err := intent.Encode(objects...)
	if err == nil && form == "yaml" {
		return yaml.JSONToYAML(data)
	}
	return data, err
}
