// Command weft-bench measures Weft's data plane beside the conventional ways to build the same network.
//
//	weft-bench -o bench.json
//	weft-bench -tests rr,crr -paths raw,t0 -duration 5s
//	weft-bench scale -part 20
//
// scale measures the control plane with a large Kubernetes instead. It needs root and two CPUs. See docs/performance.md for what it measures and how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if len(args) > 1 && args[1] == "scale" {
		return scaleMain(ctx, args)
	}
	c, out, err := parse(args)
	if err != nil {
		return err
	}
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
