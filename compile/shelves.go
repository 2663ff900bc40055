package compile

import "iter"

// shelves holds facts by name, each kind on its own and those without an arg
// by name alone: what is looked up together stays together, and is small.
type shelves struct {
	plain [kinds]map[string]*fact
	pairs [kinds]map[[2]string]*fact
	size  int
}

// get returns a fact, nil if there is none.
func (s *shelves) get(r ref) *fact {
	if r.arg == "" {
		return s.plain[r.kind][r.name]
	}
	return s.pairs[r.kind][[2]string{r.name, r.arg}]
}

// put adds a fact that is not there yet.
func (s *shelves) put(f *fact) {
	s.size++
	k := f.kind
	if f.arg == "" {
		if s.plain[k] == nil {
			s.plain[k] = map[string]*fact{}
		}
		s.plain[k][f.name] = f
		return
	}
	if s.pairs[k] == nil {
		s.pairs[k] = map[[2]string]*fact{}
	}
	s.pairs[k][[2]string{f.name, f.arg}] = f
}

// remove takes out a fact that is there.
func (s *shelves) remove(f *fact) {
	s.size--
	if f.arg == "" {
		delete(s.plain[f.kind], f.name)
		return
	}
	delete(s.pairs[f.kind], [2]string{f.name, f.arg})
}

// all yields all facts.
func (s *shelves) all() iter.Seq[*fact] {
	return func(yield func(*fact) bool) {
		for k := range s.plain {
			for _, f := range s.plain[k] {
				if !yield(f) {
					return
				}
			}
			for _, f := range s.pairs[k] {
				if !yield(f) {
					return
				}
			}
		}
	}
}
