package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/weft-net/weft/control"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/columns"
	"github.com/weft-net/weft/store"
	"github.com/weft-net/weft/table"
)

// status is the answer to GET /v1/status.
type status struct {
	Version  store.Version  `json:"version"`  // of the store
	Compiled store.Version  `json:"compiled"` // the latest that was
	Objects  int            `json:"objects"`
	Nodes    []control.Node `json:"nodes"`
	Problems []string       `json:"problems"` // that the compiler has with the intent
}

func (d *daemon) serveStatus(w http.ResponseWriter, _ *http.Request) {
	s := status{Compiled: d.control.Version(), Nodes: d.control.Nodes(), Problems: []string{}}
	d.store.Read(func(t *intent.Tree, v store.Version) { s.Version, s.Objects = v, t.Len() })
	for _, p := range d.control.Problems() {
		s.Problems = append(s.Problems, p.String())
	}
	data, err := json.MarshalIndent(s, "", "  ")
	answer(w, "application/json", append(data, '\n'), err)
}

func (d *daemon) serveTables(w http.ResponseWriter, r *http.Request) {
	if set := d.set(w, r); set != nil {
		data, err := table.Encode(set)
		answer(w, "application/json", append(data, '\n'), err)
	}
}

func (d *daemon) serveText(w http.ResponseWriter, r *http.Request) {
	if set := d.set(w, r); set != nil {
		var b bytes.Buffer
		err := printSet(&b, set)
		answer(w, "text/plain; charset=utf-8", b.Bytes(), err)
	}
}

// set returns the tables of the node that r names; nil: it was answered.
func (d *daemon) set(w http.ResponseWriter, r *http.Request) *table.Set {
	node := r.PathValue("node")
	set, _ := d.control.Set(node)
	if set == nil {
		http.Error(w, "node "+node+": there are no tables for it", http.StatusNotFound)
	}
	return set
}

func (d *daemon) serveIndex(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	b.WriteString("<!doctype html><title>weftd</title><ul>\n<li><a href=\"pprof/\">profiles</a>\n")
	for _, n := range d.control.Nodes() {
		if set, _ := d.control.Set(n.Name); set != nil {
			fmt.Fprintf(&b, "<li><a href=\"tables/%s\">tables of %s</a>\n", n.Name, n.Name)
		}
	}
	b.WriteString("<li><a href=\"../v1/status\">status</a>\n<li><a href=\"../metrics\">metrics</a>\n</ul>\n")
	answer(w, "text/html; charset=utf-8", b.Bytes(), nil)
}

func answer(w http.ResponseWriter, kind string, data []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Write(data)
}

// printSet writes a Set as people read it.
func printSet(w io.Writer, s *table.Set) error {
	for _, section := range []struct {
		name  string
		print func() error
	}{
		{"ports", func() error { return columns.Print(w, s.PortRows()) }},
		{"segments", func() error { return columns.Print(w, s.SegmentRows()) }},
		{"endpoints", func() error { return columns.Print(w, s.EndpointRows()) }},
		{"routers", func() error { return columns.Print(w, s.RouterRows()) }},
		{"routes", func() error { return columns.Print(w, s.RouteRows()) }},
		{"nat", func() error { return columns.Print(w, s.NATRows()) }},
		{"rules", func() error { return columns.Print(w, s.RuleRows()) }},
		{"gateway rules", func() error { return columns.Print(w, s.GateRows()) }},
		{"sets", func() error { return columns.Print(w, s.SetRows()) }},
		{"load balancers", func() error { return columns.Print(w, s.ServiceRows()) }},
		{"virtual servers", func() error { return columns.Print(w, s.VIPRows()) }},
		{"pools", func() error { return columns.Print(w, s.PoolRows()) }},
		{"members", func() error { return columns.Print(w, s.MemberRows()) }},
	} {
		fmt.Fprintf(w, "# %s\n", section.name)
		if err := section.print(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	return nil
}
