package scenario_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-net/weft/internal/netns"
	"github.com/weft-net/weft/internal/scenario"
	"github.com/weft-net/weft/lab"
	"github.com/weft-net/weft/packet"
)

// How long to wait for an answer that should come, for one that should not,
// and for a program.
const (
	hopeful  = 5 * time.Second
	doubtful = time.Second
	program  = 30 * time.Second
)

// patience is how long an answer to f is waited for, a refusal too.
func patience(f *scenario.Flow) time.Duration {
	if f.Outcome() == scenario.Dropped {
		return doubtful
	}
	return hopeful
}

// in runs fn in the namespace of a machine.
func in(m *lab.Machine, fn func() error) error {
	n, err := netns.Open(m.Namespace)
	if err != nil {
		return err
	}
	defer n.Close()
	return n.Do(fn)
}

// Connect makes a connection with sockets, or with ping.
func (r *lived) Connect(_ *scenario.World, f *scenario.Flow) (string, error) {
	if f.Proto == packet.ICMP {
		return r.ping(f)
	}
	c, got, err := r.open(f, patience(f))
	if c != nil {
		c.Close()
	}
	return got, err
}

// Hold makes a connection and keeps it.
func (r *lived) Hold(w *scenario.World, name string, f *scenario.Flow) (string, error) {
	if f.Proto == packet.ICMP {
		return "", fmt.Errorf("hold %s: ping is no connection (tcp, udp)", name)
	}
	if _, err := r.Predicted.Hold(w, name, f); err != nil {
		return "", err
	}
	wait := doubtful
	if r.Holds(name) {
		wait = hopeful
	}
	c, got, err := r.open(f, wait)
	if c != nil {
		r.held[name] = c
	}
	return got, err
}

// Release closes the sockets of a kept connection.
func (r *lived) Release(w *scenario.World, name string) error {
	if err := r.Predicted.Release(w, name); err != nil {
		return err
	}
	c := r.held[name]
	delete(r.held, name)
	return c.Close()
}

// Held sends data on a kept connection and waits for it to come back. TCP on a
// connection that was cut sends again with growing pauses: a hopeful wait is
// longer than those.
func (r *lived) Held(w *scenario.World, name string, bytes int) (string, error) {
	predicted, err := r.Predicted.Held(w, name, bytes)
	if err != nil {
		return "", err
	}
	wait := doubtful
	if predicted != scenario.Dropped {
		wait = hopeful
	}
	if _, err := r.held[name].exchange(bytes, wait); err != nil {
		return outcome(err)
	}
	return scenario.Passes, nil
}

// receive starts what answers f, wherever a machine should.
func (r *lived) receive(f *scenario.Flow, start func(netip.AddrPort) error) error {
	m, at := r.receiver(f)
	for _, other := range members(f) { // the trace can not know whose turn it is
		if other != at {
			if m := r.machine(portOf(f, other.Addr()), other.Addr()); m != nil {
				if err := in(m, func() error { return start(other) }); err != nil {
					return err
				}
			}
		}
	}
	if m != nil {
		return in(m, func() error { return start(at) })
	}
	return nil
}

// members returns where the members of the virtual server that f asks listen.
func members(f *scenario.Flow) (out []netip.AddrPort) {
	for k, v := range f.Tables().VIPs.All() {
		if s := v.Server(uint8(f.Proto), f.DstPort); s != nil && k.Addr == f.Dst && f.Tables().Pools.Get(s.Pool) != nil {
			for _, m := range f.Tables().Pools.Get(s.Pool).Members {
				out = append(out, netip.AddrPortFrom(m.Addr, cmp.Or(m.Port, s.MemberPort, f.DstPort)))
			}
		}
	}
	return out
}

// portOf returns the path of a port that has an address, of several the first;
// empty: none has.
func portOf(f *scenario.Flow, a netip.Addr) string {
	var paths []string
	for k, e := range f.Tables().Endpoints.All() {
		if k.Addr == a {
			paths = append(paths, f.Tables().Ports.Get(e.Port).Path)
		}
	}
	slices.Sort(paths)
	return strings.Join(paths[:min(1, len(paths))], "")
}

