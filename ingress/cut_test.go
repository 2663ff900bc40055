package ingress

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/need"
)

// inside is set in the process that has a network of its own.
const inside = "WEFT_TEST_INSIDE"

// A rule that begins to drop cuts connections that are kept for later requests,
// and says nothing: the next request is told so in time, not when its response
// is overdue.
func TestProxyGivesUpWhatIsCut(t *testing.T) {
	need.Root(t)
	need.Tool(t, "ip", "nft")
	if os.Getenv(inside) == "" {
		c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		c.Env = append(os.Environ(), inside+"=1")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	run("ip", "link", "set", "lo", "up")
	shop := backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "shop") })
	e := &fakeExplainer{text: "dropped by rule 1005"}
	f := newFront(t, NewProxy(quiet(), Limits{Connect: 300 * time.Millisecond}, nil, e))
	f.SetTable(one("x", nil, shop))
	if status, body := f.get(t, "http://x/"); status != 200 || body != "shop" {
		t.Fatalf("%d %s", status, body)
	}
	run("nft", fmt.Sprintf("add table ip cut; add chain ip cut in { type filter hook input priority 0; }; add rule ip cut in tcp dport %d drop", shop.Port()))
	begun := time.Now()
	res, err := f.client.Post("http://x/", "text/plain", strings.NewReader("order")) // which may not be sent twice
	must(t, err)
	defer res.Body.Close()
	if took := time.Since(begun); res.StatusCode != 503 || took > 5*time.Second || len(e.to) != 1 {
		t.Errorf("%d after %s, asked %v", res.StatusCode, took, e.to)
	}
	run("nft", "delete table ip cut")
	if status, _ := f.get(t, "http://x/"); status != 200 {
		t.Errorf("mended: %d", status)
	}
}
