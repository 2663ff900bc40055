package ingress

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
)

// Served returns those of all that are for a class, in the order in which they
// win. An annotation decides before spec.ingressClassName; an Ingress that
// names no class is for the default IngressClass, the youngest if there are
// several. A name is also that of an IngressClass: then its controller
// decides.
// Source: admission plugin DefaultIngressClass of Kubernetes, which chooses as
// well.
func Served(class string, classes []*networkingv1.IngressClass, all []*networkingv1.Ingress) []*networkingv1.Ingress {
	ours := map[string]bool{class: true}
	var chosen *networkingv1.IngressClass
	for _, c := range classes {
		ours[c.Name] = c.Spec.Controller == Controller
		if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" && (chosen == nil || younger(c, chosen)) {
			chosen = c
		}
	}
	var out []*networkingv1.Ingress
	for _, in := range all {
		annotation, annotated := in.Annotations[classAnnotation]
		var served bool
		switch {
		case annotated:
			served = annotation == class
		case in.Spec.IngressClassName != nil:
			served = ours[*in.Spec.IngressClassName]
		default:
			served = chosen != nil && ours[chosen.Name]
		}
		if served {
			out = append(out, in)
		}
	}
	slices.SortFunc(out, older)
	return out
}

// younger reports whether c comes before d as the default.
func younger(c, d *networkingv1.IngressClass) bool {
	if !c.CreationTimestamp.Equal(&d.CreationTimestamp) {
		return d.CreationTimestamp.Before(&c.CreationTimestamp)
	}
	return c.Name < d.Name
}

// older orders Ingresses by age, then by namespace and name.
func older(x, y *networkingv1.Ingress) int {
	if c := x.CreationTimestamp.Time.Compare(y.CreationTimestamp.Time); c != 0 {
		return c
	}
	return compareNames(name(x), name(y))
}
