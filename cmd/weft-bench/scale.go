package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/weft-net/weft/bench/scale"
)

// scaleMain is `weft-bench scale`. args begin with the program.
func scaleMain(ctx context.Context, args []string) error {
	here, err := os.Executable()
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet(args[0]+" scale", flag.ExitOnError)
	c := scale.Config{Size: scale.Goal(), Command: args}
	flags.IntVar(&c.Namespaces, "namespaces", c.Namespaces, "how many namespaces are loaded")
	flags.IntVar(&c.Pods, "pods", c.Pods, "how many pods are loaded")
	flags.IntVar(&c.Services, "services", c.Services, "how many Services are loaded")
	flags.IntVar(&c.Policies, "policies", c.Policies, "how many NetworkPolicies are loaded")
	part := flags.Int("part", 1, "load one `part`th of all these")
	flags.IntVar(&c.Samples, "samples", 200, "how many policies and pods are measured")
	flags.IntVar(&c.Rate, "rate", 10, "pods a second when pods are measured")
	flags.IntVar(&c.Flips, "flips", 20, "how often a packet is stopped by a policy and let through again")
	flags.IntVar(&c.Parallel, "parallel", 16, "requests to the API server at a time")
	flags.StringVar(&c.Bin, "bin", filepath.Dir(here), "`directory` of weftd, weft-agent and weft-cni")
	flags.StringVar(&c.Kubernetes, "kubernetes", "/var/cache/weft/kube/v1.37.1", "`directory` of etcd and kube-apiserver")
	flags.StringVar(&c.Dir, "dir", "", "`directory` of all that is written, kept at the end (default a temporary one that is not)")
	flags.BoolVar(&c.Loaded, "loaded", false, "start what an earlier run loaded into -dir again, and measure")
	flags.StringVar(&c.Date, "date", time.Now().UTC().Format(time.RFC3339), "date to keep in the report")
	out := flags.String("o", "", "`file` for the report as JSON")
	if err := flags.Parse(args[2:]); err != nil {
		return err
	}
	for _, n := range []*int{&c.Namespaces, &c.Pods, &c.Services, &c.Policies} {
		*n /= max(*part, 1)
	}
	c.Keep = c.Dir != ""
	start := time.Now()
	c.Progress = func(what string) { fmt.Fprintf(os.Stderr, "%7.1f s  %s\n", time.Since(start).Seconds(), what) }
	rep, err := scale.Run(ctx, c)
	if rep == nil {
		return err
	}
	err = errors.Join(err, rep.WriteText(os.Stdout))
	if *out == "" {
		return err
	}
	f, create := os.Create(*out)
	if create != nil {
		return errors.Join(err, create)
	}
	return errors.Join(err, rep.WriteJSON(f), f.Close())
}
