package policyapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/policyapi"
	"github.com/weft-net/weft/store"
)

// api is a handler and its store.
type api struct {
	t     *testing.T
	store *store.Store
	http.Handler
}

func start(t *testing.T) *api {
	s, err := store.New(t.Context(), store.NewMemory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &api{t, s, policyapi.New(s, nil)}
}

// ask sends one request; headers are name: value.
func (a *api) ask(method, path, body string, headers ...string) (int, string) {
	a.t.Helper()
	r := httptest.NewRequest(method, policyapi.Base+path, strings.NewReader(body))
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w.Code, strings.TrimSuffix(w.Body.String(), "\n")
}

// good demands success and returns the body.
func (a *api) good(method, path, body string, headers ...string) string {
	a.t.Helper()
	code, text := a.ask(method, path, body, headers...)
	if code != http.StatusOK {
		a.t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	return text
}

const report = "Prefer: return=representation"

const red = `
resource_type: Infra
children:
- resource_type: ChildTier1
  Tier1: {id: red, display_name: Red, vendor_field: {deep: [1, 2.50]}}
- resource_type: ChildSegment
  Segment:
    id: web
    connectivity_path: /infra/tier-1s/red
    subnets: [{gateway_address: 10.1.0.1/24}]
    children:
    - resource_type: ChildSegmentPort
      SegmentPort: {id: a}
- resource_type: ChildResourceReference
  target_type: Domain
  id: default
  children:
  - resource_type: ChildSecurityPolicy
    SecurityPolicy:
      id: p
      category: Application
      rules:
      - {id: one, action: ALLOW}
      - {id: two, action: DROP}
`

func TestPatchTree(t *testing.T) {
	a := start(t)
	const policy = "/infra/domains/default/security-policies/p"
	for _, row := range []struct{ body, want string }{
		{red, `{"version":1,"created":["` + policy + `","` + policy + `/rules/one","` + policy + `/rules/two","/infra/segments/web","/infra/segments/web/ports/a","/infra/tier-1s/red"]}`},
		{red, `{"version":1,"unchanged":["` + policy + `","` + policy + `/rules/one","` + policy + `/rules/two","/infra/segments/web","/infra/segments/web/ports/a","/infra/tier-1s/red"]}`},
		// A list of rules is the whole list.
		{strings.Replace(red, "{id: one, action: ALLOW}", "{id: three, action: REJECT}", 1),
			`{"version":2,"created":["` + policy + `/rules/three"],"unchanged":["` + policy + `","` + policy + `/rules/two","/infra/segments/web","/infra/segments/web/ports/a","/infra/tier-1s/red"],"deleted":["` + policy + `/rules/one"]}`},
		{`{"resource_type":"Infra","children":[{"resource_type":"ChildSegment","marked_for_delete":true,"Segment":{"id":"web","resource_type":"Segment"}}]}`,
			`{"version":3,"deleted":["/infra/segments/web","/infra/segments/web/ports/a"]}`},
		{"resource_type: Infra\nchildren: [{resource_type: ChildTier1, Tier1: {id: red, dispaly_name: Red}}]",
			`{"version":4,"configured":["/infra/tier-1s/red"],"warnings":[{"httpStatus":"BAD_REQUEST","error_code":287,"module_name":"policy","error_message":"/infra/tier-1s/red: dispaly_name: is not a known field (did you mean display_name)","path":"/infra/tier-1s/red","field":"dispaly_name","kind":"unknown_field","severity":"warning","fact":"is not a known field (did you mean display_name)"}]}`},
	} {
		if d := cmp.Diff(row.want, a.good("PATCH", "/infra", row.body, report)); d != "" {
			t.Error(d)
		}
	}
	if got := a.good("PATCH", "/infra", red); got != "" {
		t.Errorf("unless it is asked for, there is no answer: %s", got)
	}
}

func TestObject(t *testing.T) {
	a := start(t)
	const path = "/infra/tier-1s/red"
	object := func(revision int, more string) string {
		return fmt.Sprintf(`{"_revision":%d,%s"id":"red","parent_path":"","path":"/infra/tier-1s/red","relative_path":"red","resource_type":"Tier1"}`, revision, more)
	}
	same := func(what, want, got string) {
		t.Helper()
		var w, g any
		if err := json.Unmarshal([]byte(want), &w); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(got), &g); err != nil {
			t.Fatal(err, got)
		}
		if d := cmp.Diff(w, g, cmpopts.IgnoreMapEntries(func(k string, v any) bool { return k == "parent_path" && v == "" })); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	same("PUT makes", object(1, `"display_name":"Red","x":{"deep":[1,2.50]},`), a.good("PUT", path, `{"display_name":"Red","x":{"deep":[1,2.50]}}`))
	same("GET", object(1, `"display_name":"Red","x":{"deep":[1,2.50]},`), a.good("GET", path, ""))
	same("PUT replaces", object(2, `"description":"d",`), a.good("PUT", path, `{"_revision":1,"description":"d"}`))
	a.good("PATCH", path, `{"display_name":"Red","tags":[{"scope":"a","tag":"b"}]}`)
	same("PATCH changes what it names", object(3, `"description":"d","display_name":"Red","tags":[{"scope":"a","tag":"b"}],`), a.good("GET", path, ""))
	a.good("PATCH", path, `{"description":"","_revision":1}`)
	same("PATCH looks at no revision", object(4, `"display_name":"Red","tags":[{"scope":"a","tag":"b"}],`), a.good("GET", path, ""))
	a.good("PATCH", path+"?enforce_revision_check=true", `{"tags":[],"_revision":4}`)
	same("unless it shall", object(5, `"display_name":"Red",`), a.good("GET", path, ""))
	same("no change", `{"version":5,"unchanged":["`+path+`"]}`, a.good("PATCH", path, `{"display_name":"Red"}`, report))
	// What GET answers is what PUT takes.
	same("GET and PUT", object(5, `"display_name":"Red",`), a.good("PUT", path, a.good("GET", path, "")))
	a.good("DELETE", path, "")
	if code, _ := a.ask("GET", path, ""); code != http.StatusNotFound {
		t.Errorf("after DELETE: %d", code)
	}
	a.good("PATCH", path, `{}`)
	a.good("PUT", path, `{"_revision":7,"marked_for_delete":true}`)
	same("deleted twice", `{"version":8}`, a.good("DELETE", "/infra?ignore_missing=true&path="+path, "", report))
}

// Every refusal has the form of NSX's and names object, field and fact.
func TestRefusals(t *testing.T) {
	a := start(t)
	a.good("PATCH", "/infra", red)
	if _, problems, err := a.store.Replace(t.Context(), "Pod/a/b/1", intent.Put("/infra/segments/web/ports/pod", &intent.SegmentPort{}).Object); err != nil || problems != nil {
		t.Fatal(problems, err)
	}
	_, before := a.ask("GET", "/infra", "")
	const tier1, bad = "/infra/tier-1s/red", http.StatusBadRequest
	foreign := "/infra/segments/web/ports/pod: belongs to Pod/a/b/1 (change that, or insist by X-Allow-Overwrite: true)"
	for _, row := range []struct {
		method, path, body string
		status, code       int
		want               string // messages of the related errors, or of the error
	}{
		{"GET", "/infra/tier-1s/no", "", 404, 600, "/infra/tier-1s/no: does not exist"},
		{"GET", "/infra/tier-1s/no/locale-services", "", 404, 600, "/infra/tier-1s/no/locale-services: does not exist"},
		{"GET", "/infra/nonsense", "", 404, 600, "/infra/nonsense: does not exist"},
		{"GET", "/global-infra", "", 404, 600, "/policy/api/v1/global-infra: is not served here (/policy/api/v1/infra is)"},
		{"GET", "/infrared", "", 404, 600, "/policy/api/v1/infrared: is not served here (/policy/api/v1/infra is)"},
		{"GET", "/infra?type_filter=Grup", "", bad, 400, "type_filter: Grup: is not a type (" + strings.Join(intent.ResourceTypes(), ", ") + ")"},
		{"GET", "/infra?base_path=red", "", bad, 400, `base_path: "red": is not a policy path (such as /infra/tier-1s/red)`},
		{"GET", "/infra/tier-1s?page_size=1001", "", bad, 400, "page_size: 1001: is not a size (1 to 1000)"},
		{"POST", tier1, "{}", 405, 400, tier1 + ": POST: is not a method of it (GET, PUT, PATCH, DELETE)"},
		{"PUT", "/infra", "{}", 405, 400, "/infra: PUT: is not a method of it (GET, PATCH, DELETE)"},

		{"PUT", tier1, `{}`, 412, 500087, tier1 + ": _revision: is missing (1 is stored; read the object, or use PATCH)"},
		{"PUT", tier1, `{"_revision":7}`, 412, 500087, tier1 + ": _revision: 7: is not the stored one (1; read the object again)"},
		{"PUT", "/infra/tier-1s/new", `{"_revision":7}`, 412, 500087, "/infra/tier-1s/new: _revision: 7: the object does not exist (leave it out to create one)"},
		{"PATCH", tier1 + "?enforce_revision_check=true", `{"_revision":7}`, 412, 500087, tier1 + ": _revision: 7: is not the stored one (1; read the object again)"},
		{"PATCH", tier1 + "?enforce_revision_check=maybe", `{}`, bad, 400, `enforce_revision_check: "maybe": is not a truth value (true, false)`},
		{"PUT", tier1, `{"_revision":1,"tier0_path":"/infra/tier-0s/no"}`, bad, 400, tier1 + ": tier0_path: /infra/tier-0s/no: does not exist"},
		{"PUT", tier1, `{"tags":1}`, bad, 287, tier1 + ": tags: is a number (want a list)"},
		{"PUT", tier1, `{`, bad, 287, tier1 + ": is not JSON: unexpected EOF"},
		{"PATCH", tier1, `display_name: Red`, bad, 287, tier1 + ": is not JSON: invalid character 'd' looking for beginning of value"},
		{"PATCH", "/infra/foos/x", `{}`, bad, 400, "/infra/foos/x: path: is no place for a known type (such as /infra/tier-1s/red)"},
		{"PATCH", tier1, `{"id":"blue"}`, bad, 400, tier1 + ": id: blue: does not fit the path (want red)"},

		{"PATCH", "/infra", "resource_type: Infra\nchildren: {", bad, 287, "is not YAML: did not find expected node content"},
		// Problems of form and of meaning, all at once.
		{"PATCH", "/infra", "resource_type: Infra\nchildren: [{resource_type: ChildTier1, Tier1: {id: a, tags: 1}}, {resource_type: ChildTier1, Tier1: {id: b, type: X}}, {resource_type: ChildTier1, Tier1: {id: red, _revision: 1}}]", bad, 287,
			"/infra/tier-1s/a: tags: is a number (want a list)|/infra/tier-1s/b: type: X: is not allowed (ROUTED, ISOLATED, NATTED)"},
		{"PATCH", "/infra?enforce_revision_check=true", "resource_type: Infra\nchildren: [{resource_type: ChildTier1, Tier1: {id: red, _revision: 9}}, {resource_type: ChildTier1, Tier1: {id: b, type: X}}]", bad, 400,
			"/infra/tier-1s/red: _revision: 9: is not the stored one (1; read the object again)|/infra/tier-1s/b: type: X: is not allowed (ROUTED, ISOLATED, NATTED)"},

		{"DELETE", "/infra/tier-1s/no", "", 404, 600, "/infra/tier-1s/no: does not exist"},
		{"DELETE", tier1, "", bad, 500030, tier1 + ": is still referenced by /infra/segments/web (delete or change those first)"},
		{"DELETE", "/infra/domains/default/security-policies/default-layer3-section/rules/default-layer3-rule", "", bad, 400,
			"/infra/domains/default/security-policies/default-layer3-section/rules/default-layer3-rule: is a default object and cannot be deleted"},
		{"DELETE", "/infra", "", bad, 400, "path: is missing (such as ?path=/infra/tier-1s/red)"},
		{"DELETE", "/infra?path=/infra/no&path=/infra/segments/web&path=/infra/nor", "", 404, 600, "/infra/no, /infra/nor: does not exist"},
		{"DELETE", "/infra/segments/web", "", 403, 289, foreign},
		{"DELETE", "/infra/segments/web/ports/pod", "", 403, 289, foreign},
		{"PATCH", "/infra/segments/web/ports/pod", `{"display_name":"mine"}`, 403, 289, foreign},
		{"PUT", tier1, strings.Repeat(" ", policyapi.MaxBody+1), 413, 400, "body: has more than 67108864 bytes (send it in parts)"},
	} {
		code, text := a.ask(row.method, row.path, row.body)
		var e policyapi.Error
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Errorf("%s %s: %d %s: %v", row.method, row.path, code, text, err)
			continue
		}
		got := e.Message
		if len(e.Related) > 0 {
			var all []string
			for _, r := range e.Related {
				all = append(all, r.Message)
			}
			got = strings.Join(all, "|")
		}
		name := strings.ToUpper(strings.ReplaceAll(http.StatusText(row.status), " ", "_"))
		if code != row.status || e.Code != row.code || e.Name != name || e.Module != "policy" || got != row.want {
			t.Errorf("%s %s:\ngot  %d %d %s %s\nwant %d %d %s %s", row.method, row.path, code, e.Code, e.Name, got, row.status, row.code, name, row.want)
		}
	}
	if _, after := a.ask("GET", "/infra", ""); after != before {
		t.Error("something was changed:", cmp.Diff(before, after))
	}
}

// Who insists may change what a controller made; it stays the controller's.
func TestOverwrite(t *testing.T) {
	a := start(t)
	const owner store.Owner = "Namespace/a/1"
	made := intent.Put("/infra/tier-1s/red", &intent.Tier1{}).Object
	if _, problems, err := a.store.Replace(t.Context(), owner, made); err != nil || problems != nil {
		t.Fatal(problems, err)
	}
	a.good("PATCH", "/infra/tier-1s/red", `{"display_name":"mine"}`, "X-Allow-Overwrite: true")
	a.good("PUT", "/infra/tier-1s/red", `{"_revision":2,"description":"mine"}`, "X-Allow-Overwrite: true")
	a.good("PATCH", "/infra", "resource_type: Infra\nchildren: [{resource_type: ChildTier1, Tier1: {id: red, tags: [{scope: weft/owner, tag: Pod/x}]}}, {resource_type: ChildTier1, Tier1: {id: blue, tags: [{scope: weft/owner, tag: Pod/x}]}}]", "X-Allow-Overwrite: true")
	if d := cmp.Diff([]store.Owner{owner}, a.store.Owners("")); d != "" || len(a.store.Owned(owner)) != 1 {
		t.Error(d, a.store.Owned(owner))
	}
	a.good("DELETE", "/infra/tier-1s/red", "", "X-Allow-Overwrite: true")
	if code, text := a.ask("DELETE", "/infra/tier-1s/blue", "", "X-Allow-Overwrite: perhaps"); code != http.StatusBadRequest || !strings.Contains(text, `X-Allow-Overwrite: \"perhaps\": is not a truth value (true, false)`) {
		t.Errorf("%d %s", code, text)
	}
}

func TestReadTree(t *testing.T) {
	a := start(t)
	a.good("PATCH", "/infra", red)
	a.good("PATCH", "/infra", "resource_type: Infra\nchildren: [{resource_type: ChildFoo, Foo: {id: x, children: [{resource_type: ChildBar, Bar: {id: b}}]}}]")
	whole := a.good("GET", "/infra", "")
	bar := intent.Put("/infra/foos/x/bars/c", &intent.Opaque{Resource: intent.Resource{ResourceType: "Bar"}}).Object
	if _, problems, err := a.store.Replace(t.Context(), "Pod/a/b/1", bar, intent.Put("/infra/tier-1s/blue", &intent.Tier1{}).Object); err != nil || intent.HasErrors(problems) {
		t.Fatal(err, problems)
	}
	paths := func(query string) string {
		changes, problems := intent.Parse("", []byte(a.good("GET", "/infra"+query, "")))
		if intent.HasErrors(problems) {
			t.Error(problems)
		}
		var out []string
		for _, c := range changes {
			out = append(out, c.Path)
		}
		return strings.Join(out, " ")
	}
	const policy = "/infra/domains/default/security-policies/p"
	for query, want := range map[string]string{
		"?type_filter=Rule":                          intent.DefaultRulePath + " " + policy + "/rules/one " + policy + "/rules/two",
		"?type_filter=tier-1s,Segment":               "/infra/segments/web /infra/tier-1s/blue /infra/tier-1s/red",
		"?type_filter=security-policies":             intent.DefaultPolicyPath + " " + policy,
		"?base_path=/infra/segments/":                "/infra/segments/web /infra/segments/web/ports/a",
		"?base_path=" + policy + "&type_filter=Rule": policy + "/rules/one " + policy + "/rules/two",
		"?base_path=/infra/tier-1s/re":               "",
		"?base_path=/infra/foos/x/bars":              "/infra/foos/x /infra/foos/x/bars/b /infra/foos/x/bars/c", // nothing is known of a Foo
		"?owner=Pod/a/b/1":                           "/infra/foos/x /infra/foos/x/bars/c /infra/tier-1s/blue",
		"?owner=Pod/a/b/1&type_filter=Tier1":         "/infra/tier-1s/blue",
		"?owner=Pod/a/b":                             "",
		"?owner=&type_filter=Tier1":                  "/infra/tier-1s/red",
	} {
		if got := paths(query); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", query, got, want)
		}
	}
	// What is read can be given to an empty store.
	b := start(t)
	b.good("PATCH", "/infra", whole)
	b.good("PATCH", "/infra", whole)
	strip := func(s string) (out []string) {
		for line := range strings.Lines(s) {
			if !strings.Contains(line, `"_revision"`) {
				out = append(out, strings.Trim(line, " ,\n"))
			}
		}
		return out
	}
	if d := cmp.Diff(strip(whole), strip(b.good("GET", "/infra", ""))); d != "" {
		t.Error(d)
	}
}

