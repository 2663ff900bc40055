package tenant

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/weft-net/weft/intent"
	"github.com/weft-net/weft/kube/ncp"
	"github.com/weft-net/weft/kube/v1alpha1"
	"github.com/weft-net/weft/kube/writer"
	"github.com/weft-net/weft/store"
)

// ReasonAnotherCluster is the reason of a Supervisor's condition if the store
// has the objects of another cluster.
const ReasonAnotherCluster = "AnotherCluster"

// ClusterUID returns what tells a cluster from all others, also from itself
// before it was set up anew: the UID of its namespace kube-system.
func ClusterUID(ctx context.Context, c client.Reader) (string, error) {
	var ns corev1.Namespace
	if err := c.Get(ctx, types.NamespacedName{Name: metav1.NamespaceSystem}, &ns); err != nil {
		return "", fmt.Errorf("namespace %s: %w", metav1.NamespaceSystem, err)
	}
	return string(ns.UID), nil
}

// clusterOf returns the UID of the cluster that a store's objects are of: a tag
// of the Supervisor's domain says it. Empty: none had a Supervisor yet.
func clusterOf(s *store.Store) string {
	for _, o := range s.Owned(writer.SupervisorOwner(v1alpha1.DefaultSupervisor)) {
		if d, ok := o.(*intent.Domain); ok {
			return ncp.TagValue(d.Tags, ncp.TagKubernetes)
		}
	}
	return ""
}

// foreign returns why the cluster with that UID may not change a store; nil: it
// may.
func foreign(s *store.Store, uid string) *writer.Fault {
	of := clusterOf(s)
	if of == "" || of == uid {
		return nil
	}
	return &writer.Fault{Reason: ReasonAnotherCluster, Msg: fmt.Sprintf(
		"cluster %s: the stored objects are of cluster %s, nothing is written or deleted (the kubeconfig of that cluster, or an empty --data for this one; a cluster's UID is that of its namespace kube-system)", uid, of)}
}

// CheckCluster returns an error if a store's objects are of another cluster than
// c's, or if it cannot be told. A store that is of no cluster yet is anyone's;
// then the cluster is not asked.
func CheckCluster(ctx context.Context, c client.Reader, s *store.Store) error {
	if clusterOf(s) == "" {
		return nil
	}
	uid, err := ClusterUID(ctx, c)
	if err != nil {
		return err
	}
	if f := foreign(s, uid); f != nil {
		return f
	}
	return nil
}

// Guard is CheckCluster before any controller runs, as all of them take what
// their cluster does not have for gone. A Supervisor of another cluster learns
// it by its condition.
func Guard(ctx context.Context, c client.Client, deps writer.Deps) error {
	err := CheckCluster(ctx, c, deps.Store)
	var f *writer.Fault
	if !errors.As(err, &f) {
		return err
	}
	var sup v1alpha1.Supervisor
	if getErr := c.Get(ctx, types.NamespacedName{Name: v1alpha1.DefaultSupervisor}, &sup); getErr != nil {
		return err // no Supervisor, or no such type yet
	}
	before := sup.DeepCopy()
	apimeta.SetStatusCondition(&sup.Status.Conditions, writer.New(deps, nil).Blocked(f).Condition("Ready", sup.Generation))
	if patchErr := c.Status().Patch(ctx, &sup, client.MergeFrom(before)); patchErr != nil {
		return fmt.Errorf("%w; its Supervisor cannot be told: %w", err, patchErr)
	}
	return err
}
