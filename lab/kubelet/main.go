package kubelet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"k8s.io/client-go/tools/clientcmd"
)

// Exit codes of Main.
const (
	exitFailed = 1
	exitUsage  = 2
)

const usage = `Is the kubelet of one or more nodes of a lab: runs their pods as processes of
this machine in namespaces of their own, attached by CNI. Images stand for
built-in programs. It must run as root, and may be killed at any time: pods go on.

Usage:
  weft-node [flags]
  weft-node purge [flags]    takes away all pods of the nodes, without the API

Example:
  weft-node --nodes worker1,worker2 --kubeconfig-dir /run/lab/kubernetes \
    --dir /run/lab/nodes --cni-conf-dir /run/lab/cni --cni-bin-dir /usr/lib/weft

It ends by SIGTERM or SIGINT with code 0; code 1: it could not go on, 2: the
command line is wrong.

Flags:
`

// command is a parsed command line.
type command struct {
	nodes       []string
	kubeconfigs string
	images      string
	dns         string
	shared      Config // what all nodes have
	purge       bool
}

// Main is weft-node as a program: it runs until ctx ends and returns the exit
// code. Logs go to stderr, a line each.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		switch args[0] {
		case podInitProgram:
			return told(stderr, servePod(strings.Join(args[1:], "")))
		case containerInitProgram:
			return startContainer()
		case pauseProgram:
			<-ctx.Done()
			return 0
		case webProgram:
			return told(stderr, serveWeb(ctx, args[1:], stdout, stderr))
		}
	}
	c, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "weft-node: %v\nsee 'weft-node --help'\n", err)
		return exitUsage
	}
	c.shared.Log = slog.New(slog.NewTextHandler(stderr, nil))
	return told(stderr, c.run(ctx))
}

func told(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "weft-node:", err)
	return exitFailed
}

// parse reads a command line.
// Errors: flag.ErrHelp if help is wanted; what is wrong.
func parse(args []string, w io.Writer) (*command, error) {
	c := new(command)
	if len(args) > 0 && args[0] == "purge" {
		c.purge, args = true, args[1:]
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &c.shared
	s.Program = self
	f := flag.NewFlagSet("weft-node", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	nodes := f.String("nodes", "", "`names` of the nodes, separated by commas")
	f.StringVar(&c.kubeconfigs, "kubeconfig-dir", "", "`directory` with node-<name>.kubeconfig for each node")
	f.StringVar(&s.Dir, "dir", "/run/weft-node", "`directory` of what it needs to find its pods again")
	f.StringVar(&s.CNIConfDir, "cni-conf-dir", "/etc/cni/net.d", "`directory` with *.conflist, the first of which is the network of pods")
	f.StringVar(&s.CNIBinDir, "cni-bin-dir", "/opt/cni/bin", "`directory` of CNI plugins")
	f.StringVar(&s.NetnsPrefix, "netns-prefix", "weft-pod-", "`prefix` of the names of pods' network namespaces")
	f.StringVar(&s.Ingress, "ingress", filepath.Join(filepath.Dir(self), "weft-ingress"), "`program` that images of weft-ingress stand for")
	f.StringVar(&c.images, "images", "", "YAML `file` with a list of pattern and program (web, ingress, shell, pause), instead of the built-in images")
	f.StringVar(&c.dns, "cluster-dns", "", "`addresses` of the cluster's DNS servers, separated by commas; none: pods use the machine's")
	f.IntVar(&s.MaxPods, "max-pods", DefaultMaxPods, "`number` of pods of a node")
	err = f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		io.WriteString(w, usage)
		f.SetOutput(w)
		f.PrintDefaults()
		return nil, err
	}
	if err == nil && f.NArg() > 0 {
		err = fmt.Errorf("%q: is no flag", f.Arg(0))
	}
	if err != nil {
		return nil, err
	}
	return c, c.check(*nodes)
}

func (c *command) check(nodes string) (err error) {
	seen := map[string]bool{}
	for name := range strings.SplitSeq(nodes, ",") {
		if name = strings.TrimSpace(name); name != "" && !seen[name] {
			c.nodes, seen[name] = append(c.nodes, name), true
		}
	}
	if len(c.nodes) == 0 {
		return errors.New("--nodes: is missing (names, separated by commas)")
	}
	if c.kubeconfigs == "" && !c.purge {
		return errors.New("--kubeconfig-dir: is missing (a directory)")
	}
	if c.shared.MaxPods < 1 {
		return fmt.Errorf("--max-pods: %d: is no number of pods (at least 1)", c.shared.MaxPods)
	}
	if c.images != "" {
		if c.shared.Images, err = LoadImages(c.images); err != nil {
			return err
		}
	}
	for text := range strings.SplitSeq(c.dns, ",") {
		if text == "" {
			continue
		}
		a, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("--cluster-dns: %q: is no address", text)
		}
		c.shared.DNS = append(c.shared.DNS, a)
	}
	if c.shared.Dir, err = filepath.Abs(c.shared.Dir); err != nil {
		return err
	}
	return nil
}

// config returns what one node is.
func (c *command) config(node string) (Config, error) {
	n := c.shared
	n.Name, n.Dir = node, filepath.Join(c.shared.Dir, node)
	if c.purge {
		return n, nil
	}
	file := filepath.Join(c.kubeconfigs, "node-"+node+".kubeconfig")
	api, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return n, fmt.Errorf("node %s: %w", node, err)
	}
	api.QPS, api.Burst = 50, 100
	n.API = api
	n.Hide = []string{c.kubeconfigs, c.shared.Dir}
	return n, nil
}

// run is all nodes until ctx ends or one can not go on.
func (c *command) run(ctx context.Context) error {
	var configs []Config
	for _, name := range c.nodes {
		n, err := c.config(name)
		if err != nil {
			return err
		}
		configs = append(configs, n)
	}
	do := Run
	if c.purge {
		do = Purge
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	problems := make([]error, len(configs))
	for i, n := range configs {
		all.Go(func() {
			if problems[i] = do(ctx, n); problems[i] != nil && !c.purge {
				cancel()
			}
		})
	}
	all.Wait()
	return errors.Join(problems...)
}
