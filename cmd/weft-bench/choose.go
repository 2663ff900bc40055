package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weft-net/weft/bench"
)

func entryName(e bench.Entry) string { return e.Name }
func testName(t bench.Test) string   { return string(t.Kind) }

func names[T any](all []T, name func(T) string) []string {
	var s []string
	for _, x := range all {
		s = append(s, name(x))
	}
	return s
}

// choose returns those of all that list names, in the order of all; everything for an empty list.
func choose[T any](flag, list string, all []T, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	want := strings.Split(list, ",")
	for _, w := range want {
		if !slices.Contains(names(all, name), w) {
			return nil, fmt.Errorf("-%s: %q: unknown (%s)", flag, w, strings.Join(names(all, name), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(x T) bool { return !slices.Contains(want, name(x)) }), nil
}
