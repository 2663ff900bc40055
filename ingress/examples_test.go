package ingress

import (
	"os"
	"testing"

	"github.com/weft-net/weft/compile"
	"github.com/weft-net/weft/intent"
)

// The rule that overrules isolation is what weft apply takes.
func TestOverwriteEverythingIsIntent(t *testing.T) {
	const file = "../examples/hackazon/overwrite-everything.yaml"
	text, err := os.ReadFile(file)
	must(t, err)
	changes, problems := intent.Parse(file, text)
	tree := intent.NewTree()
	problems = intent.All(tree, changes, problems)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if tree.Get("/infra/domains/default/security-policies/OverwriteEverything/rules/AnyAnyAny") == nil {
		t.Error("there is no rule AnyAnyAny")
	}
	if _, problems := compile.New().Update(tree, nil); len(problems) > 0 {
		t.Error(problems)
	}
}
