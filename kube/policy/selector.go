package policy

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
)

// Member types of conditions: labels of a pod are tags of its port, labels of a
// namespace are tags of its segments.
const (
	onPort    = "SegmentPort"
	onSegment = "Segment"
)

// term is one alternative of a group: pods that meet all conditions, or
// addresses. The zero term is nobody.
type term struct {
	conditions []*intent.Condition
	addresses  []string // addresses, CIDRs and ranges; valid iff there are no conditions
}

// condition returns a condition on tags.
func condition(member, operator, value string) *intent.Condition {
	return &intent.Condition{MemberType: member, Key: "Tag", Operator: operator, Value: value}
}

// isPod holds for ports of pods: a namespace's machines are no pods.
func isPod() *intent.Condition { return condition(onPort, "EQUALS", ncp.TagPod+"|") }

// podsOf returns the pods of one namespace that a selector selects; nil selects
// all. ok is false if the selector has no meaning.
func (d *draft) podsOf(uid, field string, pods *metav1.LabelSelector) (term, bool) {
	labels, ok := d.selector(onPort, field, pods)
	head := []*intent.Condition{condition(onPort, "EQUALS", ncp.TagProjectUID+"|"+uid), isPod()}
	return term{conditions: append(head, labels...)}, ok
}

// podsIn returns the pods that a selector selects in the namespaces that another
// one selects; nil selects all. at are the selectors' fields.
func (d *draft) podsIn(namespaces, pods *metav1.LabelSelector, at [2]string) (term, bool) {
	ofNamespace, ok1 := d.selector(onSegment, at[0], namespaces)
	ofPod, ok2 := d.selector(onPort, at[1], pods)
	out := append([]*intent.Condition{condition(onSegment, "EQUALS", ncp.TagCluster+"|"+d.at.Cluster)}, ofNamespace...)
	return term{conditions: append(append(out, isPod()), ofPod...)}, ok1 && ok2
}

// selector returns conditions that all hold for what a label selector selects.
// NotIn and DoesNotExist hold for objects without the key.
func (d *draft) selector(member, field string, s *metav1.LabelSelector) ([]*intent.Condition, bool) {
	if s == nil {
		return nil, true
	}
	var out []*intent.Condition
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		out = append(out, condition(member, "EQUALS", ncp.LabelCondition(key, s.MatchLabels[key])))
	}
	ok := true
	for i, e := range s.MatchExpressions {
		at := field + ".matchExpressions[" + strconv.Itoa(i) + "]"
		if e.Key == "" {
			d.find(at+".key", "is missing")
			ok = false
			continue
		}
		c, fact := requirement(member, e)
		if fact != "" {
			d.find(at+".operator", string(e.Operator)+": "+fact)
			ok = false
			continue
		}
		out = append(out, c)
	}
	return out, ok
}

// requirement returns one element of matchExpressions as a condition, or what is
// wrong with it.
func requirement(member string, e metav1.LabelSelectorRequirement) (*intent.Condition, string) {
	tags := make([]string, 0, len(e.Values))
	for _, v := range e.Values {
		tags = append(tags, ncp.LabelTag(v))
	}
	list := ncp.LabelScope(e.Key) + "|" + strings.Join(tags, ",")
	switch e.Operator {
	case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn:
		switch {
		case len(tags) == 0:
			return nil, "has no values (at least one)"
		case e.Operator == metav1.LabelSelectorOpNotIn:
			return condition(member, "NOTIN", list), ""
		case len(tags) == 1:
			return condition(member, "EQUALS", list), ""
		}
		return condition(member, "IN", list), ""
	case metav1.LabelSelectorOpExists:
		return condition(member, "EQUALS", ncp.LabelExists(e.Key)), ""
	case metav1.LabelSelectorOpDoesNotExist:
		c := condition(member, "EQUALS", ncp.LabelExists(e.Key))
		c.ScopeOperator = "NOTEQUALS"
		return c, ""
	}
	return nil, "is not an operator (In, NotIn, Exists, DoesNotExist)"
}

// expression joins terms by OR. With also, only pods that meet that condition
// too count, and of written addresses those that such pods have.
func expression(terms []term, also *intent.Condition) []intent.Expression {
	var out []intent.Expression
	for _, t := range terms {
		if len(t.conditions) == 0 && len(t.addresses) == 0 {
			continue
		}
		if out != nil {
			out = append(out, &intent.ConjunctionOperator{ConjunctionOperator: "OR"})
		}
		conditions := t.conditions
		if len(t.addresses) > 0 {
			out = append(out, &intent.IPAddressExpression{IPAddresses: t.addresses})
			if also == nil {
				continue
			}
			out = append(out, &intent.ConjunctionOperator{ConjunctionOperator: "AND"})
			conditions = []*intent.Condition{isPod()}
		}
		if also != nil {
			conditions = append(slices.Clip(conditions), also)
		}
		out = append(out, bracket(conditions))
	}
	return out
}

// bracket returns conditions that must all hold for one port.
func bracket(conditions []*intent.Condition) *intent.NestedExpression {
	out := &intent.NestedExpression{}
	for i, c := range conditions {
		if i > 0 {
			out.Expressions = append(out.Expressions, &intent.ConjunctionOperator{ConjunctionOperator: "AND"})
		}
		out.Expressions = append(out.Expressions, c)
	}
	return out
}