// told matches what ping prints of an ICMP error.
var told = regexp.MustCompile(`(?m)^From .*(Unreachable|filtered|exceeded)`)

// ping sends one echo request. The receiver's source is heard by a raw socket.
func (r *lived) ping(f *scenario.Flow) (string, error) {
	var ear *echoes
	if err := r.receive(f, func(at netip.AddrPort) (err error) {
		ear, err = listenEcho(at.Addr())
		return err
	}); err != nil {
		return "", err
	}
	if ear != nil {
		defer ear.Close()
	}
	wait := strconv.Itoa(int(doubtful.Seconds())) // an error does not end ping's wait
	if f.Result.Arrives() {
		wait = strconv.Itoa(int(hopeful.Seconds()))
	}
	out, err := r.run(r.sender(f), []string{"ping", "-n", "-c", "1", "-W", wait, "-I", f.Src.String(), f.Dst.String()})
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		return "", err
	}
	switch {
	case err != nil && told.MatchString(out):
		return scenario.Refused, nil
	case err != nil:
		return scenario.Dropped, nil
	case ear == nil:
		return scenario.Answered, nil
	}
	source, err := ear.source(hopeful)
	return scenario.Seen(source), err
}

// Inside implements scenario.Proof.
func (r *lived) Inside(machine string, argv []string) (string, error) {
	i := slices.IndexFunc(r.plan.Machines, func(m lab.Machine) bool { return m.Name == machine })
	if i < 0 {
		return "", fmt.Errorf("inside: %s: is no machine", machine)
	}
	return r.run(&r.plan.Machines[i], argv)
}

// run runs a program in a machine and returns what it prints.
func (r *lived) run(m *lab.Machine, argv []string) (string, error) {
	if m == nil {
		return "", errors.New("no machine sends this")
	}
	ctx, cancel := context.WithTimeout(r.context(), program)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := in(m, cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out.String())
	}
	return out.String(), err
}

// probes is how often a traceroute that finds something else than the trace is
// repeated: the kernels of machines limit the rate of their ICMP errors.
const probes = 3

// Traceroute runs the real one, as far as a hop behind the last of the trace.
func (r *lived) Traceroute(_ *scenario.World, f *scenario.Flow) (hops []string, err error) {
	from := r.sender(f)
	if from == nil {
		return nil, errors.New("no machine sends this")
	}
	want := f.Hops()
	outside := 0 // hops before the tables
	if from.Kind == lab.Outside {
		outside = 1
	}
	argv := []string{"traceroute", "-n", "-q", "1", "-w", "1", "-m", strconv.Itoa(outside + len(want) + 1), "-s", f.Src.String()}
	switch f.Proto {
	case packet.ICMP:
		argv = append(argv, "-I")
	case packet.TCP:
		argv = append(argv, "-T", "-p", strconv.Itoa(int(f.DstPort)))
	case packet.UDP:
		argv = append(argv, "-U", "-p", strconv.Itoa(int(f.DstPort)))
	}
	argv = append(argv, f.Dst.String())
	for range probes {
		out, err := r.run(from, argv)
		if err != nil {
			return nil, err
		}
		if hops = hopsOf(out, outside); slices.Equal(hops, want) {
			return hops, nil
		}
		time.Sleep(time.Second) // what the kernels' limits refill in
	}
	return hops, nil
}

// hop matches a line of traceroute: its number, the address or a star, and the
// annotation.
var hop = regexp.MustCompile(`(?m)^ *\d+ +(\S+)(?:[^!\n]*(![A-Z]))?`)

// hopsOf reads the output of traceroute as scenario.Flow.Hops has it, without
// the hops before the tables.
func hopsOf(out string, outside int) []string {
	var all []string
	for _, m := range hop.FindAllStringSubmatch(out, -1) {
		all = append(all, strings.TrimSpace(m[1]+" "+m[2]))
	}
	all = all[min(outside, len(all)):]
	silent := false
	for len(all) > 0 && all[len(all)-1] == "*" {
		all, silent = all[:len(all)-1], true
	}
	if silent {
		all = append(all, "*")
	}
	return all
}
