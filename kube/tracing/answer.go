package tracing

import (
	"slices"
	"strings"

	"github.com/weft-net/weft/internal/columns"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/trace"
)

// Status returns what a Trace says of a result. Its text is what `weft trace`
// prints.
func Status(res *trace.Result) v1alpha1.TraceStatus {
	s := v1alpha1.TraceStatus{
		Phase:       v1alpha1.TraceDone,
		Delivered:   res.Arrives(),
		Disposition: string(res.Disposition),
	}
	if res.SourceSeen.IsValid() {
		s.SourceSeen = res.SourceSeen.String()
	}
	s.At = res.To.Component
	if n := len(res.Steps); n > 0 {
		s.Stage = res.Steps[n-1].Stage
	}
	s.Rules = rulesOf(&res.Leg)
	stopped := &res.Leg
	if res.Dropped == nil && res.Reply != nil {
		stopped = &res.Reply.Leg
	}
	if drop := stopped.Dropped; drop != nil {
		s.Reason, s.Advice, s.At, s.Stage = drop.Reason, drop.Advice, drop.Component, drop.Stage
		s.Rule = dropping(stopped)
	}
	for _, h := range res.Hops {
		hop := v1alpha1.TraceHop{Component: h.Component, Path: h.Path, Annotation: h.Annotation}
		if h.Address.IsValid() {
			hop.Address = h.Address.String()
		}
		s.Hops = append(s.Hops, hop)
	}
	s.Text = text(res)
	return s
}

// firewall reports whether a stage of the pipeline asks firewall rules.
func firewall(stage string) bool {
	return slices.ContainsFunc([]pipeline.Stage{
		pipeline.StageDFWOut, pipeline.StageDFWIn, pipeline.StageGatewayIn, pipeline.StageGatewayOut,
	}, func(s pipeline.Stage) bool { return s.String() == stage })
}

// rulesOf returns the firewall rules of a way, and the rule that ended it.
func rulesOf(l *trace.Leg) []v1alpha1.TraceRule {
	var out []v1alpha1.TraceRule
	steps := l.Steps
	if l.Dropped != nil {
		steps = steps[:len(steps)-1] // whatever drops has a step
	}
	for _, s := range steps {
		if s.RuleID != 0 && firewall(s.Stage) {
			out = append(out, v1alpha1.TraceRule{
				Stage: s.Stage, At: s.Component, ID: int64(s.RuleID), Name: s.RuleName, Policy: s.PolicyPath, Category: s.Category, Action: v1alpha1.TraceAllow,
			})
		}
	}
	if r := dropping(l); r != nil {
		out = append(out, *r)
	}
	return out
}

// dropping returns the rule that ended a way; nil: none did.
func dropping(l *trace.Leg) *v1alpha1.TraceRule {
	d := l.Dropped
	if d == nil || d.RuleID == 0 {
		return nil
	}
	action := v1alpha1.TraceDrop
	if l.Disposition == trace.Rejected {
		action = v1alpha1.TraceReject
	}
	return &v1alpha1.TraceRule{
		Stage: d.Stage, At: d.Component, ID: int64(d.RuleID), Name: d.RuleName, Policy: d.PolicyPath, Category: d.Category, Action: action,
	}
}

func text(res *trace.Result) string {
	var b strings.Builder
	b.WriteString(res.Heading() + "\n\n")
	_ = columns.Print(&b, res.Steps) // a Builder takes everything
	b.WriteString("\n" + strings.Join(res.Summary(), "\n") + "\n")
	return b.String()
}
