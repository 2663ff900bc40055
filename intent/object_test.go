package intent

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// whole demands that every object of a tree survives EncodeObject and
// DecodeObject.
func whole(t *testing.T, tree *Tree) {
	t.Helper()
	for _, o := range tree.All() {
		data, err := EncodeObject(o)
		if err != nil {
			t.Fatal(err)
		}
		again, problems := DecodeObject(o.Meta().Path, data)
		if HasErrors(problems) || !reflect.DeepEqual(o, again) {
			t.Errorf("%s: is another after decoding: %v\n%s", o.Meta().Path, problems, data)
		}
	}
}

func TestDecodeObject(t *testing.T) {
	whole(t, tree(t, red, balanced))
	whole(t, NewTree())
	const path = "/infra/tier-1s/a"
	for text, want := range map[string]string{
		`{`: path + ": is not JSON: unexpected EOF",
		`7`: path + ": is not JSON: json: cannot unmarshal number into Go value of type map[string]interface {}",
		`{"resource_type":"Tier1","path":"/infra/tier-1s/b"}`:      path + ": path: /infra/tier-1s/b: is not where the object is (want " + path + ")",
		`{"resource_type":"Tier1","path":"` + path + `","tags":1}`: path + ": tags: is a number (want a list)",
	} {
		o, problems := DecodeObject(path, []byte(text))
		if o != nil || len(problems) != 1 || problems[0].String() != want {
			t.Errorf("%s: got %v, %v; want %s", text, o, problems, want)
		}
	}
}

// FuzzDecodeObject takes what it decodes as it is, whatever the text.
func FuzzDecodeObject(f *testing.F) {
	for _, text := range []string{red, balanced} {
		changes, _ := Parse("f", []byte(text))
		for _, c := range changes {
			data, err := EncodeObject(c.Object)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(c.Path, data)
		}
	}
	f.Add("/infra/foos/x", []byte(`{"resource_type":"Foo","path":"/infra/foos/x","id":"x","more":{"n":[1.50,null,{}]},"tags":[{"scope":"a","x":1}]}`))
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		o, problems := DecodeObject(path, data)
		if (o == nil) != HasErrors(problems) {
			t.Fatalf("%v with %v", o, problems)
		}
		if o == nil {
			return
		}
		again, err := EncodeObject(o)
		if err != nil {
			t.Fatal(err)
		}
		twice, problems := DecodeObject(path, again)
		if HasErrors(problems) || !reflect.DeepEqual(o, twice) {
			t.Fatalf("%v\n%s\n%s", problems, data, again)
		}
	})
}

func TestParseObject(t *testing.T) {
	const policy = "/infra/domains/default/security-policies/p"
	rows := []struct{ path, body, want string }{
		{policy, `{"category":"Application","rules":[{"id":"r","action":"DROP"}]}`, "put " + policy + " Rule, put " + policy + "/rules/r"},
		{policy, `{"id":"p","resource_type":"SecurityPolicy"}`, "put " + policy},
		{policy + "/rules/r", `{"action":"DROP"}`, "put " + policy + "/rules/r"},
		{ExcludeListPath, `{"members":[]}`, "put " + ExcludeListPath},
		{"/infra/services/s/service-entries/e", `{"resource_type":"IGMPTypeServiceEntry"}`, "put /infra/services/s/service-entries/e"},
		{"/infra/tier-1s/a", `{"marked_for_delete":true}`, "delete /infra/tier-1s/a"},
		{"/infra/tier-1s/a", `{"children":[{"resource_type":"ChildLocaleServices","LocaleServices":{"id":"default"}}]}`, "put /infra/tier-1s/a, put /infra/tier-1s/a/locale-services/default"},

		{policy, `{"id":"q"}`, policy + ": id: q: does not fit the path (want p)"},
		{policy, `{"resource_type":"Group"}`, policy + ": resource_type: Group: does not fit ChildSecurityPolicy"},
		{policy, `null`, policy + ": is null (want an object)"},
		{policy, `[]`, policy + ": is not JSON: json: cannot unmarshal array into Go value of type map[string]interface {}"},
		{"/infra/foos/x", `{}`, "/infra/foos/x: path: is no place for a known type (such as /infra/tier-1s/red)"},
		{"/infra/tier-1s", `{}`, "/infra/tier-1s: path: is no place for a known type (such as /infra/tier-1s/red)"},
		{"/infra", `{}`, "/infra: path: is no place for a known type (such as /infra/tier-1s/red)"},
	}
	for _, row := range rows {
		changes, problems := ParseObject("", row.path, []byte(row.body))
		var got []string
		for _, c := range changes {
			what := "put " + c.Path
			if c.Object == nil {
				what = "delete " + c.Path
			} else if c.Replaces != "" {
				what += " " + c.Replaces
			}
			got = append(got, what)
		}
		for _, p := range problems {
			got = append(got, p.String())
		}
		if text := strings.Join(got, ", "); text != row.want {
			t.Errorf("%s %s:\ngot  %s\nwant %s", row.path, row.body, text, row.want)
		}
	}
}

// Check tells what Apply does, and does nothing.
func TestCheckLeavesTheTree(t *testing.T) {
	a, b := tree(t, red), tree(t, red)
	before := a.All()
	changes, _ := Parse("f", []byte(infra("- {resource_type: ChildTier1, Tier1: {id: red, display_name: Other}}", child("Tier1", "id: new"))))
	out, problems := a.Check(changes)
	if !slices.EqualFunc(before, a.All(), func(x, y Object) bool { return x == y }) {
		t.Error("the tree is another")
	}
	changed, more := b.Apply(changes)
	var paths []string
	for _, c := range out {
		paths = append(paths, c.Path)
	}
	if d := gocmp.Diff(changed, paths); d != "" || len(problems) != len(more) || len(changed) != 2 {
		t.Error(d, problems, more, changed)
	}
	a.Apply(out)
	if !reflect.DeepEqual(a.All(), b.All()) {
		t.Error("the changes do not lead to the same tree")
	}
	if out, problems := a.Check([]Change{Delete("/infra/domains/default")}); out != nil || !HasErrors(problems) {
		t.Errorf("a refused change: %v %v", out, problems)
	}
}
