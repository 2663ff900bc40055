package need

import (
	"runtime"
	"strings"
	"testing"
)

// recorder is a testing.TB that keeps how the test under it ended.
type recorder struct {
	testing.TB
	ended string
}

func (r *recorder) Helper() {}

func (r *recorder) Skip(args ...any) {
	r.ended = "skip: " + args[0].(string)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.ended = "fail: " + args[0].(string)
	runtime.Goexit()
}

// outcome runs fn on a goroutine of its own, which Skip and Fatalf may end.
func outcome(t *testing.T, fn func(testing.TB)) string {
	r := &recorder{TB: t, ended: "pass"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(r)
	}()
	<-done
	return r.ended
}

func TestUnmetNeedSkipsOrFailsAsRequireSays(t *testing.T) {
	missing := func(tb testing.TB) { Tool(tb, "go", "no-such-program") }
	for _, tc := range []struct {
		require, want string
	}{
		{"", "skip: needs the program no-such-program"},
		{"root,bpf", "skip: needs the program no-such-program"},
		{"tools", "fail: needs the program no-such-program"},
		{"root,tools", "fail: needs the program no-such-program"},
	} {
		t.Setenv("REQUIRE", tc.require)
		if got := outcome(t, missing); !strings.HasPrefix(got, tc.want) {
			t.Errorf("REQUIRE=%q: %s, want %s", tc.require, got, tc.want)
		}
	}
}

func TestMetNeedLetsTheTestGoOn(t *testing.T) {
	t.Setenv("REQUIRE", "tools")
	if got := outcome(t, func(tb testing.TB) { Tool(tb, "go") }); got != "pass" {
		t.Errorf("got %s, want pass", got)
	}
}
