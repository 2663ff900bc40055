package trace

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Columns returns the headings of a Step's row.
func (Step) Columns() []string { return []string{"STAGE", "COMPONENT", "PATH", "WHAT"} }

// Row returns s as a line of a table. Its path is the rule's or the virtual
// server's if there is one, else the component's.
func (s Step) Row() []string {
	path := cmp.Or(s.RulePath, s.Path)
	if s.Balance != nil {
		path = s.Balance.Server.Path
	}
	return []string{s.Stage, s.Component, path, s.Text}
}

// Heading says in one line which packet r is about.
func (r *Result) Heading() string {
	return r.From.Component + ": " + r.text(r.Source, r.SourcePort) + " → " + r.text(r.Destination, r.DestinationPort) + " " + r.Protocol
}

// Summary returns the lines that come behind the steps: the hops, what the
// destination sees (its own address only if it is not the one that was asked),
// the way of the reply, and at last the disposition, which begins a line of its
// own, and advice if something was dropped.
func (r *Result) Summary() []string {
	lines := []string{"hops: " + r.hopsText()}
	if r.Disposition == Delivered {
		lines = append(lines, "source seen by the destination: "+r.text(r.SourceSeen, r.SourcePortSeen))
		if r.DestinationSeen != r.Destination || r.DestinationPortSeen != r.DestinationPort {
			lines = append(lines, "destination as it arrives: "+r.text(r.DestinationSeen, r.DestinationPortSeen))
		}
	}
	if r.Reply != nil {
		lines = append(lines, "reply: "+r.Reply.brief())
	}
	if r.Warning != "" {
		lines = append(lines, "warning: "+r.Warning)
	}
	return append(lines, r.verdict()...)
}

// verdict is the disposition and the advice.
func (r *Result) verdict() []string {
	if d := r.Dropped; d != nil {
		return []string{string(r.Disposition) + " " + d.text(), "advice: " + d.Advice}
	}
	to := string(Delivered) + " to " + r.To.Component
	if r.Reply != nil && r.Reply.Dropped != nil {
		return []string{to + ", but its reply is " + string(r.Reply.Disposition), "advice: " + r.Reply.Dropped.Advice}
	}
	return []string{to}
}

func (r *Result) hopsText() string {
	if len(r.Hops) == 0 {
		return "none"
	}
	var all []string
	for _, h := range r.Hops {
		text := "*"
		if h.Address.IsValid() {
			text = h.Address.String() + " (" + h.Component + ")"
		}
		if h.Annotation != "" {
			text += " " + h.Annotation
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// brief says in one line which way l took and how it ended.
func (l *Leg) brief() string {
	var way []string
	for _, s := range l.Steps {
		if s.Path != "" && !strings.HasPrefix(s.Component, "segment ") {
			way = append(way, s.Component)
		}
	}
	text := string(l.Disposition)
	if way = slices.Compact(way); len(way) > 0 {
		text += " by " + strings.Join(way, ", ")
	}
	if l.Dropped != nil {
		return text + ": " + l.Dropped.text()
	}
	return text + "; comes from " + l.text(l.SourceSeen, l.SourcePortSeen)
}

// text says where and why a packet was dropped and what the sender is told.
func (d *Drop) text() string {
	text := "at " + d.Component + ", " + d.Stage + ": " + d.Reason
	if d.RuleID != 0 {
		text += ", " + ruleName(d.RuleID, d.RuleName)
	}
	if d.Balance != nil {
		text += ", " + d.Balance.Server.Component
	}
	if d.Answer != "" {
		text += "; answered by " + d.Answer
	}
	return text
}

// text words one end of l: of protocols without ports the address alone.
func (l *Leg) text(a netip.Addr, port uint16) string {
	if l.Protocol == "icmp" || port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}
