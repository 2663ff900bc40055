package explain

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/writer"
)

// Origin is the Kubernetes object that made a policy.
type Origin struct {
	Kind      string `json:"kind"` // of package writer; empty: no object, see Default
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"` // empty: it was not found
	UID       string `json:"uid,omitempty"`
	Default   bool   `json:"default,omitempty"` // what Weft does where nobody says anything; else Kind is empty for people
}

// OriginOf reads from a policy path which kind of object made the policy, and
// its UID.
func OriginOf(policy string) Origin {
	if policy == intent.DefaultPolicyPath {
		return Origin{Default: true}
	}
	prefix, uid := ncp.PolicyOf(intent.IDOf(policy))
	o := Origin{UID: uid}
	switch prefix {
	case ncp.PrefixUplinkGuard:
		o.Kind = writer.Supervisor
	case ncp.PrefixIsolation:
		o.Kind = writer.Namespace
	case ncp.PrefixNetworkPolicy:
		o.Kind = writer.NetworkPolicy
	case ncp.PrefixClusterPolicy:
		o.Kind = writer.ClusterNetworkPolicy
	case ncp.PrefixAdminPolicy:
		o.Kind = writer.AdminNetworkPolicy
	case ncp.PrefixBaselinePolicy:
		o.Kind = writer.BaselineAdminPolicy
	}
	return o
}

// FindOrigin is OriginOf with the object's name, which it looks for in the
// cluster: of a namespaced one first in namespaces. An object that is gone, or
// that the user may not see, keeps its UID alone.
func FindOrigin(ctx context.Context, c client.Client, policy string, namespaces ...string) (Origin, error) {
	o := OriginOf(policy)
	if o.UID == "" {
		return o, nil
	}
	gvk, ok := o.gvk(c.RESTMapper())
	if !ok {
		return o, nil
	}
	where := []string{metav1.NamespaceAll}
	if o.Kind == writer.NetworkPolicy {
		where = append(slices.Clone(namespaces), where...)
	}
	for _, ns := range where {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
		err := c.List(ctx, list, client.InNamespace(ns))
		if apierrors.IsForbidden(err) {
			continue
		} else if err != nil {
			return o, fmt.Errorf("%s: %w", o.Kind, err)
		}
		for _, one := range list.Items {
			if string(one.UID) == o.UID {
				o.Namespace, o.Name = one.Namespace, one.Name
				return o, nil
			}
		}
	}
	return o, nil
}

// gvk returns the kind of the object; false: the cluster does not know it.
func (o Origin) gvk(m meta.RESTMapper) (schema.GroupVersionKind, bool) {
	switch o.Kind {
	case writer.Namespace:
		return corev1.SchemeGroupVersion.WithKind(o.Kind), true
	case writer.NetworkPolicy:
		return netv1.SchemeGroupVersion.WithKind(o.Kind), true
	}
	// Of what is installed separately clusters have one version or another.
	mapping, err := m.RESTMapping(schema.GroupKind{Group: "policy.networking.k8s.io", Kind: o.Kind})
	if err != nil {
		return schema.GroupVersionKind{}, false
	}
	return mapping.GroupVersionKind, true
}

// String says who made the policy.
func (o Origin) String() string {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	if name == "" {
		name = "with UID " + o.UID + ", which is gone or not to be seen"
	}
	switch {
	case o.Default:
		return "nobody: the default rule"
	case o.Kind == "":
		return "people, by weft apply"
	case o.Kind == writer.Supervisor:
		return "the Supervisor, which keeps inside addresses inside"
	case o.Kind == writer.Namespace:
		return "isolation of Namespace " + name
	}
	return o.Kind + " " + name
}
