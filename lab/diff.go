package lab

// change is what turns a lab into another one. Its parts are done in the
// order of the fields.
type change struct {
	remove   []string  // namespaces
	unlink   []Link    // links between machines that stay
	machines []Machine // to create
	links    []Link    // to create
	reroute  []Machine // to give their routes again
	serve    []Machine // to start servers in
}

// diff compares what may exist with what shall.
//
// old is the plan of the last complete build, and beside it that of a change
// which was interrupted: only what is the same in all of them is taken as
// built. A machine that differs is built anew with its links; a link that
// differs is built anew. Without old everything is built.
func diff(next *Plan, old ...*Plan) change {
	var c change
	builtMachines, builtLinks := built(next, old)
	stays := map[string]bool{} // namespaces
	for _, m := range next.Machines {
		if builtMachines[m.Namespace] == len(old) && len(old) > 0 {
			stays[m.Namespace] = true
		} else {
			c.machines = append(c.machines, m)
		}
	}
	linked := map[string]bool{} // namespaces that get a new link
	keeps := map[string]bool{}  // links
	for _, l := range next.Links {
		if stays[l.A.Namespace] && stays[l.B.Namespace] && builtLinks[l.key()] == len(old) {
			keeps[l.key()] = true
			continue
		}
		linked[l.A.Namespace], linked[l.B.Namespace] = true, true
		c.links = append(c.links, l)
	}
	c.remove, c.unlink = leftovers(old, stays, keeps)
	for _, m := range next.Machines {
		if !stays[m.Namespace] || linked[m.Namespace] {
			c.reroute = append(c.reroute, m)
		}
		if !stays[m.Namespace] && len(m.HTTP) > 0 {
			c.serve = append(c.serve, m)
		}
	}
	return c
}

// built counts for each namespace and link of next in how many of old it is
// the same.
func built(next *Plan, old []*Plan) (machines, links map[string]int) {
	machines, links = map[string]int{}, map[string]int{}
	for _, p := range old {
		was := map[string]Machine{}
		for _, m := range p.Machines {
			was[m.Namespace] = m
		}
		for _, m := range next.Machines {
			if m.equal(was[m.Namespace]) {
				machines[m.Namespace]++
			}
		}
		wasLink := map[string]Link{}
		for _, l := range p.Links {
			wasLink[l.key()] = l
		}
		for _, l := range next.Links {
			if l.equal(wasLink[l.key()]) {
				links[l.key()]++
			}
		}
	}
	return machines, links
}

// leftovers returns the namespaces and the links of old that are not kept,
// each once. A link goes with a namespace of one of its ends.
func leftovers(old []*Plan, stays, keeps map[string]bool) (remove []string, unlink []Link) {
	seen := map[string]bool{}
	for _, p := range old {
		for _, m := range p.Machines {
			if !stays[m.Namespace] && !seen[m.Namespace] {
				seen[m.Namespace] = true
				remove = append(remove, m.Namespace)
			}
		}
		for _, l := range p.Links {
			if stays[l.A.Namespace] && stays[l.B.Namespace] && !keeps[l.key()] && !seen[l.key()] {
				seen[l.key()] = true
				unlink = append(unlink, l)
			}
		}
	}
	return remove, unlink
}
