package lab

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadFindsDocumentsAndTheirLines(t *testing.T) {
	files := []File{
		{"a.yaml", []byte("# only a comment\n---\nresource_type: Infra\nchildren: []\n--- # the lab\nresource_type: Lab\nname: a\n")},
		{"b.yaml", []byte("resource_type: Lab\nname: b\n")},
		{"c.yaml", []byte("---\nresource_type: Lab\nnam: c\n")},
		{"d.yaml", []byte("a: [\n")},
		{"e.yaml", []byte("\n---\nresource_type: Segment\n")},
		{"f.json", []byte(`{"resource_type": "Infra", "children": [1]}`)},
	}
	in := read(files)
	if in.spec == nil || in.spec.Name != "a" {
		t.Errorf("spec = %+v, want the one of a.yaml", in.spec)
	}
	var got []string
	for _, p := range in.problems {
		place, _, _ := strings.Cut(p.String(), ": ")
		got = append(got, place)
	}
	if diff := cmp.Diff([]string{"b.yaml:1", "c.yaml:1", "d.yaml:1", "e.yaml:2", "f.json"}, got); diff != "" {
		t.Errorf("places of problems (-want +got):\n%s\n%s", diff, Problems(in.problems))
	}
}

func TestUnknownFieldIsAProblem(t *testing.T) {
	_, problems := parseSpec(document{file: "a.yaml", line: 3, data: []byte("resource_type: Lab\noutsde: []\n")})
	want := `a.yaml:3: unknown field "outsde"`
	if len(problems) != 1 || problems[0].String() != want {
		t.Errorf("got %v, want %s", problems, want)
	}
}

func TestSpecWithoutNameIsTheDefaultLab(t *testing.T) {
	spec, problems := parseSpec(document{data: []byte("resource_type: Lab\n")})
	if len(problems) > 0 || spec.Name != DefaultName {
		t.Errorf("got %+v, %v", spec, problems)
	}
}

func TestLabNamesArePrefixFree(t *testing.T) {
	for name, want := range map[string]bool{
		"seeds": true, "a1": true, "": false, "a-b": false, "A": false, "a/b": false, "..": false,
		strings.Repeat("a", 32): true, strings.Repeat("a", 33): false,
	} {
		if got := CheckName(name) == nil; got != want {
			t.Errorf("CheckName(%q) accepts: %v, want %v", name, got, want)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte("a: 1\n---\nb: 2\n--- c\n---x\n"))
	f.Add([]byte("---\r\n---"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var joined []byte
		lines := 0
		for _, d := range splitMarkers(data) {
			joined = append(joined, d.data[d.line-1:]...)
			if d.line < lines {
				t.Fatalf("document at line %d after one at line %d", d.line, lines)
			}
			lines = d.line
		}
		if string(joined) != string(data) {
			t.Fatalf("split changed the text: %q, want %q", joined, data)
		}
		split("fuzz", data)
	})
}
