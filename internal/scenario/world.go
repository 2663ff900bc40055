package scenario

import (
	"errors"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// File is a Policy API body with the name that problems call it by.
type File struct {
	Name string
	Data []byte
}

// World is the state of one script: the intent so far and its tables.
type World struct {
	Tree  *intent.Tree
	Set   *table.Set // of the only node
	Index *pipeline.Index

	compiler *compile.Compiler
}

// NewWorld returns a World of the default objects.
func NewWorld() *World {
	w := &World{Tree: intent.NewTree(), compiler: compile.New()}
	w.publish(nil)
	return w
}

// publish compiles what changed; nil: everything.
func (w *World) publish(changed []string) []intent.Problem {
	sets, problems := w.compiler.Update(w.Tree, changed)
	for _, set := range sets { // there is one node
		w.Set = set
	}
	w.Index = pipeline.NewIndex(w.Set)
	return problems
}

// Parse reads bodies. The changes are complete unless a problem is an Error.
func Parse(files []File) (changes []intent.Change, problems []intent.Problem) {
	for _, f := range files {
		more, wrong := intent.Parse(f.Name, f.Data)
		changes = append(changes, more...)
		problems = append(problems, wrong...)
	}
	return changes, problems
}

// Apply makes the changes of files, all at once, and compiles. With a problem
// of severity Error nothing has changed.
func (w *World) Apply(files []File) []intent.Problem {
	changes, problems := Parse(files)
	if intent.HasErrors(problems) {
		return problems
	}
	changed, more := w.Tree.Apply(changes)
	problems = append(problems, more...)
	if intent.HasErrors(problems) || len(changed) == 0 {
		return problems
	}
	return append(problems, w.publish(changed)...)
}

// Deletion returns the body that deletes the objects that files describe.
// Default objects, which cannot be deleted, become as they were at first.
// Errors: a file has problems.
func Deletion(files []File) (File, error) {
	changes, problems := Parse(files)
	if intent.HasErrors(problems) {
		return File{}, errors.New(problems[0].String())
	}
	first := intent.NewTree()
	var objects []intent.Object
	for _, c := range changes {
		o := c.Object
		switch {
		case o == nil:
			continue
		case first.Get(c.Path) != nil:
			o = first.Get(c.Path)
		default:
			o.Meta().MarkedForDelete = true // of this Parse alone
		}
		objects = append(objects, o)
	}
	body, err := intent.Encode(objects...)
	return File{Name: "deletion", Data: body}, err
}
