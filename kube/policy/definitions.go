package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	policyv1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	policyv1beta1 "sigs.k8s.io/network-policy-api/apis/v1beta1"

	"github.com/weft-net/weft/kube/writer"
)

// group is the API group of cluster policies.
const group = "policy.networking.k8s.io"

// Add makes the controllers of NetworkPolicies and of cluster policies part of a
// manager. Its scheme must know the types of Kubernetes and of package
// v1alpha1; those of cluster policies are made known to it here.
func Add(mgr manager.Manager, deps writer.Deps) error {
	for _, add := range []func(*runtime.Scheme) error{policyv1alpha1.Install, policyv1alpha2.Install, policyv1beta1.Install} {
		if err := add(mgr.GetScheme()); err != nil {
			return fmt.Errorf("policy: scheme: %w", err)
		}
	}
	if err := addNetworks(mgr, deps); err != nil {
		return err
	}
	return addDefinitions(mgr, deps)
}

// api is one version of one kind of cluster policies.
type api struct {
	owner      string // kind of owners
	controller string
	crd        string // name of the definition
	gvk        schema.GroupVersionKind
	object     func() client.Object
	list       func() client.ObjectList
	read       func(client.Object) (*Cluster, []metav1.Condition, error)
}

// apis returns what cluster policies are written in. Of versions of one kind the
// first that is served is used.
func apis() []api {
	of := func(kind, version string) api {
		lower := strings.ToLower(kind)
		plural := strings.TrimSuffix(lower, "y") + "ies." + group
		return api{owner: kind, controller: lower, crd: plural, gvk: schema.GroupVersionKind{Group: group, Version: version, Kind: kind}}
	}
	beta := of(writer.ClusterNetworkPolicy, "v1beta1")
	beta.object = func() client.Object { return &policyv1beta1.ClusterNetworkPolicy{} }
	beta.list = func() client.ObjectList { return &policyv1beta1.ClusterNetworkPolicyList{} }
	beta.read = func(o client.Object) (*Cluster, []metav1.Condition, error) {
		p := o.(*policyv1beta1.ClusterNetworkPolicy)
		return OfClusterNetworkPolicy(p), p.Status.Conditions, nil
	}
	alpha := of(writer.ClusterNetworkPolicy, "v1alpha2")
	alpha.object = func() client.Object { return &policyv1alpha2.ClusterNetworkPolicy{} }
	alpha.list = func() client.ObjectList { return &policyv1alpha2.ClusterNetworkPolicyList{} }
	alpha.read = func(o client.Object) (*Cluster, []metav1.Condition, error) {
		p := o.(*policyv1alpha2.ClusterNetworkPolicy)
		c, err := OfAlphaClusterNetworkPolicy(p)
		return c, p.Status.Conditions, err
	}
	admin := of(writer.AdminNetworkPolicy, "v1alpha1")
	admin.object = func() client.Object { return &policyv1alpha1.AdminNetworkPolicy{} }
	admin.list = func() client.ObjectList { return &policyv1alpha1.AdminNetworkPolicyList{} }
	admin.read = func(o client.Object) (*Cluster, []metav1.Condition, error) {
		p := o.(*policyv1alpha1.AdminNetworkPolicy)
		return OfAdminNetworkPolicy(p), p.Status.Conditions, nil
	}
	baseline := of(writer.BaselineAdminPolicy, "v1alpha1")
	baseline.object = func() client.Object { return &policyv1alpha1.BaselineAdminNetworkPolicy{} }
	baseline.list = func() client.ObjectList { return &policyv1alpha1.BaselineAdminNetworkPolicyList{} }
	baseline.read = func(o client.Object) (*Cluster, []metav1.Condition, error) {
		p := o.(*policyv1alpha1.BaselineAdminNetworkPolicy)
		return OfBaselineAdminNetworkPolicy(p), p.Status.Conditions, nil
	}
	return []api{beta, alpha, admin, baseline}
}

// definitions starts the controller of a kind of cluster policies when its
// definition comes to the cluster. Policies go before their definition does.
type definitions struct {
	client.Client
	mgr     manager.Manager
	deps    writer.Deps
	started map[string]bool // by owner; used by the one worker
}

func addDefinitions(mgr manager.Manager, deps writer.Deps) error {
	r := &definitions{Client: mgr.GetClient(), mgr: mgr, deps: deps, started: map[string]bool{}}
	ours := predicate.NewPredicateFuncs(func(o client.Object) bool { return strings.HasSuffix(o.GetName(), "."+group) })
	err := ctrl.NewControllerManagedBy(mgr).Named("policydefinition").
		For(definition(), builder.OnlyMetadata, builder.WithPredicates(ours)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("policy definition controller: %w", err)
	}
	return nil
}

// definition returns a definition of which only the metadata is looked at.
func definition() *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{}
	out.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	return out
}

// soon is when a definition is looked at again of which no version is served yet.
const soon = time.Second

// Reconcile starts the controller of a kind, once.
func (r *definitions) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	versions := slices.DeleteFunc(apis(), func(a api) bool { return a.crd != req.Name })
	if len(versions) == 0 || r.started[versions[0].owner] {
		return ctrl.Result{}, nil
	}
	if err := r.Get(ctx, req.NamespacedName, definition()); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	for _, a := range versions {
		_, err := r.mgr.GetRESTMapper().RESTMapping(a.gvk.GroupKind(), a.gvk.Version)
		switch {
		case apimeta.IsNoMatchError(err):
			continue
		case err == nil:
			err = addClusters(r.mgr, r.deps, a)
		}
		r.started[a.owner] = err == nil
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: soon}, nil
}
