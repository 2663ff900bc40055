package writer_test

import (
	"net/netip"
	"testing"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/writer"
)

// What is taken as a whole is left behind at once, however large it is.
func TestLowestBehindSubnets(t *testing.T) {
	tree := intent.NewTree()
	if _, problems := tree.Apply([]intent.Change{intent.Put("/infra/tier-0s/provider", &intent.Tier0{TransitSubnets: []string{"10.0.0.0/10"}})}); intent.HasErrors(problems) {
		t.Fatal(problems)
	}
	taken := writer.TakenIn(tree)
	calls := 0
	a, ok := writer.Lowest([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, func(a netip.Addr) (netip.Addr, bool) {
		calls++
		_, is := taken.By(a)
		return taken.Last(a), is
	})
	if want := netip.MustParseAddr("10.64.0.0"); !ok || a != want || calls > 2 {
		t.Errorf("got %s in %d calls, want %s", a, calls, want)
	}
}
