package trace

import "testing"

// FuzzResolve looks up what people may type for a source or destination: it
// finds a place with an address, or says why not.
func FuzzResolve(f *testing.F) {
	for _, s := range []string{"web2", "blue/dmz", "10.1.1.10", "/infra/segments/web/ports/web1", "", "1.2.3.4/32", "::1", "blue/dmz@10.0.0.1"} {
		f.Add(s)
	}
	ix := twins()
	f.Fuzz(func(t *testing.T, name string) {
		if p, err := ResolveSource(ix, name); err == nil && !p.Addr.IsValid() {
			t.Errorf("source %q: no address", name)
		}
		if p, err := ResolveDestination(ix, name); err == nil && !p.Addr.IsValid() {
			t.Errorf("destination %q: no address", name)
		}
	})
}
