package ingress

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestParse(t *testing.T) {
	env := func(key string) string {
		return map[string]string{"POD_NAME": "envoy-1", "POD_NAMESPACE": "contour"}[key]
	}
	c, err := parse([]string{"--publish-service", "a/b", "--connect-timeout", "3s", "--trusted-proxies", "10.0.0.0/8,fd00::/8"}, env, nil)
	must(t, err)
	if c.Class != "contour" || c.Pod != (types.NamespacedName{Namespace: "contour", Name: "envoy-1"}) || c.Publish.Name != "b" ||
		c.Limits.Connect != 3*time.Second || len(c.Trusted) != 2 {
		t.Errorf("got %+v", c)
	}
	c, err = parse(nil, env, nil)
	must(t, err)
	must(t, c.complete())
	if c.Publish != (types.NamespacedName{Namespace: "contour", Name: "envoy"}) {
		t.Errorf("published service: %s", c.Publish)
	}
	for args, want := range map[string]string{
		"--publish-service x":     `"x": is no name of an object (namespace/name)`,
		"--trusted-proxies 1.2.3": `"1.2.3": is no prefix (such as 10.0.0.0/8)`,
		"--connect-timeout 0s":    "--connect-timeout: is negative or nothing (a time such as 2s)",
		"--drain -1s":             "--drain: is negative or nothing (a time such as 2s)",
		"--class=":                "--class: is empty (a name such as contour)",
		"serve":                   `"serve": is no flag`,
	} {
		if _, err := parse(strings.Fields(args), env, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
}

func TestMainSaysWhatIsWrong(t *testing.T) {
	var out, errs strings.Builder
	if code := Main(t.Context(), []string{"--help"}, &out, &errs); code != 0 || !strings.Contains(out.String(), "-publish-service") {
		t.Errorf("help: %d %s", code, out.String())
	}
	if code := Main(t.Context(), []string{"--colour"}, &out, &errs); code != exitUsage || !strings.HasPrefix(errs.String(), "weft-ingress: -colour\n") {
		t.Errorf("unknown flag: %d %s", code, errs.String())
	}
	errs.Reset()
	if code := Main(t.Context(), []string{"--kubeconfig", "/does/not/exist", "--namespace", "x"}, &out, &errs); code != exitFailed || !strings.Contains(errs.String(), "/does/not/exist") {
		t.Errorf("no kubeconfig: %d %s", code, errs.String())
	}
}
