package explain

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/kube/ncp"
)

// End is one end of a connection, as the cluster knows it.
type End struct {
	Ref
	Pod     *corev1.Pod     // the pod itself, or the one that stands for a workload; nil: none does
	Service *corev1.Service // nil unless Kind is Service
	Labels  map[string]string
}

// Resolve finds in the cluster what r names. Of a workload the ready pod with
// the first name stands for all. Labels become those that select the end's pods.
func Resolve(ctx context.Context, c client.Reader, r Ref) (*End, error) {
	e := &End{Ref: r}
	switch r.Kind {
	case Address:
		return e, nil
	case Pod:
		e.Pod = &corev1.Pod{}
		if err := get(ctx, c, r, e.Pod); err != nil {
			return nil, err
		}
		e.Labels = lasting(e.Pod.Labels)
		return e, onNetwork(r, e.Pod)
	case Service:
		e.Service = &corev1.Service{}
		if err := get(ctx, c, r, e.Service); err != nil {
			return nil, err
		}
		e.Labels = e.Service.Spec.Selector
		if _, err := netip.ParseAddr(e.Service.Spec.ClusterIP); err != nil {
			return nil, fmt.Errorf("%s: has no ClusterIP (want a pod or an address)", r)
		}
		return e, nil
	}
	selector, err := selectorOf(ctx, c, r)
	if err != nil {
		return nil, err
	}
	if e.Pod, err = readyPod(ctx, c, r, selector); err != nil {
		return nil, err
	}
	e.Labels = selector.MatchLabels
	if len(selector.MatchExpressions) > 0 || len(e.Labels) == 0 {
		e.Labels = lasting(e.Pod.Labels)
	}
	return e, nil
}

func get(ctx context.Context, c client.Reader, r Ref, o client.Object) error {
	err := c.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: r.Name}, o)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%s: does not exist", r)
	} else if err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	return nil
}

// onNetwork refuses pods that have no port.
func onNetwork(r Ref, pod *corev1.Pod) error {
	switch {
	case pod.Spec.HostNetwork:
		return fmt.Errorf("%s: has the network of its node (want a pod with an address of its own)", r)
	case !ncp.WantsAddress(pod):
		return fmt.Errorf("%s: is finished (%s)", r, pod.Status.Phase)
	}
	return nil
}

// selectorOf returns whom a workload means.
func selectorOf(ctx context.Context, c client.Reader, r Ref) (*metav1.LabelSelector, error) {
	var o client.Object
	var selector func() *metav1.LabelSelector
	switch r.Kind {
	case Deployment:
		d := &appsv1.Deployment{}
		o, selector = d, func() *metav1.LabelSelector { return d.Spec.Selector }
	case StatefulSet:
		s := &appsv1.StatefulSet{}
		o, selector = s, func() *metav1.LabelSelector { return s.Spec.Selector }
	case DaemonSet:
		d := &appsv1.DaemonSet{}
		o, selector = d, func() *metav1.LabelSelector { return d.Spec.Selector }
	case ReplicaSet:
		s := &appsv1.ReplicaSet{}
		o, selector = s, func() *metav1.LabelSelector { return s.Spec.Selector }
	default:
		return nil, fmt.Errorf("%s: has no pods", r)
	}
	if err := get(ctx, c, r, o); err != nil {
		return nil, err
	}
	return cmp.Or(selector(), &metav1.LabelSelector{}), nil
}

// readyPod returns the first by name of the ready pods that a selector selects.
func readyPod(ctx context.Context, c client.Reader, r Ref, selector *metav1.LabelSelector) (*corev1.Pod, error) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, fmt.Errorf("%s: spec.selector: %w", r, err)
	}
	var list corev1.PodList
	if err := c.List(ctx, &list, client.InNamespace(r.Namespace), client.MatchingLabelsSelector{Selector: s}); err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	var others []string
	for i := range list.Items {
		pod := &list.Items[i]
		if !isReady(pod) {
			others = append(others, pod.Name+" is "+string(cmp.Or(pod.Status.Phase, corev1.PodPending)))
			continue
		}
		return pod, onNetwork(r, pod)
	}
	if len(others) == 0 {
		return nil, fmt.Errorf("%s: has no pods", r)
	}
	return nil, fmt.Errorf("%s: has no ready pod (%s; or name one)", r, strings.Join(others, ", "))
}

func isReady(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// lasting returns labels without those that tell apart the pods of one workload
// or its revisions.
func lasting(set map[string]string) map[string]string {
	out := maps.Clone(set)
	for _, key := range []string{
		appsv1.DefaultDeploymentUniqueLabelKey, appsv1.ControllerRevisionHashLabelKey, appsv1.StatefulSetPodNameLabel, appsv1.PodIndexLabel,
		"pod-template-generation", "controller-uid", "batch.kubernetes.io/controller-uid",
	} {
		delete(out, key)
	}
	return out
}

// DefaultProtocol returns what a connection to the end is if nobody says it: of
// a Service its first port, of a pod the first port of its containers, else an
// ICMP echo.
func (e *End) DefaultProtocol() Protocol {
	known := func(proto corev1.Protocol) (string, bool) {
		name := cmp.Or(proto, corev1.ProtocolTCP)
		return string(name), name == corev1.ProtocolTCP || name == corev1.ProtocolUDP
	}
	if e.Service != nil {
		for _, p := range e.Service.Spec.Ports {
			if name, ok := known(p.Protocol); ok {
				return Protocol{name, p.Port}
			}
		}
	}
	if e.Pod != nil {
		for _, c := range e.Pod.Spec.Containers {
			for _, p := range c.Ports {
				if name, ok := known(p.Protocol); ok {
					return Protocol{name, p.ContainerPort}
				}
			}
		}
	}
	return Protocol{Name: "ICMP"}
}

// podPort returns the port of the end's pods that a connection comes to.
func (e *End) podPort(p Protocol) intstr.IntOrString {
	if e.Service != nil {
		for _, sp := range e.Service.Spec.Ports {
			if sp.Port == p.Port && string(cmp.Or(sp.Protocol, corev1.ProtocolTCP)) == p.Name && sp.TargetPort != (intstr.IntOrString{}) {
				return sp.TargetPort
			}
		}
	}
	return intstr.FromInt32(p.Port)
}

// String names the end, and the pod that stands for a workload.
func (e *End) String() string {
	if e.Pod != nil && e.Kind != Pod {
		return Word(Pod) + " " + e.Pod.Namespace + "/" + e.Pod.Name
	}
	return e.Ref.String()
}
