package leaks

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// Snapshot is what a lab has, in lines that two labs of the same objects have
// in common: without versions, numbers of processes and the like.
type Snapshot map[string]string

// Snapshot returns what f has.
func (f *Facts) Snapshot() (Snapshot, error) {
	s := Snapshot{}
	for _, o := range f.Intent {
		text, err := textOf(o)
		if err != nil {
			return nil, err
		}
		s[o.Meta().Path] = text
	}
	for what, list := range map[string][]string{
		"device": f.Devices, "network namespace": f.Spaces, "attachment record": f.Records, "pod directory": f.PodDirs, "mount": f.Mounts,
	} {
		for _, name := range list {
			s[what+" "+name] = "is there"
		}
	}
	for file, pids := range f.Logged {
		s["processes with log "+file] = fmt.Sprint(len(pids))
	}
	for node, set := range f.Compiled {
		data, err := table.Encode(set)
		if err != nil {
			return nil, err
		}
		s["tables of "+node] = string(data)
	}
	return s, nil
}

// textOf returns an object without its revision.
func textOf(o intent.Object) (string, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("%s: %w", o.Meta().Path, err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return "", fmt.Errorf("%s: %w", o.Meta().Path, err)
	}
	delete(fields, "_revision")
	data, err = json.Marshal(fields)
	return string(data), err
}

// Diff returns what differs between s and a later o, sorted.
func (s Snapshot) Diff(o Snapshot) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(s)) {
		now, ok := o[key]
		switch {
		case !ok:
			out = append(out, key+": is not there any more")
		case now != s[key]:
			out = append(out, key+": is "+excerpt(now, s[key])+" (was "+excerpt(s[key], now)+")")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o)) {
		if _, ok := s[key]; !ok {
			out = append(out, key+": was not there before: "+excerpt(o[key], ""))
		}
	}
	return out
}

// excerpt returns the part of a around where it begins to differ from b.
func excerpt(a, b string) string {
	const before, most = 60, 240
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	from := max(0, i-before)
	return strings.ToValidUTF8(a[from:min(len(a), from+most)], "")
}
