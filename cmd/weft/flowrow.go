package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-net/weft/dataplane"
	"github.com/weft-net/weft/packet"
)

// flowRow is one connection as weft shows it. The names of JSON are stable.
type flowRow struct {
	Host     string `json:"host"`
	Protocol string `json:"protocol"`
	// As the connection's first packet had it when it came, and when it left.
	Source          string `json:"source"`
	Destination     string `json:"destination"`
	SourceSeen      string `json:"source_seen"`
	DestinationSeen string `json:"destination_seen"`

	From    string `json:"from,omitempty"` // policy path of the port or uplink; empty: it is gone
	To      string `json:"to,omitempty"`
	NextHop string `json:"next_hop,omitempty"`
	Hops    uint8  `json:"hops"`

	Rules    []ruleRef `json:"rules"`
	NATRules []ruleRef `json:"nat_rules"`
	Server   *serverAt `json:"virtual_server,omitempty"`

	State   string `json:"state"`
	Age     int64  `json:"age_seconds"`
	Idle    int64  `json:"idle_seconds"`
	Request oneWay `json:"original"`
	Reply   oneWay `json:"reply"`

	id    flowID
	quiet time.Duration // Idle, not rounded
}

// flowID names a connection as long as it lives.
type flowID struct {
	host   string
	device int
	tuple  packet.Tuple
}

// serverAt is who took a connection.
type serverAt struct {
	Name   string `json:"name,omitempty"`
	Path   string `json:"path,omitempty"`
	Pool   string `json:"pool,omitempty"` // policy path
	Member string `json:"member"`         // its address and port
}

// oneWay is what one direction did.
type oneWay struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// idOf returns the id of a connection of host.
func idOf(host string, c *dataplane.Connection) flowID {
	id := flowID{host: host, tuple: c.Tuple}
	if c.Zone.VRF == 0 { // an uplink's may change
		id.device = c.InDev
	}
	return id
}

// rowOf copies what c has.
func rowOf(host string, c *dataplane.Connection, names *dataplane.Names) flowRow {
	r := flowRow{
		Host: host, Protocol: c.Tuple.Proto.String(),
		Source: sender(c.Tuple), Destination: receiver(c.Tuple), SourceSeen: sender(c.To), DestinationSeen: receiver(c.To),
		Hops: c.Hops, Rules: []ruleRef{}, NATRules: []ruleRef{},
		State: c.State.String(), Age: seconds(c.Age), Idle: seconds(c.Idle()),
		Request: oneWay{c.Original.Packets, c.Original.Bytes}, Reply: oneWay{c.Reply.Packets, c.Reply.Bytes},
		id: idOf(host, c), quiet: c.Idle(),
	}
	_, r.From = names.Port(c.In)
	_, r.To = names.Port(c.Out)
	if c.NextHop.IsValid() {
		r.NextHop = c.NextHop.String()
	}
	for _, id := range c.Rules {
		r.Rules = append(r.Rules, refOf(names.Rule(id)))
	}
	for _, id := range c.NATs {
		r.NATRules = append(r.NATRules, refOf(names.NAT(id)))
	}
	if c.Server != 0 {
		r.Server = &serverAt{Member: receiver(c.To)}
		if s := names.Server(c.Server); s != nil {
			r.Server.Name, r.Server.Path = s.Name, s.Path
		}
		if m := names.Member(c.Member); m != nil {
			r.Server.Pool = m.Pool.Path
		}
	}
	return r
}

// compareRows puts what is active first, then what carried more.
func compareRows(a, b flowRow) int {
	return cmp.Or(cmp.Compare(a.quiet, b.quiet), cmp.Compare(b.bytes(), a.bytes()),
		cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.From, b.From))
}

func (r flowRow) packets() uint64 { return r.Request.Packets + r.Reply.Packets }

func (r flowRow) bytes() uint64 { return r.Request.Bytes + r.Reply.Bytes }

// Columns implements columns.Row.
func (flowRow) Columns() []string {
	return []string{"PROTO", "SOURCE", "DESTINATION", "SEEN AS", "SERVER", "RULES", "STATE", "AGE", "IDLE", "PACKETS", "BYTES"}
}

// Row implements columns.Row.
func (r flowRow) Row() []string {
	return []string{
		r.Protocol, r.Source, r.Destination, r.seen(), r.by(), r.rules(), r.State,
		short(time.Duration(r.Age) * time.Second), short(time.Duration(r.Idle) * time.Second),
		strconv.FormatUint(r.packets(), 10), strconv.FormatUint(r.bytes(), 10),
	}
}

// by is the virtual server and member that took it, if any did.
func (r flowRow) by() string {
	if r.Server == nil {
		return ""
	}
	return cmp.Or(r.Server.Name, r.Server.Path, "(gone)") + " → " + r.Server.Member
}

// seen is what the other side sees, if that is not what was sent.
func (r flowRow) seen() string {
	if r.SourceSeen == r.Source && r.DestinationSeen == r.Destination {
		return ""
	}
	return r.SourceSeen + " → " + r.DestinationSeen
}

// rules names the rules, each once; NAT's come last.
func (r flowRow) rules() string {
	var out []string
	for _, ref := range slices.Concat(r.Rules, r.NATRules) {
		if text := ruleText(ref.Name, ref.ID); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}
