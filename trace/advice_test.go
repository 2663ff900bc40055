package trace

import (
	"net/netip"
	"testing"

	"github.com/weft-net/weft/internal/testset"
	"github.com/weft-net/weft/pipeline"
	"github.com/weft-net/weft/table"
)

// TestRuleAdviceNamesTheCategoriesBefore checks the order Ethernet, Emergency,
// Infrastructure, Environment, Application.
func TestRuleAdviceNamesTheCategoriesBefore(t *testing.T) {
	const policy = "/infra/domains/default/security-policies/p"
	for _, tc := range []struct {
		rule table.Rule
		want string
	}{
		{
			table.Rule{ID: 1005, Name: "deny-all-ingress", Policy: policy, Category: "Application", Action: table.Drop},
			"rule 1005 deny-all-ingress of policy " + policy + " (category Application) drops it; an ALLOW above it or in an earlier category would let it pass",
		},
		{
			table.Rule{ID: 7, Policy: policy, Category: "Environment", Action: table.Reject},
			"rule 7 of policy " + policy + " (category Environment) rejects it; an ALLOW above it or in category Emergency or Infrastructure would let it pass",
		},
		{
			table.Rule{ID: 7, Category: "Infrastructure", Action: table.Drop},
			"rule 7 (category Infrastructure) drops it; an ALLOW above it or in category Emergency would let it pass",
		},
		{table.Rule{ID: 7, Category: "SharedPreRules", Action: table.Drop}, "rule 7 (category SharedPreRules) drops it; an ALLOW above it or in category Emergency would let it pass"},
		{table.Rule{ID: 7, Category: "Default", Action: table.Drop}, "rule 7 (category Default) drops it; an ALLOW above it or in an earlier category would let it pass"},
		{table.Rule{ID: 7, Category: "Emergency", Action: table.Drop}, "rule 7 (category Emergency) drops it; an ALLOW above it would let it pass"},
		{table.Rule{ID: 7, Category: "Ethernet", Action: table.Drop}, "rule 7 (category Ethernet) drops it; an ALLOW above it would let it pass"},
	} {
		if got := ruleAdvice(&tc.rule); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

// TestReasonsWithoutADetailHaveTheirDefault asks for advice on steps that say
// nothing more than their reason.
func TestReasonsWithoutADetailHaveTheirDefault(t *testing.T) {
	w := wording{tracer: &tracer{names: names{testset.New()}}, from: testset.Web1}
	for _, why := range []pipeline.Reason{
		pipeline.ReasonMartian, pipeline.ReasonTCPState, pipeline.ReasonSNATExhausted, pipeline.ReasonTupleInUse,
		pipeline.ReasonFlowTableFull, pipeline.ReasonRouterLoop, pipeline.ReasonDFWRule, pipeline.ReasonNATDepth,
		pipeline.ReasonGatewayRule, pipeline.ReasonTooBig,
	} {
		if got, want := w.advice(pipeline.Step{Stage: pipeline.StageConnect, Reason: why}), why.Info().Advice; got != want || want == "" {
			t.Errorf("%s: got %q, want %q", why, got, want)
		}
	}
	row := &table.NATRule{ID: 2004, Name: "egress"}
	got := w.advice(pipeline.Step{Stage: pipeline.StageConnect, Reason: pipeline.ReasonSNATExhausted, NAT: row})
	if want := "rule 2004 egress: give the SNAT rule a larger translated_network"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = w.advice(pipeline.Step{Stage: pipeline.StageFlow, Reason: pipeline.ReasonNoRoute, Dst: netip.MustParseAddr("192.0.2.77")})
	if want := "the reply to 192.0.2.77 leads elsewhere than the connection came from: compare the routes of both ways"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
