// Package leaks compares everything that a lab with a Kubernetes has with what
// its Kubernetes objects ask for, so that nothing leaks: no intent without
// object, no address twice, no port, device, namespace, mount, process or rule
// that nobody needs.
//
// Look reads all of it, Check compares, and Snapshot is what must be the same
// again when all objects are gone.
package leaks

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Finding is one thing that is not as it should be.
type Finding struct {
	Object string `json:"object"` // policy path, owner, or name of a device, namespace, file, …
	Field  string `json:"field,omitempty"`
	Fact   string `json:"fact"`
}

// String returns the finding as messages have it: object: field: fact.
func (f Finding) String() string {
	if f.Field == "" {
		return f.Object + ": " + f.Fact
	}
	return f.Object + ": " + f.Field + ": " + f.Fact
}

// Check returns all that is not as it should be, sorted. While something
// changes, that is also what is on its way; see Settle.
func Check(f *Facts) []Finding {
	c := &check{Facts: f, live: map[string]*Object{}}
	for i := range f.Live {
		c.live[f.Live[i].owner()] = &f.Live[i]
	}
	for _, part := range []func(){c.owners, c.wants, c.addresses, c.segments, c.rules, c.ports, c.namespaces, c.tables, c.processes} {
		part()
	}
	slices.SortFunc(c.findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Field, b.Field), strings.Compare(a.Fact, b.Fact))
	})
	return slices.Compact(c.findings)
}

// check is one Check.
type check struct {
	*Facts
	live     map[string]*Object // by owner
	findings []Finding
}

func (c *check) add(object, field, format string, args ...any) {
	c.findings = append(c.findings, Finding{object, field, fmt.Sprintf(format, args...)})
}

// pause is how long Settle waits between two looks.
const pause = 500 * time.Millisecond

// Settle looks until nothing is wrong, or until ctx ends: then it returns what
// was wrong the last time. At least one look is complete.
// Errors: what could not be looked at the last time.
func Settle(ctx context.Context, look func(context.Context) (*Facts, error)) (*Facts, []Finding, error) {
	whole := context.WithoutCancel(ctx)
	for {
		f, err := look(whole)
		var found []Finding
		if err == nil {
			if found = Check(f); len(found) == 0 {
				return f, nil, nil
			}
		}
		select {
		case <-ctx.Done():
			return f, found, err
		case <-time.After(pause):
		}
	}
}
