package ingress

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
)

// Exit codes of Main.
const (
	exitFailed = 1
	exitUsage  = 2
)

const usage = `Serves the Ingresses of a class: it follows them and the Services, EndpointSlices
and Secrets that they name, and is the proxy that answers their hosts. It runs
as a pod, with the pod's service account, or beside a cluster with --kubeconfig.

Usage:
  weft-ingress [flags]

It serves, at --status: /healthz, /readyz (200 once it has read all Ingresses)
and /metrics.

It ends by SIGTERM or SIGINT, when the requests that it has begun are done, with
code 0; code 1: it could not go on, 2: the command line is wrong.

Flags:
`

// Config says what a program serves, and where.
type Config struct {
	Class      string               // of the Ingresses
	Publish    types.NamespacedName // Service whose addresses they get; without a namespace: of this pod's
	Default    types.NamespacedName // Secret of the certificate for hosts without their own; zero: none
	Pod        types.NamespacedName // this pod, the source of Traces
	Trusted    []netip.Prefix       // peers whose X-Forwarded-For counts
	HTTP       string               // address
	HTTPS      string               // address; empty: none
	Status     string               // address; empty: none
	Kubeconfig string               // file; empty: the pod's service account
	Explain    bool                 // ask why an endpoint is not reached, and say it to clients
	Limits     Limits
	Response   time.Duration // for the first header of a response; 0: no limit
	Drain      time.Duration // between not being ready and taking no more connections
	Shutdown   time.Duration // for the requests that have begun
}

// parse reads a command line.
// Errors: flag.ErrHelp if help is wanted; what is wrong.
func parse(args []string, env func(string) string, w io.Writer) (Config, error) {
	c := Config{Limits: DefaultLimits()}
	f := flag.NewFlagSet("weft-ingress", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.Class, "class", "contour", "`class` of the Ingresses to serve: by annotation kubernetes.io/ingress.class or spec.ingressClassName")
	f.Func("publish-service", "`namespace/name` of the Service whose addresses the Ingresses get (default envoy in the pod's namespace)", objectName(&c.Publish))
	f.Func("default-certificate", "`namespace/name` of the Secret of the certificate for hosts without their own (default none)", objectName(&c.Default))
	f.StringVar(&c.Pod.Name, "pod", env("POD_NAME"), "`name` of this pod (default $POD_NAME, else the host name)")
	f.StringVar(&c.Pod.Namespace, "namespace", env("POD_NAMESPACE"), "`namespace` of this pod (default $POD_NAMESPACE, else the service account's)")
	f.Func("trusted-proxies", "`prefixes`, with commas between, of peers whose X-Forwarded-For is kept (default none)", prefixes(&c.Trusted))
	f.StringVar(&c.HTTP, "http", ":8080", "`address` for HTTP")
	f.StringVar(&c.HTTPS, "https", ":8443", "`address` for HTTPS; empty: none")
	f.StringVar(&c.Status, "status", ":8002", "`address` for /healthz, /readyz and /metrics; empty: none")
	f.StringVar(&c.Kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server (default the pod's service account)")
	f.BoolVar(&c.Explain, "explain", true, "tell clients which firewall rule drops the way to an endpoint")
	f.DurationVar(&c.Limits.Connect, "connect-timeout", c.Limits.Connect, "`time` for an endpoint to take a connection")
	f.DurationVar(&c.Response, "response-timeout", time.Minute, "`time` for an endpoint to begin its response; 0: no limit")
	f.DurationVar(&c.Drain, "drain", 2*time.Second, "`time` to go on taking connections after SIGTERM, until others know that this pod is not ready")
	f.DurationVar(&c.Shutdown, "shutdown-timeout", 20*time.Second, "`time` for requests that have begun")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			_, _ = io.WriteString(w, usage) // help has no other way to fail
			f.SetOutput(w)
			f.PrintDefaults()
		}
		return c, err
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("%q: is no flag", f.Arg(0))
	}
	for name, d := range map[string]time.Duration{"response-timeout": c.Response, "drain": c.Drain, "shutdown-timeout": c.Shutdown, "connect-timeout": c.Limits.Connect - 1} {
		if d < 0 {
			return c, fmt.Errorf("--%s: is negative or nothing (a time such as 2s)", name)
		}
	}
	if c.Class == "" {
		return c, errors.New("--class: is empty (a name such as contour)")
	}
	return c, nil
}

// objectName is a flag that names an object.
func objectName(to *types.NamespacedName) func(string) error {
	return func(text string) error {
		namespace, name, ok := strings.Cut(text, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return fmt.Errorf("%q: is no name of an object (namespace/name)", text)
		}
		*to = types.NamespacedName{Namespace: namespace, Name: name}
		return nil
	}
}

// prefixes is a flag that lists prefixes.
func prefixes(to *[]netip.Prefix) func(string) error {
	return func(text string) error {
		*to = nil
		for _, one := range strings.Split(text, ",") {
			p, err := netip.ParsePrefix(one)
			if err != nil {
				return fmt.Errorf("%q: is no prefix (such as 10.0.0.0/8)", one)
			}
			*to = append(*to, p)
		}
		return nil
	}
}

// namespaceFile is what a pod learns its namespace from.
// Source: Kubernetes documentation, Accessing the API from within a Pod.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// complete finds out what the command line does not say.
// Errors: it can not be found out.
func (c *Config) complete() error {
	if c.Pod.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("--pod: is not given, and %w", err)
		}
		c.Pod.Name = name
	}
	if c.Pod.Namespace == "" {
		text, err := os.ReadFile(namespaceFile)
		if err != nil {
			return fmt.Errorf("--namespace: is not given, and %w", err)
		}
		c.Pod.Namespace = strings.TrimSpace(string(text))
	}
	if c.Publish == (types.NamespacedName{}) {
		c.Publish = types.NamespacedName{Namespace: c.Pod.Namespace, Name: "envoy"}
	}
	return nil
}

// Main is the ingress controller as a program: it runs until ctx ends and
// returns the exit code. Logs go to stderr, a line each.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, os.Getenv, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "weft-ingress: %s\nsee 'weft-ingress --help'\n", strings.TrimPrefix(err.Error(), "flag provided but not defined: "))
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := start(ctx, c, log); err != nil {
		log.Error("ended", "error", err)
		return exitFailed
	}
	log.Info("ended")
	return 0
}

func start(ctx context.Context, c Config, log *slog.Logger) error {
	if err := c.complete(); err != nil {
		return err
	}
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler())) // it complains without one
	var cfg *rest.Config
	var err error
	if c.Kubeconfig == "" {
		cfg, err = rest.InClusterConfig()
	} else {
		cfg, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	}
	if err != nil {
		return fmt.Errorf("api server: %w", err)
	}
	return Run(ctx, cfg, c, log)
}
