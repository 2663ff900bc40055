package bpf

import (
	"cmp"
	"slices"

	"github.com/weft-net/weft/table"
)

// members follows the addresses of used sets.
func (u *update) members(wasUsed map[table.AddrSetID]bool) {
	follow := func(id table.AddrSetID) {
		is := len(u.e.users[id]) > 0
		was, known := wasUsed[id]
		if !known {
			was = is
		}
		var old, new []at
		if was {
			old = addresses(u.old.set.AddrSets.Get(id))
		}
		if is {
			new = addresses(u.new.set.AddrSets.Get(id))
		}
		merge(old, new, func(a at, put bool) { u.e.parts.edit(a, id, put) })
	}
	for id, was := range wasUsed {
		if was != (len(u.e.users[id]) > 0) {
			follow(id)
		}
	}
	for id := range u.old.set.AddrSets.Differing(u.new.set.AddrSets) {
		if was, known := wasUsed[id]; !known || was == (len(u.e.users[id]) > 0) {
			follow(id)
		}
	}
}

// realms follows the prefixes of realms.
func (u *update) realms() {
	prefixes := func(id table.RealmID, r *table.Realm) (out []at) {
		if r == nil || id == 0 || id == table.AnyRealm {
			return nil
		}
		for _, p := range r.Prefixes {
			out = append(out, at{Realm: id, Prefix: p})
		}
		return ordered(out)
	}
	for id := range u.old.set.Realms.Differing(u.new.set.Realms) {
		merge(prefixes(id, u.old.set.Realms.Get(id)), prefixes(id, u.new.set.Realms.Get(id)), u.e.parts.mark)
	}
}

// addresses returns the rows of a set, ordered.
func addresses(s *table.AddrSet) []at {
	if s == nil {
		return nil
	}
	return ordered(s.Addrs)
}

func compareAt(a, b at) int {
	return cmp.Or(cmp.Compare(a.Realm, b.Realm), a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
}

// ordered returns rows in canonical form, in order, each once: the same slice
// if they are so already.
func ordered(rows []at) []at {
	fine := true
	for i, a := range rows {
		fine = fine && a.Prefix == canonical(a.Prefix) && a.Prefix.IsValid() && (i == 0 || compareAt(rows[i-1], a) < 0)
	}
	if fine {
		return rows
	}
	out := make([]at, 0, len(rows))
	for _, a := range rows {
		if a.Prefix = canonical(a.Prefix); a.Prefix.IsValid() {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, compareAt)
	return slices.Compact(out)
}

// merge calls edit for what only one of two ordered lists has.
func merge(old, new []at, edit func(a at, put bool)) {
	for len(old) > 0 || len(new) > 0 {
		switch {
		case len(new) == 0 || len(old) > 0 && compareAt(old[0], new[0]) < 0:
			edit(old[0], false)
			old = old[1:]
		case len(old) == 0 || compareAt(old[0], new[0]) > 0:
			edit(new[0], true)
			new = new[1:]
		default:
			old, new = old[1:], new[1:]
		}
	}
}
