package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
	"github.com/weft-net/weft/pipeline"
)

// flowFilter says which connections are wanted; empty strings: all.
type flowFilter struct {
	src, dst     string // address or prefix
	port         uint16 // destination port; 0: any
	proto, state string
	rule         string // id, policy path or name of a firewall or NAT rule
	server       string // policy path or name
	member       string // address, or address:port
}

// picky is a flowFilter that was read.
type picky struct {
	flowFilter
	from, to netip.Prefix // invalid: any
	number   packet.Proto
	how      pipeline.ConnState // 0: any
}

// flowStates are the words of --state.
var flowStates = []pipeline.ConnState{pipeline.ConnNew, pipeline.ConnReplied, pipeline.ConnEstablished, pipeline.ConnClosing}

// read checks what people wrote.
// Errors: all that is wrong.
func (f flowFilter) read() (p picky, err error) {
	p.flowFilter = f
	var errs [4]error
	p.from, errs[0] = readPrefix("--src", f.src)
	p.to, errs[1] = readPrefix("--dst", f.dst)
	p.number, errs[2] = readProto(f.proto)
	if f.state != "" {
		i := slices.IndexFunc(flowStates, func(s pipeline.ConnState) bool { return s.String() == f.state })
		if i < 0 {
			errs[3] = fmt.Errorf("--state: %q: is no state (new, replied, established, closing)", f.state)
		} else {
			p.how = flowStates[i]
		}
	}
	return p, errors.Join(errs[:]...)
}

func readPrefix(flag, text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%s: %q: is neither an address nor a prefix", flag, text)
	}
	return p.Masked(), nil
}

func readProto(text string) (packet.Proto, error) {
	if text == "" {
		return 0, nil
	}
	for _, p := range []packet.Proto{packet.TCP, packet.UDP, packet.ICMP, packet.SCTP} {
		if p.String() == text {
			return p, nil
		}
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("--proto: %q: is no protocol (tcp, udp, icmp, sctp, or a number)", text)
	}
	return packet.Proto(n), nil
}

// known checks that the tables have what p names, so that a slip of the pen does
// not look like silence. A rule's id may be of one that is gone.
func (p *picky) known(names *dataplane.Names) error {
	_, err := strconv.ParseUint(p.rule, 10, 32)
	rule, server := p.rule == "" || err == nil, p.server == ""
	var servers []string
	names.Countable(func(k pipeline.TallyKey) {
		n := names.Tallied(k)
		if k.Kind != pipeline.TallyServer {
			rule = rule || p.isRule(n)
			return
		}
		servers = append(servers, n.Name)
		server = server || p.isServer(n.Name, n.Path)
	})
	if !server {
		slices.Sort(servers)
		return fmt.Errorf("--server: %q: is no virtual server (%s)", p.server, cmp.Or(strings.Join(servers, ", "), "there is none"))
	}
	if !rule {
		return fmt.Errorf("--rule: %q: is the id, policy path or name of no rule", p.rule)
	}
	return nil
}

func (p *picky) isRule(r dataplane.RuleName) bool {
	return p.rule == r.Path || p.rule == r.Name || p.rule == strconv.FormatUint(uint64(r.ID), 10)
}

func (p *picky) isServer(name, path string) bool { return p.server == path || p.server == name }

// takes reports whether c is wanted. Addresses and ports are looked for as the
// connection began and as the other side sees it.
func (p *picky) takes(c *dataplane.Connection, names *dataplane.Names) bool {
	switch {
	case c.Over,
		p.how != 0 && c.State != p.how,
		p.number != 0 && c.Tuple.Proto != p.number,
		p.from.IsValid() && !p.from.Contains(c.Tuple.Src) && !p.from.Contains(c.To.Src),
		p.to.IsValid() && !p.to.Contains(c.Tuple.Dst) && !p.to.Contains(c.To.Dst),
		p.port != 0 && c.Tuple.DstPort != p.port && c.To.DstPort != p.port:
		return false
	}
	return p.takesRule(c, names) && p.takesServer(c, names)
}

func (p *picky) takesRule(c *dataplane.Connection, names *dataplane.Names) bool {
	if p.rule == "" {
		return true
	}
	return slices.ContainsFunc(c.Rules, func(id uint32) bool { return p.isRule(names.Rule(id)) }) ||
		slices.ContainsFunc(c.NATs, func(id uint32) bool { return p.isRule(names.NAT(id)) })
}

func (p *picky) takesServer(c *dataplane.Connection, names *dataplane.Names) bool {
	if p.server != "" {
		s := names.Server(c.Server)
		if s == nil || !p.isServer(s.Name, s.Path) {
			return false
		}
	}
	if p.member == "" {
		return true
	}
	if c.Server == 0 {
		return false
	}
	// as the connection has it: that is right for a member that is gone, too
	at := netip.AddrPortFrom(c.To.Dst, c.To.DstPort).String()
	m := names.Member(c.Member)
	return p.member == at || strings.HasPrefix(at, p.member+":") || m != nil && p.member == m.Name
}
