// Command weft-bench measures Weft's data plane beside the conventional ways to build the same network.
//
//	weft-bench -o bench.json
//	weft-bench -tests rr,crr -paths raw,t0 -duration 5s
//
// It needs root and two CPUs. See docs/performance.md for what it measures and how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/weft-net/weft/bench"
	"github.com/weft-net/weft/bench/load"
)

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "weft-bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if load.Requested(args) {
		return load.Main(args, os.Stdout)
	}
	c, out, err := parse(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	rep, err := bench.Run(ctx, c)
	if rep == nil || len(rep.Samples) == 0 {
		return err
	}
	return errors.Join(err, write(rep, out))
}

// parse returns the configuration and the name of the JSON file, which may be empty.
func parse(args []string) (c bench.Config, out string, err error) {
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	duration := flags.Duration("duration", 2*time.Second, "length of one sample")
	repeats := flags.Int("repeats", 5, "samples of each test over each path")
	paths := flags.String("paths", "", "comma-separated `names`, all if empty: "+strings.Join(names(bench.Paths(), entryName), ","))
	tests := flags.String("tests", "", "comma-separated `names`, all if empty: "+strings.Join(names(bench.Tests(), testName), ","))
	date := flags.String("date", time.Now().UTC().Format(time.RFC3339), "date to keep in the report")
	flags.StringVar(&out, "o", "", "`file` for the report as JSON")
	if err := flags.Parse(args[1:]); err != nil {
		return c, "", err
	}
	c = bench.Config{Duration: *duration, Repeats: *repeats, Date: *date, Command: args}
	if c.Paths, err = choose("paths", *paths, bench.Paths(), entryName); err != nil {
		return c, "", err
	}
	if c.Tests, err = choose("tests", *tests, bench.Tests(), testName); err != nil {
		return c, "", err
	}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		c.Progress = func(done, total int, test, path string) {
			fmt.Fprintf(os.Stderr, "\r\x1b[K%d/%d %s %s", done+1, total, test, path)
		}
	}
	return c, out, nil
}

func entryName(e bench.Entry) string { return e.Name }
func testName(t bench.Test) string   { return string(t.Kind) }

func names[T any](all []T, name func(T) string) []string {
	var s []string
	for _, x := range all {
		s = append(s, name(x))
	}
	return s
}

// choose returns those of all that list names, in the order of all; everything for an empty list.
func choose[T any](flag, list string, all []T, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	want := strings.Split(list, ",")
	for _, w := range want {
		if !slices.Contains(names(all, name), w) {
			return nil, fmt.Errorf("-%s: %q: unknown (%s)", flag, w, strings.Join(names(all, name), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(x T) bool { return !slices.Contains(want, name(x)) }), nil
}

// write prints the tables and, if file is not empty, writes the report to it.
func write(rep *bench.Report, file string) error {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
	if err := rep.WriteTables(os.Stdout); err != nil || file == "" {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := rep.WriteJSON(f); err != nil {
		return err
	}
	return f.Close()
}