func TestList(t *testing.T) {
	a := start(t)
	a.good("PATCH", "/infra", red)
	for i := range 5 {
		a.good("PATCH", fmt.Sprintf("/infra/tier-1s/t%d", i), "{}")
	}
	pages := func(path string, size int) (out []string, count int) {
		for cursor := ""; ; {
			var l policyapi.List
			if err := json.Unmarshal([]byte(a.good("GET", fmt.Sprintf("%s?page_size=%d&cursor=%s", path, size, cursor), "")), &l); err != nil {
				t.Fatal(err)
			}
			for _, data := range l.Results {
				var o struct{ ID string }
				if err := json.Unmarshal(data, &o); err != nil {
					t.Fatal(err)
				}
				out = append(out, o.ID)
			}
			if count = l.Count; l.Cursor == "" {
				return out, count
			}
			cursor = l.Cursor
		}
	}
	for size := 1; size < 8; size++ {
		got, count := pages("/infra/tier-1s", size)
		if d := cmp.Diff([]string{"red", "t0", "t1", "t2", "t3", "t4"}, got); d != "" || count != 6 {
			t.Errorf("pages of %d: %d, %s", size, count, d)
		}
	}
	if got, count := pages("/infra/tier-0s", 10); got != nil || count != 0 {
		t.Errorf("a collection without objects: %v %d", got, count)
	}
	if got := a.good("GET", "/infra/tier-0s", ""); got != `{"results":[],"result_count":0,"sort_by":"path","sort_ascending":true}` {
		t.Error(got)
	}
}

// A store that cannot commit is told as NSX tells it.
func TestStoreDown(t *testing.T) {
	a := start(t)
	a.store.Close()
	const want = `{"httpStatus":"SERVICE_UNAVAILABLE","error_code":98,"module_name":"policy","error_message":"store: is closed"}`
	if code, got := a.ask("PATCH", "/infra/tier-1s/red", "{}"); code != http.StatusServiceUnavailable || got != want {
		t.Errorf("%d %s", code, got)
	}
}
