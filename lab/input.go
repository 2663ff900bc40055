package lab

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/table"
)

// File is one lab file: YAML documents of resource_type Infra, at most one of
// resource_type Lab, and Kubernetes objects if that one has a Kubernetes.
type File struct {
	Name string // for problems
	Data []byte
}

// Problems is the error of files that cannot be built. Its text has a line
// for each.
type Problems []intent.Problem

// Error returns all problems, a line each.
func (p Problems) Error() string {
	lines := make([]string, 0, len(p))
	for _, one := range p {
		lines = append(lines, one.String())
	}
	return strings.Join(lines, "\n")
}

// input is what files say.
type input struct {
	spec      *Spec // nil: they have no Lab document
	changes   []intent.Change
	manifests []document
	problems  []intent.Problem
}

// read parses files. Later files see the objects of earlier ones.
func read(files []File) input {
	var in input
	where := ""
	for _, f := range files {
		docs, problems := split(f.Name, f.Data)
		in.problems = append(in.problems, problems...)
		for _, d := range docs {
			switch {
			case d.resourceType == "Infra":
				changes, problems := intent.Parse(d.file, d.data)
				in.changes = append(in.changes, changes...)
				in.problems = append(in.problems, problems...)
			case d.apiVersion != "":
				in.manifests = append(in.manifests, d)
			case d.resourceType != "Lab":
				in.problems = append(in.problems, d.problem(
					fmt.Errorf("resource_type: %q: is no lab document (Infra, Lab, or a Kubernetes object with apiVersion)", d.resourceType)))
			case where != "":
				in.problems = append(in.problems, d.problem(
					fmt.Errorf("resource_type: Lab: is a second one, after %s (at most one)", where)))
			default:
				where = fmt.Sprintf("%s:%d", d.file, d.line)
				spec, problems := parseSpec(d)
				in.spec = spec
				in.problems = append(in.problems, problems...)
			}
		}
	}
	in.attachManifests()
	return in
}

// attachManifests gives the Kubernetes documents to the spec that starts a
// Kubernetes.
func (in *input) attachManifests() {
	if len(in.manifests) == 0 || intent.HasErrors(in.problems) {
		return
	}
	if in.spec == nil || in.spec.Kubernetes == nil {
		in.problems = append(in.problems, in.manifests[0].problem(
			fmt.Errorf("apiVersion: %s: is a Kubernetes object, and the lab has no Kubernetes (give the Lab document the field kubernetes)", in.manifests[0].apiVersion)))
		return
	}
	var all strings.Builder
	for _, d := range in.manifests {
		all.WriteString("---\n")
		all.Write(bytes.TrimPrefix(bytes.TrimLeft(d.data, "\n"), []byte("---")))
	}
	in.spec.Manifests = all.String()
}

// goal is a lab as it shall be.
type goal struct {
	spec *Spec
	body []byte // the intent, as intent.Encode writes it
	set  *table.Set
	plan *Plan
}

// goal applies changes to base, compiles the result and plans spec around it.
// All problems that can be found are returned together as Problems; warnings
// are reported on the way.
func (s *System) goal(base *intent.Tree, in input, spec *Spec) (*goal, error) {
	problems := intent.All(base, in.changes, in.problems)
	if intent.HasErrors(problems) {
		return nil, s.judge(problems)
	}
	body, err := intent.Encode(base.All()...)
	if err != nil {
		return nil, err
	}
	set, more := s.compileOne(base)
	problems = append(problems, more...)
	plan, more := NewPlan(spec, set)
	if err := s.judge(append(problems, more...)); err != nil {
		return nil, err
	}
	return &goal{spec: spec, body: body, set: set, plan: plan}, nil
}

// compileOne returns the tables of the only host.
func (s *System) compileOne(tree *intent.Tree) (*table.Set, []intent.Problem) {
	sets, problems := s.Compile(tree)
	for _, set := range sets {
		return set, problems
	}
	return table.NewSet(""), problems
}

// judge reports the warnings among problems and returns the rest as Problems.
func (s *System) judge(problems []intent.Problem) error {
	var bad Problems
	for _, p := range problems {
		if p.Severity == intent.Error {
			bad = append(bad, p)
		} else if s.Warn != nil {
			s.Warn(p)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return bad
}
