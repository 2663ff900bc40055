package oracle_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/internal/oracle"
)

func TestZZ(t *testing.T) {
	var seed uint64
	var path string
	if os.Getenv("ZZ")=="" { t.Skip("debug") }
	fmt.Sscan(os.Getenv("ZZ"), &seed, &path)
	r := rand.New(rand.NewPCG(seed, 3))
	tree := oracle.RandomTree(r, oracle.Small())
	seen := map[string]bool{}
	var show func(p string)
	show = func(p string) {
		if seen[p] { return }
		seen[p] = true
		o := tree.Get(p)
		if o == nil { fmt.Println(p, "-"); return }
		b, _ := json.Marshal(o)
		var m map[string]any
		json.Unmarshal(b, &m)
		for k, v := range m {
			switch v := v.(type) {
			case nil: delete(m, k)
			case string: if v == "" { delete(m, k) }
			case float64: if v == 0 { delete(m, k) }
			case bool: if !v { delete(m, k) }
			}
		}
		b, _ = json.Marshal(m)
		fmt.Printf("%s\n", b)
		switch v := o.(type) {
		case *intent.Rule:
			show(v.PolicyPath())
			for _, l := range [][]string{v.SourceGroups, v.DestinationGroups, v.Scope} { for _, g := range l { show(g) } }
		case *intent.SecurityPolicy:
			for _, g := range v.Scope { show(g) }
		case *intent.Group:
			for _, e := range v.Expression { if p, ok := e.(*intent.PathExpression); ok { for _, g := range p.Paths { show(g) } } }
		}
	}
	fmt.Println()
	if path != "" { show(path); return }
	for _, o := range tree.All() { show(o.Meta().Path) }
}
