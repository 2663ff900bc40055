package client

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/policyapi"
	"github.com/weft-net/weft/store"
)

// serve returns a client of a weftd that has two gateways.
func serve(t *testing.T) *Client {
	t.Helper()
	s, err := store.New(t.Context(), store.NewMemory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	_, problems, err := s.Update(t.Context(), func(*intent.Tree) ([]intent.Change, error) {
		return []intent.Change{intent.Put("/infra/tier-1s/red", &intent.Tier1{}), intent.Put("/infra/tier-1s/blue", &intent.Tier1{})}, nil
	})
	if err != nil || intent.HasErrors(problems) {
		t.Fatal(err, problems)
	}
	dir, err := os.MkdirTemp("", "weftd") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	served := &http.Server{Handler: policyapi.New(s, nil)}
	go served.Serve(l)
	t.Cleanup(func() { served.Close() })
	c, err := New(Options{Server: "unix:" + l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func paths(objects []intent.Object) string {
	var out []string
	for _, o := range objects {
		out = append(out, o.Meta().Path)
	}
	return strings.Join(out, " ")
}

func TestRead(t *testing.T) {
	c, ctx := serve(t), t.Context()
	tree, err := c.Tree(ctx, url.Values{"type_filter": {"Tier1"}})
	if d := cmp.Diff("/infra/tier-1s/blue /infra/tier-1s/red", paths(tree)); err != nil || d != "" {
		t.Errorf("tree: %v: %s", err, d)
	}
	list, err := c.Page(ctx, "/infra/tier-1s")
	if d := cmp.Diff(tree, list); err != nil || d != "" {
		t.Errorf("collection: %v: %s", err, d)
	}
	one, err := c.Page(ctx, "/infra/tier-1s/red")
	if d := cmp.Diff(tree[1:], one); err != nil || d != "" {
		t.Errorf("object: %v: %s", err, d)
	}
	red, err := c.Object(ctx, "/infra/tier-1s/red")
	if d := cmp.Diff(tree[1], red); err != nil || d != "" {
		t.Errorf("object: %v: %s", err, d)
	}
	if o, err := c.Object(ctx, "/infra/tier-1s/green"); o != nil || err != nil {
		t.Errorf("no object: %v, %v", o, err)
	}
	_, err = c.Page(ctx, "/infra/tier-1s/green")
	if e, ok := errors.AsType[*policyapi.Error](err); !ok || e.Status != http.StatusNotFound {
		t.Errorf("no object: %v", err)
	}
	for _, form := range []string{"json", "yaml"} {
		body, err := Body(form, one...)
		changes, problems := intent.Parse("body", body)
		if err != nil || intent.HasErrors(problems) || len(changes) != 1 || changes[0].Path != "/infra/tier-1s/red" || (body[0] == '{') != (form == "json") {
			t.Errorf("%s: %v: %s", form, err, body)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		o    Options
		want string
	}{
		{Options{}, ""},
		{Options{Server: "https://weft.example:9443"}, ""},
		{Options{Server: "http://weft.example"}, `--server: "http://weft.example": is not a server (unix:PATH, https://HOST:PORT)`},
		{Options{Server: "https://weft.example/path"}, `--server: "https://weft.example/path": is not a server (unix:PATH, https://HOST:PORT)`},
		{Options{CA: "ca.crt"}, "--ca, --cert, --key: are for https only (--server is unix:/run/weft/weftd.sock)"},
		{Options{Server: "https://weft.example", Key: "k"}, "--cert, --key: one is missing (both or none)"},
	} {
		_, err := New(tc.o)
		_, isOption := errors.AsType[*OptionError](err)
		if (err == nil) != (tc.want == "") || err != nil && (!isOption || err.Error() != tc.want) {
			t.Errorf("%+v: %v, want %q", tc.o, err, tc.want)
		}
	}
}
