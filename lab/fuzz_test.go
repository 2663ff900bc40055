package lab

import "testing"

// FuzzRead reads lab files of any content: every one gives changes, a lab or
// problems that can be printed.
func FuzzRead(f *testing.F) {
	f.Add([]byte("resource_type: Lab\nname: a\n---\nresource_type: Infra\nchildren: []\n"))
	f.Add([]byte("resource_type: Lab\nname: a\nphysical_router: {interfaces: [{name: up, address: 10.0.0.1/24}]}\noutside: [{name: w, address: 10.0.0.2/24, interface: up, http: [80]}]\n"))
	f.Add([]byte("resource_type: Lab\nworkloads: [{name: x, port: /infra/segments/s/ports/p, http: [0, 70000]}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := read([]File{{Name: "fuzz.yaml", Data: data}})
		for _, p := range in.problems {
			if p.String() == "" {
				t.Error("a problem without words")
			}
		}
	})
}
